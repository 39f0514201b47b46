package cli

import (
	"context"
	"strings"

	"github.com/spf13/cobra"

	"github.com/slipway/slipway/internal/client"
	"github.com/slipway/slipway/internal/control/access"
	"github.com/slipway/slipway/internal/resource"
)

// boundsFlags are where a role or a token holds.
func boundsFlags(cmd *cobra.Command, b *access.Bounds) {
	flags := cmd.Flags()
	flags.StringSliceVar(&b.Environments, "environment", nil, "only there; may be repeated")
	flags.StringSliceVar(&b.Stamps, "stamp", nil, "only there; may be repeated")
	flags.StringSliceVar(&b.Tenants, "of-tenant", nil, "only for this tenant's devices; may be repeated")
}

// whereOf says where something holds.
func whereOf(b access.Bounds, tenant string) string {
	if tenant != "" {
		b.Tenants = append(b.Tenants, tenant)
	}
	return b.String()
}

func (a *app) account() *cobra.Command {
	group := a.group("account", "People, services and agents", `A person signs in to the console; a service or an agent comes with a token, and a person
answers for it: when that person's account is disabled, it stops.`,
		a.accountCreate(), a.accountList(), a.accountShow(), a.accountInvite(), a.accountSponsor(),
		a.accountDo("disable", "Have an account, its tokens and the programs it answers for do nothing any more"), a.accountDo("enable", "Let a disabled account act again"), a.accountDelete(), a.accountSessions(), a.accountEndSession())
	group.Aliases = []string{"accounts"}
	return group
}

func (a *app) accountCreate() *cobra.Command {
	var want access.NewAccount
	var kind string
	var invite bool
	cmd := a.read(&cobra.Command{
		Use: "create ID", Short: "Make an account for a person, a service or an agent", Args: cobra.ExactArgs(1),
		Example: "  slipway account create ann --name 'Ann Example' --invite\n  slipway account create ci --kind service --sponsor ann",
		RunE: a.call(func(ctx context.Context, c *client.Client, args []string) error {
			want.ID, want.Kind = args[0], access.Kind(kind)
			made, err := c.AddAccount(ctx, want)
			if err != nil {
				return err
			}
			if invite {
				return a.invitation(ctx, c, made.ID)
			}
			if a.asJSON {
				return a.json(made)
			}
			return a.print("account %s made\n", made.ID)
		}),
	})
	flags := cmd.Flags()
	flags.StringVar(&kind, "kind", "person", "person, service or agent")
	flags.StringVar(&want.Name, "name", "", "as people read it")
	flags.StringVar(&want.Email, "email", "", "address of mail")
	flags.StringVar(&want.Sponsor, "sponsor", "", "person who answers for a service or an agent")
	flags.BoolVar(&invite, "invite", false, "print the link by which a person sets a password")
	return cmd
}

// invitation makes one and prints its link.
func (a *app) invitation(ctx context.Context, c *client.Client, id string) error {
	made, err := c.Invite(ctx, id)
	if err != nil {
		return err
	}
	if a.asJSON {
		return a.json(made)
	}
	a.note("send this to %s; it sets a password once, until %s\n", id, a.when(&made.ExpiresAt))
	return a.print("%s\n", made.Link)
}

func (a *app) accountInvite() *cobra.Command {
	return a.read(&cobra.Command{
		Use: "invite ID", Short: "Print the link by which a person sets a password, the first one or another", Args: cobra.ExactArgs(1),
		Example: "  slipway account invite ann",
		RunE:    a.call(func(ctx context.Context, c *client.Client, args []string) error { return a.invitation(ctx, c, args[0]) }),
	})
}

func (a *app) accountList() *cobra.Command {
	return a.read(&cobra.Command{
		Use: "list", Short: "List people, services and agents", Args: cobra.NoArgs,
		RunE: a.call(func(ctx context.Context, c *client.Client, _ []string) error {
			all, err := c.Accounts(ctx)
			if err != nil {
				return err
			}
			if a.asJSON {
				return jsonList(a, all, "")
			}
			rows := make([][]string, len(all))
			for i, one := range all {
				state := "active"
				if one.Disabled {
					state = "disabled"
				}
				rows[i] = []string{one.ID, one.Name, string(one.Kind), one.Sponsor, state, a.when(one.SignedInAt)}
			}
			return a.table([]string{"ACCOUNT", "NAME", "KIND", "SPONSOR", "STATE", "SIGNED IN"}, rows)
		}),
	})
}

func (a *app) accountShow() *cobra.Command {
	return &cobra.Command{
		Use: "show ID", Short: "Show one account, as JSON", Args: cobra.ExactArgs(1),
		RunE: a.call(func(ctx context.Context, c *client.Client, args []string) error {
			one, err := c.Account(ctx, args[0])
			if err != nil {
				return err
			}
			return a.json(one)
		}),
	}
}

