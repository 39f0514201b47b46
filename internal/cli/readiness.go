package cli

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/slipway/slipway/internal/client"
	"github.com/slipway/slipway/internal/control/readiness"
)

func (a *app) readiness() *cobra.Command {
	var environment string
	var all bool
	cmd := a.read(&cobra.Command{
		Use: "readiness [ENVIRONMENT]", Short: "Tell whether an environment is ready for production, and why not",
		Long: "Tell whether an environment is ready for production, and why not: each check with the\nevidence it rests on, and what makes it right. Without ENVIRONMENT, how all of them stand.\n\n" +
			"Exit codes: 0 ready, 3 not ready (of all environments: one from which none promotes is not).",
		Example: "  slipway readiness\n  slipway readiness production\n  slipway readiness production --all\n  slipway readiness --environment production --json\n  slipway readiness explain B2",
		Args:    cobra.MaximumNArgs(1),
		RunE: a.call(func(ctx context.Context, c *client.Client, args []string) error {
			if len(args) == 1 {
				environment = args[0]
			}
			a.progress("gathering evidence")
			defer a.progress("")
			if environment == "" {
				return a.readinessOfAll(ctx, c)
			}
			v, err := c.EnvironmentReadiness(ctx, environment)
			if err != nil {
				return err
			}
			a.progress("")
			return a.showReadiness(v, all)
		}),
	})
	cmd.Flags().StringVar(&environment, "environment", "", "the environment, as an alternative to the argument")
	cmd.Flags().BoolVar(&all, "all", false, "checks that pass, too, with their evidence")
	a.complete(cmd, "environment", environments)
	cmd.AddCommand(a.readinessExplain(), a.readinessAnswer(), a.readinessWithdraw(), a.readinessOwn(), a.readinessHistory(),
		a.readinessCompliance(), a.readinessReport(), a.readinessVerify())
	return cmd
}

func (a *app) readinessOfAll(ctx context.Context, c *client.Client) error {
	all, err := c.Readiness(ctx)
	if err != nil {
		return err
	}
	a.progress("")
	ready, rows := true, make([][]string, len(all))
	for i, v := range all {
		ready = ready && (v.Ready || !v.Final)
		rows[i] = []string{v.Environment, yesNo(v.Ready), fmt.Sprint(v.Score), v.Summary}
	}
	if a.asJSON {
		err = jsonList(a, all, "")
	} else {
		err = a.table([]string{"ENVIRONMENT", "READY", "SCORE", "WHY"}, rows)
	}
	if err == nil && !ready {
		return answer(exitNo)
	}
	return err
}

func (a *app) showReadiness(v readiness.Verdict, all bool) error {
	err := a.printReadiness(v, all)
	if err == nil && !v.Ready {
		return answer(exitNo)
	}
	return err
}

func (a *app) printReadiness(v readiness.Verdict, all bool) error {
	if a.asJSON {
		return a.json(v)
	}
	if err := a.print("%s is %s\nscore %d of 100\n\n", v.Environment, clean(v.Summary), v.Score); err != nil {
		return err
	}
	rows := make([][]string, 0, len(v.Scorecards))
	for _, card := range v.Scorecards {
		passing, applying := 0, 0
		for state, n := range card.Counts {
			if state != readiness.NotApplicable {
				applying += n
			}
			if state.Passes() && state != readiness.NotApplicable {
				passing += n
			}
		}
		rows = append(rows, []string{card.Title, string(card.State), fmt.Sprintf("%d of %d", passing, applying), cmp.Or(card.Owner, "nobody")})
	}
	if err := a.table([]string{"TOPIC", "STATE", "PASS", "OWNER"}, rows); err != nil {
		return err
	}
	rows = rows[:0]
	for _, r := range v.Results {
		if all || !r.State.Passes() || r.State == readiness.Amber {
			rows = append(rows, []string{r.ID, string(r.State), string(r.Level), ageOf(r), r.Summary, r.Do})
		}
	}
	if len(rows) == 0 {
		return nil
	}
	if err := a.print("\n"); err != nil {
		return err
	}
	return a.table([]string{"CHECK", "STATE", "LEVEL", "AGE", "FOUND", "REMEDY"}, rows)
}

func ageOf(r readiness.Result) string {
	if r.At == nil {
		return ""
	}
	return ago(time.Duration(r.Age) * time.Second)
}

