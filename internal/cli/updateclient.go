package cli

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/slipway/slipway/internal/client"
	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/resource"
)

// deviceUpdateToken shows what an update client of hawkBit's protocol needs.
func (a *app) deviceUpdateToken() *cobra.Command {
	return a.read(&cobra.Command{
		Use: "update-token ID", Short: "Show what SWUpdate or another hawkBit client of a device is set up with; the audit log records it", Args: cobra.ExactArgs(1),
		Example:           "  slipway device update-token pump-1 --json | jq -r .token",
		ValidArgsFunction: a.completeDevices,
		RunE: a.call(func(ctx context.Context, c *client.Client, args []string) error {
			set, err := c.UpdateClient(ctx, args[0])
			if err != nil {
				return err
			}
			if a.asJSON {
				return a.json(set)
			}
			return a.table([]string{"DEVICE", "STAMP", "HOST", "TENANT", "TARGET TOKEN"}, [][]string{{set.DeviceID, set.Stamp, set.Host, set.Tenant, set.Token}})
		}),
	})
}

// stampUpdateGateway switches the token that speaks for all devices of a tenant.
func (a *app) stampUpdateGateway() *cobra.Command {
	var tenant string
	cmd := a.read(&cobra.Command{
		Use: "update-gateway STAMP on|off", Short: "Give the update clients of a tenant one token for all its devices, or take it away",
		Long: "Give the update clients of a tenant on a stamp one token for all its devices, or take\n" +
			"it away. The token is shown once; switching on again makes another, and the one\n" +
			"before is void. Who has it can speak for any of the devices: prefer target tokens.",
		Example: "  slipway stamp update-gateway test-1 on --tenant default\n  slipway stamp update-gateway test-1 off",
		Args:    cobra.ExactArgs(2), ValidArgsFunction: a.completeNames(resource.KindStamp),
		RunE: a.call(func(ctx context.Context, c *client.Client, args []string) error {
			if args[1] != "on" && args[1] != "off" {
				return usage("a gateway's token is switched on or off, not %q", args[1])
			}
			g, err := c.SetUpdateGateway(ctx, args[0], tenant, args[1] == "on")
			if err != nil {
				return err
			}
			if a.asJSON {
				return a.json(g)
			}
			if g.Token == "" {
				a.note("the update clients of tenant %s have no token for all devices on %s\n", clean(g.Tenant), args[0])
				return nil
			}
			return a.table([]string{"TENANT", "GATEWAY TOKEN"}, [][]string{{g.Tenant, g.Token}})
		}),
	})
	cmd.Flags().StringVar(&tenant, "tenant", link.DefaultTenant, "whose devices")
	return cmd
}
