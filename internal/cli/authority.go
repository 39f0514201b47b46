package cli

import (
	"context"
	"os"

	"github.com/spf13/cobra"

	"github.com/slipway/slipway/internal/client"
	"github.com/slipway/slipway/internal/link"
)

func (a *app) authority() *cobra.Command {
	group := a.group("authority", "The certificate authorities that enrolments name, and the proof of their keys", `  slipway provisioning authority add factory factory-ca.pem
  slipway provisioning authority verify factory proof.pem`, a.authorityList(), a.authorityAdd(), a.authorityVerify(), a.authorityDelete())
	group.Aliases = []string{"authorities"}
	return group
}

func (a *app) authorityList() *cobra.Command {
	return a.read(&cobra.Command{
		Use: "list", Short: "List authorities", Args: cobra.NoArgs,
		RunE: a.call(func(ctx context.Context, c *client.Client, _ []string) error {
			all, err := c.Authorities(ctx)
			if err != nil {
				return err
			}
			if a.asJSON {
				return jsonList(a, all, "")
			}
			rows := make([][]string, len(all))
			for i, one := range all {
				rows[i] = []string{one.Name, one.Subject, a.when(&one.NotAfter), a.when(one.VerifiedAt), one.Code}
			}
			return a.table([]string{"NAME", "SUBJECT", "UNTIL", "VERIFIED", "CODE"}, rows)
		}),
	})
}

func (a *app) authorityAdd() *cobra.Command {
	return a.read(&cobra.Command{
		Use: "add NAME FILE", Short: "Keep the authority whose certificate is in a PEM file; it waits for its proof", Args: cobra.ExactArgs(2),
		RunE: a.call(func(ctx context.Context, c *client.Client, args []string) error {
			return a.withCertificate(ctx, args, c.AddAuthority)
		}),
	})
}

func (a *app) authorityVerify() *cobra.Command {
	return a.read(&cobra.Command{
		Use: "verify NAME FILE", Short: "Prove to have the key, by a certificate that it signed and whose common name is the code", Args: cobra.ExactArgs(2),
		RunE: a.call(func(ctx context.Context, c *client.Client, args []string) error {
			return a.withCertificate(ctx, args, c.VerifyAuthority)
		}),
	})
}

// withCertificate sends a file about an authority and shows what is asked next.
func (a *app) withCertificate(ctx context.Context, args []string, send func(ctx context.Context, name, certificate string) (link.Authority, error)) error {
	text, err := os.ReadFile(args[1])
	if err != nil {
		return err
	}
	authority, err := send(ctx, args[0], string(text))
	if err != nil {
		return err
	}
	if a.asJSON {
		return a.json(authority)
	}
	if authority.VerifiedAt != nil {
		return a.print("authority %s is verified; enrolments may name it\n", authority.Name)
	}
	return a.print("sign a certificate with the common name\n  %s\nby %s, and send it: slipway provisioning authority verify %s FILE\n", authority.Code, authority.Subject, authority.Name)
}

func (a *app) authorityDelete() *cobra.Command {
	var yes bool
	cmd := &cobra.Command{
		Use: "delete NAME", Short: "Forget an authority; enrolments that named it keep its certificate", Args: cobra.ExactArgs(1),
		RunE: a.call(func(ctx context.Context, c *client.Client, args []string) error {
			if err := a.confirm(yes, "Forget the authority %s", args[0]); err != nil {
				return err
			}
			if err := c.DeleteAuthority(ctx, args[0]); err != nil {
				return err
			}
			return a.print("authority %s deleted\n", args[0])
		}),
	}
	yesFlag(cmd, &yes)
	return cmd
}