func (a *app) readinessExplain() *cobra.Command {
	var environment string
	cmd := a.read(&cobra.Command{
		Use: "explain [CHECK]", Short: "Tell what a check is about, what it rests on, and what makes it right; without CHECK, list them", Args: cobra.MaximumNArgs(1),
		Example: "  slipway readiness explain\n  slipway readiness explain B2\n  slipway readiness explain B2 --environment production",
		RunE: a.run(func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return a.listChecks()
			}
			check, found := readiness.Find(strings.ToUpper(args[0]))
			if !found {
				return usage("there is no check %q; `slipway readiness explain` lists them", args[0])
			}
			if environment == "" {
				return a.explain(check, nil)
			}
			c, err := a.client()
			if err != nil {
				return err
			}
			v, err := c.EnvironmentReadiness(cmd.Context(), environment)
			if err != nil {
				return err
			}
			i := slices.IndexFunc(v.Results, func(r readiness.Result) bool { return r.ID == check.ID })
			if i < 0 {
				return fmt.Errorf("the installation knows no check %s; it may run another version", check.ID)
			}
			return a.explain(check, &v.Results[i])
		}),
	})
	cmd.Flags().StringVar(&environment, "environment", "", "and tell how it stands there")
	return cmd
}

// explained is a check as JSON has it.
type explained struct {
	ID           string            `json:"id"`
	Topic        readiness.Topic   `json:"topic"`
	Level        readiness.Level   `json:"level"`
	Title        string            `json:"title"`
	FreshSeconds int64             `json:"freshSeconds"`
	Do           string            `json:"do"`
	Doc          string            `json:"doc"`
	Result       *readiness.Result `json:"result,omitempty"`
}

func explainedOf(c readiness.Check, r *readiness.Result) explained {
	return explained{c.ID, c.Topic, c.Level, c.Title, int64(c.Fresh / time.Second), c.Do, "docs/" + c.Doc, r}
}

func (a *app) listChecks() error {
	var rows [][]string
	var all []explained
	for _, c := range readiness.All() {
		all = append(all, explainedOf(c, nil))
		rows = append(rows, []string{c.ID, string(c.Topic), string(c.Level), c.Title})
	}
	if a.asJSON {
		return jsonList(a, all, "")
	}
	return a.table([]string{"CHECK", "TOPIC", "LEVEL", "WHAT MUST BE SO"}, rows)
}

func (a *app) explain(c readiness.Check, r *readiness.Result) error {
	if a.asJSON {
		return a.json(explainedOf(c, r))
	}
	rows := [][]string{
		{"check", c.ID}, {"topic", string(c.Topic)}, {"level", string(c.Level)}, {"what must be so", c.Title},
		{"evidence counts for", strings.TrimSuffix(ago(c.Fresh), " ago")}, {"remedy", c.Do}, {"how", "docs/" + c.Doc},
	}
	if r != nil {
		rows = append(rows, []string{"state", string(r.State)}, []string{"found", r.Summary}, []string{"owner", cmp.Or(r.Owner, "nobody")})
		for _, e := range r.Evidence {
			rows = append(rows, []string{"evidence: " + e.What, e.Value})
		}
		if r.StaleAt != nil {
			rows = append(rows, []string{"stale", a.when(r.StaleAt)})
		}
	}
	return a.table(nil, rows)
}

func (a *app) readinessAnswer() *cobra.Command {
	var environment, owner, until string
	var no bool
	var reason string
	cmd := a.read(&cobra.Command{
		Use: "answer CHECK --environment ENVIRONMENT", Short: "Answer a check for which there is no evidence, for a while", Args: cobra.ExactArgs(1),
		Long:    "Answer a check for which there is no evidence, for a while. Somebody answers for it, says why\nand until when. What was found wrong no answer makes right.",
		Example: "  slipway readiness answer S4 --environment production --owner mia --until 2160h --reason \"tried by hand on 3 November, minutes in OPS-12\"\n  slipway readiness answer R1 --environment production --not-applicable --owner mia --until 2027-06-30 --reason \"the devices are bought\"",
		RunE: a.call(func(ctx context.Context, c *client.Client, args []string) error {
			end, err := a.untilOf(until)
			if err != nil {
				return err
			}
			got, err := c.AnswerReadiness(ctx, environment, strings.ToUpper(args[0]), client.ReadinessAnswer{Applies: !no, Owner: owner, Reason: reason, Until: end})
			if err != nil {
				return err
			}
			if a.asJSON {
				return a.json(got)
			}
			return a.print("%s in %s\tanswered by %s until %s\n", got.Check, got.Environment, clean(got.Owner), got.Until.Format(time.DateOnly))
		}),
	})
	cmd.Flags().StringVar(&environment, "environment", "", "where")
	cmd.Flags().StringVar(&owner, "owner", "", "who answers for it")
	cmd.Flags().StringVar(&until, "until", "", "until when: a day such as 2027-06-30, or a span such as 720h")
	cmd.Flags().BoolVar(&no, "not-applicable", false, "the check is about nothing here")
	because(cmd, &reason)
	for _, flag := range []string{"environment", "owner", "until"} {
		required(cmd, flag)
	}
	a.complete(cmd, "environment", environments)
	return cmd
}