func (a *app) accountSponsor() *cobra.Command {
	return &cobra.Command{
		Use: "sponsor ID PERSON", Short: "Have another person answer for a service or an agent", Args: cobra.ExactArgs(2),
		Example: "  slipway account sponsor ci bob",
		RunE: a.call(func(ctx context.Context, c *client.Client, args []string) error {
			one, err := c.SetSponsor(ctx, args[0], args[1])
			if err != nil {
				return err
			}
			return a.print("%s answers for %s\n", one.Sponsor, one.ID)
		}),
	}
}

func (a *app) accountDo(verb, short string) *cobra.Command {
	return &cobra.Command{
		Use: verb + " ID", Short: short, Args: cobra.ExactArgs(1),
		RunE: a.call(func(ctx context.Context, c *client.Client, args []string) error {
			one, err := c.ChangeAccount(ctx, args[0], verb)
			if err != nil {
				return err
			}
			return a.print("account %s %sd\n", one.ID, verb)
		}),
	}
}

func (a *app) accountDelete() *cobra.Command {
	var yes bool
	cmd := &cobra.Command{
		Use: "delete ID", Short: "Delete an account with its tokens, sessions and roles", Args: cobra.ExactArgs(1),
		RunE: a.call(func(ctx context.Context, c *client.Client, args []string) error {
			if err := a.confirm(yes, "Delete the account %s", args[0]); err != nil {
				return err
			}
			if err := c.DeleteAccount(ctx, args[0]); err != nil {
				return err
			}
			return a.print("account %s deleted\n", args[0])
		}),
	}
	yesFlag(cmd, &yes)
	return cmd
}

func (a *app) role() *cobra.Command {
	group := a.group("role", "Who may do what, and where", "Roles are built in, or declared with `slipway apply` as documents of the kind Role, which may\nalso say who has them.",
		a.roleKinds(), a.roleList(), a.roleGive(), a.roleTake(), a.roleShow(), a.roleDelete())
	group.Aliases = []string{"roles"}
	return group
}

func (a *app) roleKinds() *cobra.Command {
	return a.read(&cobra.Command{
		Use: "kinds", Short: "List the roles there are, with what each may do", Args: cobra.NoArgs,
		RunE: a.call(func(ctx context.Context, c *client.Client, _ []string) error {
			all, err := c.Roles(ctx)
			if err != nil {
				return err
			}
			if a.asJSON {
				return jsonList(a, all, "")
			}
			rows := make([][]string, len(all))
			for i, one := range all {
				rows[i] = []string{one.Name, permissionList(one.Permissions)}
			}
			return a.table([]string{"ROLE", "MAY"}, rows)
		}),
	})
}

func (a *app) roleShow() *cobra.Command {
	cmd := a.nounShow(declaredRole)
	cmd.Short, cmd.Example = "Show a role as it is declared: what it lets be done, and who has it", "  slipway role show release-manager\n  slipway role show viewer --json"
	return cmd
}

func (a *app) roleDelete() *cobra.Command {
	cmd := a.nounDelete(declaredRole)
	cmd.Example = "  slipway role delete release-manager --yes"
	return cmd
}

// declaredRole is the kind of roles in files.
var declaredRole = noun{kind: resource.KindRole, use: "role", words: "role", gone: "nobody may have it any more"}

func permissionList(all []access.Permission) string {
	words := make([]string, len(all))
	for i, p := range all {
		words[i] = string(p)
	}
	return strings.Join(words, " ")
}

func holderOf(b access.Binding) string {
	if b.Group != "" {
		return "group " + b.Group
	}
	return b.Account
}

func (a *app) roleList() *cobra.Command {
	return a.read(&cobra.Command{
		Use: "list", Short: "List who has which role where", Args: cobra.NoArgs,
		RunE: a.call(func(ctx context.Context, c *client.Client, _ []string) error {
			all, err := c.Bindings(ctx)
			if err != nil {
				return err
			}
			if a.asJSON {
				return jsonList(a, all, "")
			}
			rows := make([][]string, len(all))
			for i, b := range all {
				rows[i] = []string{b.ID, holderOf(b), b.Role, b.Bounds.String(), b.CreatedBy, a.when(&b.CreatedAt)}
			}
			return a.table([]string{"ID", "WHO", "ROLE", "WHERE", "GIVEN BY", "GIVEN"}, rows)
		}),
	})
}

