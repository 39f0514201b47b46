package cli

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/slipway/slipway/internal/client"
	"github.com/slipway/slipway/internal/control/grant"
)

func (a *app) grant() *cobra.Command {
	group := a.group("grant", "Act in an environment for a while: ask, agree, and look at it afterwards",
		"In an environment that wants grants nobody may change anything for good. Somebody asks, with\na purpose and a length of time; others agree, none of whom asked; the grant ends by itself,\nand somebody looks at what it was used for.",
		a.grantRequest(), a.grantChange(), a.grantBreakGlass(),
		a.grantSay(grant.Submit, "Ask for what a draft says", false),
		a.grantSay(grant.Approve, "Agree to a grant; nobody agrees to their own", false),
		a.grantSay(grant.Deny, "Refuse a grant", true),
		a.grantSay(grant.Withdraw, "Take your request back", false),
		a.grantSay(grant.Revoke, "End somebody's grant at once; what was begun under it is cut", true),
		a.grantSay(grant.End, "End your grant before its time", false),
		a.grantSay(grant.Review, "Say what you found when you looked at a grant that is over", true),
		a.grantList(), a.grantShow())
	group.Aliases = []string{"grants"}
	return group
}

// wanted is what is asked for, in flags.
type wanted struct {
	client.GrantRequest
	life time.Duration
	at   string
}

func (w *wanted) flags(cmd *cobra.Command, breakGlass bool) {
	f := cmd.Flags()
	f.StringVar(&w.Purpose, "purpose", "", "troubleshooting, hotfix, performance, security, data, compliance, support or red-team")
	f.StringVar(&w.Ticket, "ticket", "", "the ticket it is for")
	f.StringSliceVar(&w.Scope.Permissions, "permission", []string{"device.write"}, "what is to be done; several with commas")
	f.StringSliceVar(&w.Scope.Stamps, "stamp", nil, "only on these stamps")
	f.StringSliceVar(&w.Scope.Tenants, "tenant", nil, "only for these tenants")
	f.StringSliceVar(&w.Scope.Devices, "device", nil, "only on these devices")
	f.DurationVar(&w.life, "duration", time.Hour, "how long it lasts once it has begun")
	if !breakGlass {
		f.StringVar(&w.at, "start", "", "when it begins, such as 2026-12-20T18:00:00Z, or 2h from now; default as soon as it is approved")
	}
	required(cmd, "purpose")
	because(cmd, &w.Reason)
}

// request is what the flags ask for.
func (w *wanted) request(now time.Time) (client.GrantRequest, error) {
	r := w.GrantRequest
	r.Seconds = int64(w.life / time.Second)
	if w.at == "" {
		return r, nil
	}
	at, err := time.Parse(time.RFC3339, w.at)
	if ahead, spanErr := time.ParseDuration(w.at); spanErr == nil {
		at, err = now.Add(ahead), nil
	}
	if err != nil {
		return r, usage("--start is a time such as 2026-12-20T18:00:00Z, or a span such as 2h, not %q", w.at)
	}
	r.StartsAt = &at
	return r, nil
}

func (a *app) grantRequest() *cobra.Command {
	var w wanted
	var wait bool
	var timeout time.Duration
	cmd := a.read(&cobra.Command{
		Use: "request --environment ENVIRONMENT", Short: "Ask to act in an environment for a while",
		Long: "Ask to act in an environment for a while. Others must agree, as many as the environment\n" +
			"says; you and whoever answers for you do not count, by whichever token. A request that\n" +
			"nobody decides on expires.\n\nExit codes with --wait: 0 it is active; 3 it still waits after --timeout; 7 it was refused.",
		Example: "  slipway grant request --environment production --purpose troubleshooting --device pump-7 --duration 30m --reason \"it does not start\" --ticket INC-12\n" +
			"  slipway grant request --environment production --purpose data --permission device.write,device.move --start 2026-12-20T18:00:00Z --duration 2h --reason \"clean-up\" --wait",
		Args: cobra.NoArgs,
		RunE: a.call(func(ctx context.Context, c *client.Client, _ []string) error {
			r, err := w.request(a.now())
			if err != nil {
				return err
			}
			g, err := c.RequestGrant(ctx, r)
			if err != nil {
				return err
			}
			if wait {
				return a.awaitGrant(ctx, c, g, timeout)
			}
			return a.showGrant(g, nil)
		}),
	})
	cmd.Flags().StringVar(&w.Environment, "environment", "", "environment to act in")
	cmd.Flags().StringVar(&w.Person, "for", "", "who is to act; default you")
	cmd.Flags().BoolVar(&w.Draft, "draft", false, "write it down and ask later, by slipway grant submit")
	cmd.Flags().BoolVar(&wait, "wait", false, "wait until it is active, or refused")
	cmd.Flags().DurationVar(&timeout, "timeout", time.Hour, "how long to wait")
	w.flags(cmd, false)
	required(cmd, "environment")
	a.complete(cmd, "environment", environments)
	return cmd
}

