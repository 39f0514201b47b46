package cli

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/slipway/slipway/internal/client"
)

func (a *app) deviceExplain() *cobra.Command {
	return a.read(&cobra.Command{
		Use: "explain ID", Short: "Say why a device is where it is, and what speaks for or against each stamp", Args: cobra.ExactArgs(1),
		Example: "  slipway device explain sensor-0017",
		ValidArgsFunction: func(cmd *cobra.Command, _ []string, typed string) ([]string, cobra.ShellCompDirective) {
			return a.offer(cmd.Context(), deviceIDs, typed)
		},
		RunE: a.call(func(ctx context.Context, c *client.Client, args []string) error {
			p, err := c.Placement(ctx, args[0])
			if err != nil {
				return err
			}
			if a.asJSON {
				return a.json(p)
			}
			where := "on no stamp (" + string(p.Phase) + ")"
			if p.Stamp != "" {
				where = "on " + p.Stamp
			}
			if err := a.print("%s is %s, in environment %s by %s\ntenant %s, allocation %s by enrolment %s\n", p.DeviceID, where, p.Environment, p.EnvironmentFrom, p.Tenant, p.Policy, p.Enrollment); err != nil {
				return err
			}
			if p.Waits != "" {
				a.note("waiting: %s\n", clean(p.Waits))
			}
			rows := make([][]string, len(p.Stamps))
			for i, s := range p.Stamps {
				rows[i] = []string{s.Stamp, s.Region, string(s.State), fmt.Sprintf("%d of %d", s.Taken, s.Capacity), s.Verdict, s.Reason}
			}
			return a.table([]string{"STAMP", "REGION", "STATE", "PLACES", "VERDICT", "WHY NOT"}, rows)
		}),
	})
}
