package cli

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/slipway/slipway/internal/client"
	"github.com/slipway/slipway/internal/resource"
)

func (a *app) tenant() *cobra.Command {
	group := a.nounCommands(noun{
		kind: resource.KindTenant, use: "tenant", words: "tenant", gone: "a tenant must have no devices",
		header: []string{"NAME", "DISPLAY NAME", "DEVICES", "AT MOST", "MESSAGES/S", "REGIONS", "STAMPS"},
		row: func(_ *app, s client.Stored) ([]string, error) {
			spec, status, err := parts[resource.TenantSpec, resource.TenantStatus](s)
			return []string{
				s.Metadata.Name, spec.DisplayName, strconv.Itoa(status.Devices), limit(float64(spec.Devices)), limit(spec.MessagesPerSecond),
				strings.Join(spec.Regions, ","), strings.Join(spec.Stamps, ","),
			}, err
		},
	})
	group.AddCommand(a.tenantMove())
	return group
}

// limit shows a limit; 0 is none.
func limit(n float64) string {
	if n == 0 {
		return ""
	}
	return strconv.FormatFloat(n, 'f', -1, 64)
}

func (a *app) tenantMove() *cobra.Command {
	o := moveOrder{}
	cmd := a.read(&cobra.Command{
		Use: "move NAME --to-stamp STAMP", Short: "Move a tenant's devices to another stamp, as one move",
		Long: "Move a tenant's devices to another stamp. To keep them there, let the tenant or the\n" +
			"stamp name the other first (spec.stamps, spec.tenants).",
		Example:           "  slipway tenant move acme --to-stamp acme-1 --per-second 20 --wait\n  slipway tenant move acme --from-stamp prod-1 --to-stamp acme-1",
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: a.completeNames(resource.KindTenant),
		RunE: a.call(func(ctx context.Context, c *client.Client, args []string) error {
			if o.Stamp == "" {
				return usage("say where to with --to-stamp STAMP")
			}
			if _, err := c.Resource(ctx, resource.KindTenant, args[0], false); err != nil {
				return err
			}
			o.Where = fmt.Sprintf("tenant = '%s'", args[0])
			if o.Reason == "" {
				o.Reason = "tenant " + args[0] + " is moved"
			}
			if o.wait {
				return a.moveDevices(ctx, c, o)
			}
			m, err := c.StartMove(ctx, o.key, o.MoveRequest)
			if err != nil {
				return err
			}
			return a.showMove(m)
		}),
	})
	flags := cmd.Flags()
	flags.StringVar(&o.Stamp, "to-stamp", "", "the stamp they go to, as long as that takes them (required)")
	flags.StringVar(&o.From, "from-stamp", "", "only those of this stamp")
	flags.Float64Var(&o.PerSecond, "per-second", 0, "begin with at most so many devices each second")
	flags.StringVar(&o.Reason, "reason", "", "why, for the devices' history and the audit log")
	flags.BoolVar(&o.wait, "wait", false, "wait until every device that was connected has arrived")
	flags.DurationVar(&o.timeout, "timeout", time.Hour, "how long to watch, with --wait")
	return cmd
}
