package cli

import (
	"context"
	"encoding/json"
	"time"

	"github.com/spf13/cobra"

	"github.com/slipway/slipway/internal/client"
	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/resource"
)

func (a *app) stampDrain() *cobra.Command {
	o := moveOrder{}
	cmd := a.read(&cobra.Command{
		Use: "drain NAME", Short: "Let a stamp take no new devices, and move those it has elsewhere",
		Long: "Let a stamp take no new devices, and move those it has to the other stamps of its\n" +
			"environment, at a pace and only as far as those have room. Devices that are not\n" +
			"moved yet keep working. The move goes on whatever becomes of this command; when it\n" +
			"is complete the stamp can be closed, deleted or taken for something else.",
		Example:           "  slipway stamp drain prod-1 --per-second 5\n  slipway stamp drain prod-1 --to-stamp prod-3 --wait",
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: a.completeNames(resource.KindStamp),
		RunE: a.call(func(ctx context.Context, c *client.Client, args []string) error {
			if err := setState(ctx, c, args[0], link.StampDraining); err != nil {
				return err
			}
			o.From = args[0]
			if o.Reason == "" {
				o.Reason = "stamp " + args[0] + " is drained"
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
	flags.Float64Var(&o.PerSecond, "per-second", 0, "begin with at most so many devices each second")
	flags.StringVar(&o.Stamp, "to-stamp", "", "the stamp they go to, as long as that takes them")
	flags.StringVar(&o.To, "to", "", "another environment they go to")
	flags.StringVar(&o.Reason, "reason", "", "why, for the devices' history and the audit log")
	flags.BoolVar(&o.wait, "wait", false, "wait until every device that was connected has arrived")
	flags.DurationVar(&o.timeout, "timeout", time.Hour, "how long to watch, with --wait")
	return cmd
}

// setState declares a stamp's state, leaving the rest as it is.
func setState(ctx context.Context, c *client.Client, name string, state link.StampState) error {
	stored, err := c.Resource(ctx, resource.KindStamp, name, false)
	if err != nil {
		return err
	}
	spec, err := resource.SpecOf[resource.StampSpec](stored.Resource)
	if err != nil || spec.State == state {
		return err
	}
	spec.State = state
	if stored.Spec, err = json.Marshal(spec); err != nil {
		return err
	}
	_, err = c.Put(ctx, stored.Resource, stored.Metadata.ETag, false)
	return err
}
