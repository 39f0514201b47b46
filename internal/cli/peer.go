package cli

import (
	"context"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/slipway/slipway/internal/client"
	"github.com/slipway/slipway/internal/link"
)

func (a *app) peer() *cobra.Command {
	group := a.group("peer", "The processes that may be on the link between the planes", `Processes of provisioning and of stamps join with a token, and are known by a
certificate from then on.`, a.peerList(), a.peerRevoke())
	group.Aliases = []string{"peers"}
	return group
}

func (a *app) peerList() *cobra.Command {
	return a.read(&cobra.Command{
		Use: "list", Short: "List the certificates of processes, newest first", Args: cobra.NoArgs,
		RunE: a.call(func(ctx context.Context, c *client.Client, _ []string) error {
			all, err := c.Peers(ctx)
			if err != nil {
				return err
			}
			if a.asJSON {
				return jsonList(a, all, "")
			}
			rows := make([][]string, len(all))
			for i, one := range all {
				rows[i] = []string{one.Peer, one.Serial, strings.Join(one.Hosts, ","), a.when(&one.IssuedAt), a.when(&one.NotAfter), a.when(one.RevokedAt)}
			}
			return a.table([]string{"PEER", "SERIAL", "HOSTS", "ISSUED", "UNTIL", "REVOKED"}, rows)
		}),
	})
}

func (a *app) peerRevoke() *cobra.Command {
	var yes bool
	cmd := &cobra.Command{
		Use: "revoke SERIAL", Short: "Revoke a process's certificate; it is off the link until it joins with a new token", Args: cobra.ExactArgs(1),
		RunE: a.call(func(ctx context.Context, c *client.Client, args []string) error {
			if err := a.confirm(yes, "Revoke the certificate %s", args[0]); err != nil {
				return err
			}
			if err := c.RevokePeer(ctx, args[0]); err != nil {
				return err
			}
			return a.print("certificate %s revoked\n", args[0])
		}),
	}
	yesFlag(cmd, &yes)
	return cmd
}

// joinToken makes the token of one peer, or of the stamp that is named.
func (a *app) joinToken(use, short string, args cobra.PositionalArgs, peer func(args []string) string) *cobra.Command {
	var life time.Duration
	var processes int
	cmd := a.read(&cobra.Command{
		Use: use, Short: short, Args: args,
		RunE: a.call(func(ctx context.Context, c *client.Client, args []string) error {
			token, err := c.NewJoinToken(ctx, peer(args), processes, life)
			if err != nil {
				return err
			}
			if a.asJSON {
				return a.json(token)
			}
			return a.print("%s\n", token.Token)
		}),
	})
	cmd.Flags().IntVar(&processes, "processes", 1, "how many may join by it")
	cmd.Flags().DurationVar(&life, "expires-in", 0, "how long it may be used (default 1h)")
	return cmd
}

func (a *app) stampToken() *cobra.Command {
	return a.joinToken("token NAME", "Make the token by which a process of the stamp joins, once; or several", cobra.ExactArgs(1), func(args []string) string { return link.StampPeer(args[0]) })
}

func (a *app) provisioningToken() *cobra.Command {
	return a.joinToken("token", "Make the token by which a process of provisioning joins, once; or several", cobra.NoArgs, func([]string) string { return link.ProvisioningPeer })
}