func (a *app) roleGive() *cobra.Command {
	var b access.Binding
	cmd := a.read(&cobra.Command{
		Use: "give ROLE [ACCOUNT]", Short: "Give a role to an account, or to a group of an identity provider", Args: cobra.RangeArgs(1, 2),
		Example: "  slipway role give operator ann --environment test\n  slipway role give viewer --group everybody",
		RunE: a.call(func(ctx context.Context, c *client.Client, args []string) error {
			b.Role = args[0]
			if len(args) == 2 {
				b.Account = args[1]
			}
			given, err := c.GiveRole(ctx, b)
			if err != nil {
				return err
			}
			if a.asJSON {
				return a.json(given)
			}
			return a.print("%s is %s, %s (%s)\n", holderOf(given), given.Role, given.Bounds.String(), given.ID)
		}),
	})
	cmd.Flags().StringVar(&b.Group, "group", "", "to everybody of this group, instead of an account")
	boundsFlags(cmd, &b.Bounds)
	return cmd
}

func (a *app) roleTake() *cobra.Command {
	return &cobra.Command{
		Use: "take ID", Short: "Take a role back; slipway role list shows the id", Args: cobra.ExactArgs(1),
		RunE: a.call(func(ctx context.Context, c *client.Client, args []string) error {
			if err := c.TakeRole(ctx, args[0]); err != nil {
				return err
			}
			return a.print("%s taken back\n", args[0])
		}),
	}
}

func (a *app) accountSessions() *cobra.Command {
	var own bool
	cmd := a.read(&cobra.Command{
		Use: "sessions", Short: "List console sessions that are open, newest first", Args: cobra.NoArgs,
		RunE: a.call(func(ctx context.Context, c *client.Client, _ []string) error {
			all, err := c.Opened(ctx, own)
			if err != nil {
				return err
			}
			if a.asJSON {
				return jsonList(a, all, "")
			}
			rows := make([][]string, len(all))
			for i, s := range all {
				who := s.Account
				if who == "" {
					who = "token " + s.Token
				}
				factors := "one factor"
				if s.MFA {
					factors = "two factors"
				}
				rows[i] = []string{s.ID, who, s.Method, factors, s.Remote, a.when(&s.CreatedAt), a.when(&s.SeenAt)}
			}
			return a.table([]string{"SESSION", "WHO", "BY", "FACTORS", "FROM", "OPENED", "USED"}, rows)
		}),
	})
	cmd.Flags().BoolVar(&own, "own", false, "only those of the account that asks")
	return cmd
}

func (a *app) accountEndSession() *cobra.Command {
	var own bool
	cmd := &cobra.Command{
		Use: "end-session ID", Short: "End a console session at once", Args: cobra.ExactArgs(1),
		Example: "  slipway account end-session s-abcdefghij",
		RunE: a.call(func(ctx context.Context, c *client.Client, args []string) error {
			if err := c.EndOpened(ctx, args[0], own); err != nil {
				return err
			}
			return a.print("session %s ended\n", args[0])
		}),
	}
	cmd.Flags().BoolVar(&own, "own", false, "one of the account that asks")
	return cmd
}

func (a *app) access() *cobra.Command {
	return a.group("access", "Look after who may do what", "", a.accessUnused())
}

func (a *app) accessUnused() *cobra.Command {
	var days int
	cmd := a.read(&cobra.Command{
		Use: "unused", Short: "List roles of which something was not used of late, so that they can be taken back or made smaller", Args: cobra.NoArgs,
		Example: "  slipway access unused --days 90",
		RunE: a.call(func(ctx context.Context, c *client.Client, _ []string) error {
			all, err := c.UnusedRights(ctx, days)
			if err != nil {
				return err
			}
			if a.asJSON {
				return jsonList(a, all, "")
			}
			rows := make([][]string, len(all))
			for i, u := range all {
				what := permissionList(u.Unused)
				if u.Whole {
					what = "everything"
				}
				rows[i] = []string{u.Account, u.Binding.Role, u.Binding.Bounds.String(), u.Binding.ID, what}
			}
			return a.table([]string{"WHO", "ROLE", "WHERE", "ID", "NOT USED"}, rows)
		}),
	})
	cmd.Flags().IntVar(&days, "days", 90, "for so many days")
	return cmd
}

func (a *app) whoami() *cobra.Command {
	return a.read(&cobra.Command{
		Use: "whoami", Short: "Show who the token is of, and what it may do", Args: cobra.NoArgs,
		RunE: a.call(func(ctx context.Context, c *client.Client, _ []string) error {
			me, err := c.Me(ctx)
			if err != nil {
				return err
			}
			if a.asJSON {
				return a.json(me)
			}
			rows := [][]string{{"name", me.Name}, {"kind", string(me.Kind)}, {"answers", me.Person}}
			for _, r := range me.Rights {
				rows = append(rows, []string{"role", r.Role + ", " + r.Bounds.String()})
			}
			if me.Limit != nil {
				rows = append(rows, []string{"confined to", strings.TrimSpace(me.Limit.Role + " " + me.Limit.Bounds.String())})
			}
			return a.table([]string{"", ""}, rows)
		}),
	})
}
