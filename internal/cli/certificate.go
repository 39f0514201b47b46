package cli

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/slipway/slipway/internal/client"
)

func (a *app) certificate() *cobra.Command {
	group := a.group("certificate", "See and revoke the operational certificates that devices were given", `  slipway provisioning certificate list --device pump-1
  slipway provisioning certificate revoke 5f0a3c…`, a.certificateList(), a.certificateRevoke())
	group.Aliases = []string{"certificates"}
	return group
}

func (a *app) certificateList() *cobra.Command {
	var device string
	var limit int
	cmd := a.read(&cobra.Command{
		Use: "list", Short: "List certificates, newest first", Args: cobra.NoArgs,
		RunE: a.call(func(ctx context.Context, c *client.Client, _ []string) error {
			all, err := c.Certificates(ctx, device, limit)
			if err != nil {
				return err
			}
			if a.asJSON {
				return jsonList(a, all, "")
			}
			rows := make([][]string, len(all))
			for i, one := range all {
				rows[i] = []string{one.Serial, one.DeviceID, one.Environment, a.when(&one.NotBefore), a.when(&one.NotAfter), a.when(one.RevokedAt)}
			}
			return a.table([]string{"SERIAL", "DEVICE", "ENVIRONMENT", "FROM", "UNTIL", "REVOKED"}, rows)
		}),
	})
	cmd.Flags().StringVar(&device, "device", "", "only those of this device")
	cmd.Flags().IntVar(&limit, "limit", 100, "at most so many, up to 1000")
	return cmd
}

func (a *app) certificateRevoke() *cobra.Command {
	var yes bool
	cmd := a.read(&cobra.Command{
		Use: "revoke SERIAL", Short: "Make a certificate void; its device is cut off and needs another or its enrolled credentials", Args: cobra.ExactArgs(1),
		RunE: a.call(func(ctx context.Context, c *client.Client, args []string) error {
			if err := a.confirm(yes, "Revoke the certificate %s", args[0]); err != nil {
				return err
			}
			revoked, err := c.RevokeCertificate(ctx, args[0])
			if err != nil {
				return err
			}
			if a.asJSON {
				return a.json(revoked)
			}
			return a.print("certificate %s of %s revoked\n", revoked.Serial, revoked.DeviceID)
		}),
	})
	yesFlag(cmd, &yes)
	return cmd
}