// awaitGrant waits until a grant is active, or will not be.
func (a *app) awaitGrant(ctx context.Context, c *client.Client, g grant.Grant, timeout time.Duration) error {
	limited, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	a.note("%s waits for %d to agree\n", g.ID, g.Needs)
	tick := time.NewTicker(followEvery)
	defer tick.Stop()
	for g.State == grant.Draft || g.State == grant.Pending || g.State == grant.Scheduled {
		select {
		case <-limited.Done():
			if ctx.Err() != nil {
				return ctx.Err()
			}
			if err := a.showGrant(g, nil); err != nil {
				return err
			}
			return answer(exitNo)
		case <-tick.C:
		}
		var err error
		if g, err = c.Grant(ctx, g.ID); err != nil {
			return err
		}
	}
	if err := a.showGrant(g, nil); err != nil {
		return err
	}
	if g.State != grant.Active {
		return answer(exitDenied)
	}
	return nil
}

func (a *app) grantChange() *cobra.Command {
	var w wanted
	cmd := a.read(&cobra.Command{
		Use: "change ID", Short: "Ask for something else; who agreed before has not agreed to that", Args: cobra.ExactArgs(1),
		Example: "  slipway grant change grant-12 --purpose troubleshooting --duration 2h --reason \"it takes longer\"",
		RunE: a.call(func(ctx context.Context, c *client.Client, args []string) error {
			r, err := w.request(a.now())
			if err != nil {
				return err
			}
			g, err := c.ChangeGrant(ctx, args[0], r)
			if err != nil {
				return err
			}
			return a.showGrant(g, nil)
		}),
	})
	w.flags(cmd, false)
	return cmd
}

func (a *app) grantBreakGlass() *cobra.Command {
	var w wanted
	cmd := a.read(&cobra.Command{
		Use: "break-glass --environment ENVIRONMENT", Short: "Act at once, in an emergency; everybody who could have agreed is told",
		Long: "Act at once, without asking. It lasts an hour at most, everybody who could have agreed is\n" +
			"told, every page of the console says so, and somebody else must look at it within a day.\n" +
			"Until that is done, once it is late, you cannot do it again.",
		Example: "  slipway grant break-glass --environment production --purpose hotfix --reason \"all pumps stopped\" --duration 20m",
		Args:    cobra.NoArgs,
		RunE: a.call(func(ctx context.Context, c *client.Client, _ []string) error {
			r, err := w.request(a.now())
			if err != nil {
				return err
			}
			g, err := c.BreakGlass(ctx, r)
			if err != nil {
				return err
			}
			return a.showGrant(g, nil)
		}),
	})
	cmd.Flags().StringVar(&w.Environment, "environment", "", "environment to act in")
	w.flags(cmd, true)
	required(cmd, "environment")
	a.complete(cmd, "environment", environments)
	return cmd
}

func (a *app) grantSay(verb grant.Verb, short string, why bool) *cobra.Command {
	var reason string
	cmd := a.read(&cobra.Command{
		Use: string(verb) + " ID", Short: short, Args: cobra.ExactArgs(1), Example: fmt.Sprintf("  slipway grant %s grant-12 --reason \"as we spoke\"", verb),
		RunE: a.call(func(ctx context.Context, c *client.Client, args []string) error {
			g, err := c.SayOfGrant(ctx, args[0], verb, reason)
			if err != nil {
				return err
			}
			return a.showGrant(g, nil)
		}),
	})
	if why {
		because(cmd, &reason)
	} else {
		cmd.Flags().StringVar(&reason, "reason", "", "why, for others and for the audit log")
	}
	return cmd
}

