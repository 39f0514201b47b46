package cli

import (
	"context"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/slipway/slipway/internal/client"
	"github.com/slipway/slipway/internal/control/drift"
	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/resource"
)

// drift is `slipway drift`.
func (a *app) drift() *cobra.Command {
	group := a.group("drift", "Where what is so is not what is declared, and who answers for it", `  slipway drift list --environment production     # exits 3 if anything is open
  slipway drift accept 4f1c… --owner ann --reason "until the new region is there" --for 14d
  slipway drift devices`,
		a.driftList(), a.driftDevices(), a.driftAccept(), a.driftAccepted(), a.driftRetract())
	return group
}

func (a *app) driftList() *cobra.Command {
	var environment string
	var all bool
	cmd := a.read(&cobra.Command{
		Use: "list", Short: "List differences; exits 3 if any is open, 6 if nobody looked lately", Args: cobra.NoArgs,
		Long: "List where what is so is not what is declared. Open are those that are changed, missing,\nunmanaged or stale; --all lists those, too, that are pending or accepted.",
		RunE: a.call(func(ctx context.Context, c *client.Client, _ []string) error {
			page, err := c.Drift(ctx, environment)
			if err != nil {
				return err
			}
			open, rows := 0, [][]string{}
			for _, f := range page.Findings {
				if f.Class.Open() {
					open++
				}
				if f.Class.Open() || all {
					since := f.Since
					rows = append(rows, []string{f.ID, f.Environment, string(f.Class), f.Object, f.Path, f.Text, a.when(&since)})
				}
			}
			if a.asJSON {
				err = a.json(page)
			} else {
				err = a.table([]string{"ID", "ENVIRONMENT", "CLASS", "OBJECT", "AT", "WHAT", "SINCE"}, rows)
			}
			switch {
			case err != nil:
				return err
			case page.At.IsZero() || page.Unseen:
				return problem.New(problem.NotReady, "nobody has looked lately, so this says nothing of now")
			case open > 0:
				return answer(exitNo)
			}
			return nil
		}),
	})
	cmd.Flags().StringVar(&environment, "environment", "", "only this one's")
	cmd.Flags().BoolVar(&all, "all", false, "those, too, that are pending or accepted")
	a.complete(cmd, "environment", environments)
	return cmd
}

func (a *app) driftDevices() *cobra.Command {
	var environment string
	cmd := a.read(&cobra.Command{
		Use: "devices", Short: "Tell how twins are, by stamp and model: what devices report beside what is desired", Args: cobra.NoArgs,
		Long: "Tell how twins are, by stamp and model. A page of twins of each stamp is read every ten\nseconds; WHOLE says that all were, in the last pass.",
		RunE: a.call(func(ctx context.Context, c *client.Client, _ []string) error {
			all, err := c.DeviceDrift(ctx, environment)
			if err != nil {
				return err
			}
			if a.asJSON {
				return jsonList(a, all, "")
			}
			rows := make([][]string, len(all))
			number := func(n int64) string { return strconv.FormatInt(n, 10) }
			for i, r := range all {
				rows[i] = []string{r.Stamp, r.Model, number(r.Looked), number(r.Same), number(r.Changed), number(r.Missing), number(r.Pending), yesNo(r.Whole), a.when(&r.At)}
			}
			return a.table([]string{"STAMP", "MODEL", "LOOKED AT", "AS DESIRED", "CHANGED", "MISSING", "PENDING", "WHOLE", "AT"}, rows)
		}),
	})
	cmd.Flags().StringVar(&environment, "environment", "", "only this one's")
	a.complete(cmd, "environment", environments)
	return cmd
}

// answering are the flags by which somebody answers for something for a time.
type answering struct {
	owner, reason, span string
}

func (w *answering) flags(cmd *cobra.Command) {
	cmd.Flags().StringVar(&w.owner, "owner", "", "who answers for it (required)")
	cmd.Flags().StringVar(&w.reason, "reason", "", "why it may be (required)")
	cmd.Flags().StringVar(&w.span, "for", "", "how long, such as 12h or 30d; then it alarms again (required)")
}

func (w *answering) lasting() (time.Duration, error) {
	if w.owner == "" || w.reason == "" || w.span == "" {
		return 0, usage("say --owner NAME, --reason TEXT and --for TIME")
	}
	lasting := resource.Span(w.span).Duration(0)
	if lasting <= 0 {
		return 0, usage("--for reads 12h or 30d, not %q", w.span)
	}
	return lasting, nil
}

