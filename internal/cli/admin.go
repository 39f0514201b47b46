package cli

import (
	"cmp"
	"context"
	"fmt"
	"runtime"
	"runtime/debug"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/slipway/slipway/internal/client"
	"github.com/slipway/slipway/internal/control/access"
)

func (a *app) token() *cobra.Command {
	group := a.group("token", "Make, list and revoke API tokens", "", a.tokenCreate(), a.tokenList(), a.tokenRevoke())
	group.Aliases = []string{"tokens"}
	return group
}

func (a *app) tokenCreate() *cobra.Command {
	var want access.NewToken
	var own bool
	cmd := a.read(&cobra.Command{
		Use: "create NAME", Short: "Make an API token and print it; it cannot be shown again", Args: cobra.ExactArgs(1),
		Long: "Make an API token and print it; it cannot be shown again. It never may more than the\n" +
			"account it belongs to, and less if a role or places are named.",
		Example: "  slipway token create ci --account ci --role developer --environment test --expires 2160h\n  slipway token create laptop --own --expires 720h",
		RunE: a.call(func(ctx context.Context, c *client.Client, args []string) error {
			want.Name = args[0]
			create := c.CreateToken
			if own {
				create = c.CreateOwnToken
			}
			t, err := create(ctx, want)
			if err != nil {
				return err
			}
			if a.asJSON {
				return a.json(t)
			}
			a.note("token %s for %s; keep it now, it cannot be shown again\n", t.ID, clean(t.Name))
			return a.print("%s\n", t.Secret)
		}),
	})
	flags := cmd.Flags()
	flags.StringVar(&want.Account, "account", "", "whose it is, such as a service's")
	flags.BoolVar(&own, "own", false, "it is of the account that asks")
	flags.StringVar(&want.Tenant, "tenant", "", "let it see this tenant's devices alone")
	flags.StringVar(&want.Role, "role", "", "all it may do at most; default all that its account may")
	boundsFlags(cmd, &want.Bounds)
	flags.DurationVar(&want.Life, "expires", 0, "how long it is good for, such as 720h; default for ever")
	return cmd
}

func (a *app) tokenList() *cobra.Command {
	return a.read(&cobra.Command{
		Use: "list", Short: "List the API tokens, without the tokens themselves", Args: cobra.NoArgs,
		RunE: a.call(func(ctx context.Context, c *client.Client, _ []string) error {
			all, err := c.Tokens(ctx)
			if err != nil {
				return err
			}
			if a.asJSON {
				return jsonList(a, all, "")
			}
			rows := make([][]string, len(all))
			for i, t := range all {
				rows[i] = []string{t.ID, t.Name, t.Account, t.Role, whereOf(t.Bounds, t.Tenant), t.CreatedBy, a.when(&t.CreatedAt), a.when(t.ExpiresAt)}
			}
			return a.table([]string{"TOKEN", "NAME", "ACCOUNT", "ROLE", "WHERE", "MADE BY", "MADE", "EXPIRES"}, rows)
		}),
	})
}

func (a *app) tokenRevoke() *cobra.Command {
	var yes bool
	cmd := &cobra.Command{
		Use: "revoke ID", Short: "Revoke an API token and end the console sessions opened with it", Args: cobra.ExactArgs(1),
		RunE: a.call(func(ctx context.Context, c *client.Client, args []string) error {
			if err := a.confirm(yes, "Revoke the token %s", args[0]); err != nil {
				return err
			}
			if err := c.RevokeToken(ctx, args[0]); err != nil {
				return err
			}
			return a.print("token %s revoked\n", args[0])
		}),
	}
	yesFlag(cmd, &yes)
	return cmd
}

func (a *app) status() *cobra.Command {
	return a.read(&cobra.Command{
		Use: "status", Short: "Show environments with their stamps, side by side", Args: cobra.NoArgs,
		RunE: a.call(func(ctx context.Context, c *client.Client, _ []string) error {
			levels, err := c.Overview(ctx)
			if err != nil {
				return err
			}
			if a.asJSON {
				return jsonList(a, levels, "")
			}
			var rows [][]string
			for _, level := range levels {
				rows = append(rows, []string{
					level.Name, "", "", strconv.Itoa(level.Devices), strconv.Itoa(level.Capacity), strconv.FormatInt(level.Connected, 10),
					fmt.Sprintf("%.1f", level.Rate), strconv.Itoa(level.Waiting), "",
				})
				for _, place := range level.Stamps {
					s := place.Status
					rows = append(rows, []string{
						level.Name, place.Metadata.Name, place.Spec.Region, strconv.Itoa(s.Assigned), strconv.Itoa(place.Spec.Capacity),
						strconv.FormatInt(s.Connected, 10), fmt.Sprintf("%.1f", s.Rate), "", cmp.Or(s.Problem, a.when(s.SeenAt)),
					})
				}
			}
			return a.table([]string{"ENVIRONMENT", "STAMP", "REGION", "DEVICES", "CAPACITY", "CONNECTED", "MESSAGES/S", "WAITING", "SEEN"}, rows)
		}),
	})
}

// release is set by the build; a plain `go build` says what it knows itself.
var release = ""

func (a *app) version() *cobra.Command {
	return a.read(&cobra.Command{
		Use: "version", Short: "Print the version", Args: cobra.NoArgs,
		RunE: a.run(func(*cobra.Command, []string) error {
			told := map[string]string{"version": versionText(), "go": runtime.Version(), "platform": runtime.GOOS + "/" + runtime.GOARCH}
			if a.asJSON {
				return a.json(told)
			}
			return a.print("slipway %s (%s, %s)\n", told["version"], told["go"], told["platform"])
		}),
	})
}

func versionText() string {
	if release != "" {
		return release
	}
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" && info.Main.Version != "(devel)" {
		return info.Main.Version
	}
	return "development"
}