func (a *app) grantList() *cobra.Command {
	var environment, person, state, after string
	cmd := a.read(&cobra.Command{
		Use: "list", Short: "List grants, newest first", Args: cobra.NoArgs,
		Example: "  slipway grant list --environment production --state pending\n  slipway grant list --state reviewDue",
		RunE: a.call(func(ctx context.Context, c *client.Client, _ []string) error {
			page, err := c.Grants(ctx, environment, person, state, after)
			if err != nil {
				return err
			}
			if a.asJSON {
				return jsonList(a, page.Items, page.Next)
			}
			rows := make([][]string, len(page.Items))
			for i, g := range page.Items {
				rows[i] = []string{g.ID, g.Environment, g.Name, g.Purpose, strings.Join(g.Scope.Permissions, ","), grantState(g), a.when(grantNext(g)), g.Reason}
			}
			return a.table([]string{"GRANT", "ENVIRONMENT", "PERSON", "PURPOSE", "TO", "STATE", "UNTIL", "WHY"}, rows)
		}),
	})
	cmd.Flags().StringVar(&environment, "environment", "", "only those for this environment")
	cmd.Flags().StringVar(&person, "person", "", "only those of this person")
	cmd.Flags().StringVar(&state, "state", "", "draft, pending, scheduled, active, reviewDue, denied, expired, withdrawn or reviewed")
	cmd.Flags().StringVar(&after, "after", "", "begin after the page before, with its next")
	a.complete(cmd, "environment", environments)
	return cmd
}

// grantState says where a grant stands, and loudly if the glass was broken.
func grantState(g grant.Grant) string {
	state := string(g.State)
	if g.BreakGlass {
		state += " (break-glass)"
	}
	if g.State == grant.Pending {
		state += fmt.Sprintf(" %d/%d", len(g.Approvals), g.Needs)
	}
	return state
}

// grantNext is the time that matters to a grant where it stands.
func grantNext(g grant.Grant) *time.Time {
	switch g.State {
	case grant.Draft, grant.Pending:
		return &g.DecideBy
	case grant.Scheduled:
		return g.StartsAt
	case grant.ReviewDue:
		return g.ReviewBy
	}
	return g.Until
}

func (a *app) grantShow() *cobra.Command {
	return a.read(&cobra.Command{
		Use: "show ID", Short: "Show a grant: who agreed, what happened, how it was used, its recorded sessions", Args: cobra.ExactArgs(1),
		RunE: a.call(func(ctx context.Context, c *client.Client, args []string) error {
			g, err := c.Grant(ctx, args[0])
			if err != nil {
				return err
			}
			if a.asJSON {
				return a.json(g)
			}
			uses, err := c.GrantUses(ctx, args[0])
			if err != nil {
				return err
			}
			if err := a.showGrant(g, uses); err != nil {
				return err
			}
			page, err := c.Sessions(ctx, "", "", g.ID, false, "")
			if err != nil || len(page.Items) == 0 {
				return err
			}
			a.note("slipway audit list --grant %s lists what it changed\n", g.ID)
			return a.table(sessionHeader, a.sessionRows(page.Items))
		}),
	})
}

func (a *app) showGrant(g grant.Grant, uses []grant.Used) error {
	if a.asJSON {
		return a.json(g)
	}
	lines := [][2]string{
		{"grant", g.ID}, {"environment", g.Environment}, {"person", g.Name}, {"state", grantState(g)}, {"purpose", g.Purpose + ": " + g.Reason}, {"ticket", g.Ticket},
		{"may", strings.Join(g.Scope.Permissions, ", ")}, {"stamps", strings.Join(g.Scope.Stamps, ", ")}, {"tenants", strings.Join(g.Scope.Tenants, ", ")}, {"devices", strings.Join(g.Scope.Devices, ", ")},
		{"for", g.Duration().String()}, {"ends", whenIf(a, g.State == grant.Active, g.Until)}, {"decide by", whenIf(a, g.State == grant.Pending, &g.DecideBy)},
		{"begins", whenIf(a, g.State == grant.Scheduled, g.StartsAt)}, {"review by", whenIf(a, g.State == grant.ReviewDue, g.ReviewBy)}, {"found", g.Review},
	}
	for _, l := range lines {
		if l[1] == "" {
			continue
		}
		if err := a.print("%s\t%s\n", l[0], clean(l[1])); err != nil {
			return err
		}
	}
	for _, u := range uses {
		if err := a.print("used\t%s %s times, last %s\n", u.Permission, strconv.FormatInt(u.Count, 10), a.when(&u.LastAt)); err != nil {
			return err
		}
	}
	rows := make([][]string, len(g.Log))
	for i, c := range g.Log {
		rows[i] = []string{a.when(&c.At), c.What, string(c.State), c.By, c.Reason}
	}
	return a.table([]string{"WHEN", "WHAT", "STATE", "BY", "WHY"}, rows)
}

func whenIf(a *app, shown bool, t *time.Time) string {
	if !shown || t == nil {
		return ""
	}
	return a.when(t)
}