// untilOf reads a day or a span from now.
func (a *app) untilOf(text string) (time.Time, error) {
	if ahead, err := time.ParseDuration(text); err == nil {
		return a.now().Add(ahead), nil
	}
	for _, layout := range []string{time.DateOnly, time.RFC3339} {
		if at, err := time.Parse(layout, text); err == nil {
			return at, nil
		}
	}
	return time.Time{}, usage("--until is a day such as 2027-06-30, or a span such as 720h, not %q", text)
}

func (a *app) readinessWithdraw() *cobra.Command {
	var environment string
	cmd := &cobra.Command{
		Use: "withdraw CHECK --environment ENVIRONMENT", Short: "Take the answer to a check back", Args: cobra.ExactArgs(1),
		Example: "  slipway readiness withdraw S4 --environment production",
		RunE: a.call(func(ctx context.Context, c *client.Client, args []string) error {
			return c.WithdrawReadiness(ctx, environment, strings.ToUpper(args[0]))
		}),
	}
	cmd.Flags().StringVar(&environment, "environment", "", "where")
	required(cmd, "environment")
	return cmd
}

func (a *app) readinessOwn() *cobra.Command {
	var names []string
	for _, t := range readiness.Topics {
		names = append(names, string(t.Topic))
	}
	return &cobra.Command{
		Use: "own TOPIC [OWNER]", Short: "Say who answers for a topic; nobody, without OWNER", Args: cobra.RangeArgs(1, 2), ValidArgs: names,
		Long:    "Say who answers for a topic: " + strings.Join(names, ", ") + ".",
		Example: "  slipway readiness own operations mia\n  slipway readiness own security \"the security team\"",
		RunE: a.call(func(ctx context.Context, c *client.Client, args []string) error {
			return c.OwnReadiness(ctx, args[0], strings.Join(args[1:], ""))
		}),
	}
}

func (a *app) readinessHistory() *cobra.Command {
	var days int
	cmd := a.read(&cobra.Command{
		Use: "history ENVIRONMENT", Short: "Tell how ready an environment was", Args: cobra.ExactArgs(1),
		Example: "  slipway readiness history production --days 90",
		RunE: a.call(func(ctx context.Context, c *client.Client, args []string) error {
			all, err := c.ReadinessHistory(ctx, args[0], days)
			if err != nil {
				return err
			}
			if a.asJSON {
				return jsonList(a, all, "")
			}
			rows := make([][]string, len(all))
			for i, p := range all {
				rows[i] = []string{p.At.Format(time.RFC3339), fmt.Sprint(p.Score), yesNo(p.Ready), fmt.Sprint(p.Blocked)}
			}
			return a.table([]string{"AT", "SCORE", "READY", "BLOCKED"}, rows)
		}),
	})
	cmd.Flags().IntVar(&days, "days", 30, "how far back")
	return cmd
}

func (a *app) calendar() *cobra.Command {
	var environment, feed string
	var days int
	cmd := a.read(&cobra.Command{
		Use: "calendar", Short: "Tell what will run out: certificates, grants, answers, drills, room…", Args: cobra.NoArgs,
		Long:    "Tell what is known to run out or to come, and what was missed: certificates and signed\nmetadata, tokens, grants and reviews, answers and evidence of readiness, drills, waivers,\nfreezes, flags that are to go, room for devices, and the end of support.\n\nExit codes: 0 nothing was missed, 3 something was.",
		Example: "  slipway calendar\n  slipway calendar --environment production --days 30\n  slipway calendar --ics slipway.ics",
		RunE: a.call(func(ctx context.Context, c *client.Client, _ []string) error {
			if feed != "" {
				return a.written(feed, func(to io.Writer) error { return c.CalendarFeed(ctx, environment, days, to) })
			}
			all, err := c.Calendar(ctx, environment, days)
			if err != nil {
				return err
			}
			return a.showCalendar(all)
		}),
	})
	cmd.Flags().StringVar(&environment, "environment", "", "only what is about this environment, or about all")
	cmd.Flags().IntVar(&days, "days", 180, "how far ahead")
	cmd.Flags().StringVar(&feed, "ics", "", "write it to this file as iCalendar, for calendar programs")
	a.complete(cmd, "environment", environments)
	return cmd
}

func (a *app) showCalendar(all []readiness.Date) (err error) {
	missed := slices.ContainsFunc(all, func(d readiness.Date) bool { return d.Overdue })
	if a.asJSON {
		err = jsonList(a, all, "")
	} else {
		rows := make([][]string, len(all))
		for i, d := range all {
			note := ""
			switch {
			case d.Overdue:
				note = "missed"
			case d.Renews:
				note = "renews itself"
			}
			rows[i] = []string{d.At.Format(time.DateOnly), d.Kind, d.What, cmp.Or(d.Owner, "nobody"), note}
		}
		err = a.table([]string{"DAY", "KIND", "WHAT", "OWNER", ""}, rows)
	}
	if err == nil && missed {
		return answer(exitNo)
	}
	return err
}