func (a *app) driftAccept() *cobra.Command {
	var who answering
	cmd := a.read(&cobra.Command{
		Use: "accept ID --owner NAME --reason TEXT --for TIME", Short: "Answer for a difference, with the value it has now, for a time", Args: cobra.ExactArgs(1),
		Long: "Answer for a difference, with the value it has now, for a time. Another value alarms, and so\ndoes this one when the time is over.",
		RunE: a.call(func(ctx context.Context, c *client.Client, args []string) error {
			lasting, err := who.lasting()
			if err != nil {
				return err
			}
			page, err := c.Drift(ctx, "")
			if err != nil {
				return err
			}
			environment := ""
			for _, f := range page.Findings {
				if f.ID == args[0] {
					environment = f.Environment
				}
			}
			acceptance, err := c.AcceptDrift(ctx, environment, args[0], who.owner, who.reason, lasting)
			return a.accepted(acceptance, err)
		}),
	})
	who.flags(cmd)
	return cmd
}

func (a *app) accepted(acceptance drift.Acceptance, err error) error {
	if err != nil {
		return err
	}
	if a.asJSON {
		return a.json(acceptance)
	}
	return a.print("%s: %s answers for %s %s until %s\n", acceptance.ID, acceptance.Owner, acceptance.Object, acceptance.Path, acceptance.Until.Format(time.RFC3339))
}

func (a *app) driftAccepted() *cobra.Command {
	return a.read(&cobra.Command{
		Use: "accepted", Short: "List the differences that somebody answers for", Args: cobra.NoArgs,
		RunE: a.call(func(ctx context.Context, c *client.Client, _ []string) error {
			all, err := c.Acceptances(ctx)
			if err != nil {
				return err
			}
			if a.asJSON {
				return jsonList(a, all, "")
			}
			rows := make([][]string, len(all))
			for i, one := range all {
				rows[i] = []string{one.ID, one.Environment, one.Object, one.Path, string(one.Value), one.Owner, one.Reason, a.when(&one.Until)}
			}
			return a.table([]string{"ID", "ENVIRONMENT", "OBJECT", "AT", "VALUE", "OWNER", "REASON", "UNTIL"}, rows)
		}),
	})
}

func (a *app) driftRetract() *cobra.Command {
	return &cobra.Command{
		Use: "retract ACCEPTANCE", Short: "Take an acceptance back: what it was of alarms again", Args: cobra.ExactArgs(1),
		RunE: a.call(func(ctx context.Context, c *client.Client, args []string) error {
			if err := c.RetractAcceptance(ctx, args[0]); err != nil {
				return err
			}
			return a.print("%s retracted\n", args[0])
		}),
	}
}

// parity is `slipway parity`.
func (a *app) parity() *cobra.Command {
	var least float64
	var who answering
	var at string
	cmd := a.read(&cobra.Command{
		Use: "parity FROM TO", Short: "Tell how alike two environments are, and why not; exits 3 below --at-least", Args: cobra.ExactArgs(2),
		Long: "Tell how alike two environments are: what is equal, what differs and is meant to, and what\nnobody explains. With --accept PATH somebody answers for one of these for a time.",
		Example: `  slipway parity staging production --at-least 0.95
  slipway parity staging production --accept "limits.eu-1.connections" --owner ann --reason "a smaller machine" --for 90d`,
		RunE: a.call(func(ctx context.Context, c *client.Client, args []string) error {
			if at != "" {
				lasting, err := who.lasting()
				if err != nil {
					return err
				}
				acceptance, err := c.AcceptParity(ctx, args[0], args[1], at, who.owner, who.reason, lasting)
				return a.accepted(acceptance, err)
			}
			r, err := c.Parity(ctx, args[0], args[1])
			if err != nil {
				return err
			}
			if err := a.showParity(r); err != nil {
				return err
			}
			if r.Score < least {
				return answer(exitNo)
			}
			return nil
		}),
	})
	cmd.Flags().Float64Var(&least, "at-least", 0, "the least score, 0 to 1")
	cmd.Flags().StringVar(&at, "accept", "", "answer for what differs there")
	who.flags(cmd)
	return cmd
}

func (a *app) showParity(r drift.Report) error {
	if a.asJSON {
		return a.json(r)
	}
	if err := a.print("%s is like %s by %.3f: %d places compared, %d unexplained, as of %s\n", r.From, r.To, r.Score, r.Compared(), len(r.Unexplained()), a.when(&r.At)); err != nil {
		return err
	}
	rows := make([][]string, len(r.Items))
	for i, item := range r.Items {
		rows[i] = []string{string(item.Standing), item.Path, shortly(item.From), shortly(item.To), item.Reason}
	}
	if err := a.table([]string{"STANDING", "AT", r.From, r.To, "WHY"}, rows); err != nil {
		return err
	}
	for _, gap := range r.Gaps {
		a.note("not seen: %s\n", gap)
	}
	return nil
}
