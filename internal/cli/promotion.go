package cli

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/slipway/slipway/internal/client"
	"github.com/slipway/slipway/internal/control/promotion"
	"github.com/slipway/slipway/internal/control/rollout"
	"github.com/slipway/slipway/internal/problem"
)

// The exit codes of what waits for a promotion.
const (
	exitStays = 3 // it waits for something, or was not done in time
	exitEnded = 4 // it failed, was rolled back, aborted or superseded
)

func (a *app) promotion() *cobra.Command {
	group := a.group("promotion", "Take releases from environment to environment", "A release asks to enter an environment. It waits for what must be true there, comes\nonto stamps and devices by a rollout, and is verified; then the next environment may take it.",
		a.promotionStart(), a.promotionList(), a.promotionShow(), a.promotionSay("approve", "Agree to a promotion that waits; who asked for it cannot"),
		a.promotionSay("reject", "Keep its release out of the environment, until that is lifted"), a.promotionSay("retry", "Ask once more for the release of a promotion that has ended"),
		a.promotionAbort(), a.promotionHold(), a.promotionReleaseHold(), a.promotionHolds(), a.promotionLift(), a.promotionRejections(), a.promotionVerify(), a.waive())
	group.Aliases = []string{"promotions"}
	return group
}

// patience is how a command waits for a promotion.
type patience struct {
	wait    bool
	timeout time.Duration
	report  string
}

func (p *patience) flags(cmd *cobra.Command) {
	cmd.Flags().BoolVar(&p.wait, "wait", false, "wait until the promotion has ended: exit code 0 it succeeded, 3 it still waits, 4 it did not")
	cmd.Flags().DurationVar(&p.timeout, "timeout", time.Hour, "how long to wait")
	cmd.Flags().StringVar(&p.report, "report", "", "with --wait: file to write a JUnit report to, of which each gate is a test")
}

func (a *app) promotionStart() *cobra.Command {
	var to, reason string
	var how patience
	cmd := a.read(&cobra.Command{
		Use: "start RELEASE --to ENVIRONMENT", Short: "Ask for a release to enter an environment",
		Long: "Ask for a release to enter an environment. It takes the place of one that waits there,\n" +
			"and waits for one that runs. Asked for again before it has ended it is the same promotion,\n" +
			"which goes on whatever becomes of this command.\n\n" +
			"Exit codes with --wait: 0 succeeded; 3 still waiting or running after --timeout; 4 failed,\n" +
			"rolled back, rejected, aborted or superseded, or paused by a failed wave.",
		Example: "  slipway promotion start v1.4.0 --to staging --wait\n  slipway promotion start v1.4.0 --to production --reason \"CHG-1207\" --wait --timeout 4h",
		Args:    cobra.ExactArgs(1),
		RunE: a.call(func(ctx context.Context, c *client.Client, args []string) error {
			p, err := c.StartPromotion(ctx, to, args[0], reason)
			if err != nil {
				return err
			}
			return a.followPromotion(ctx, c, p.ID, how)
		}),
	})
	cmd.Flags().StringVar(&to, "to", "", "environment that it is to enter")
	cmd.Flags().StringVar(&reason, "reason", "", "why, for those who approve it and for the audit log")
	how.flags(cmd)
	required(cmd, "to")
	a.complete(cmd, "to", environments)
	return cmd
}

// followEvery is how often a promotion is looked at.
const followEvery = 500 * time.Millisecond

// followPromotion shows a promotion, after waiting for it if that is wanted.
func (a *app) followPromotion(ctx context.Context, c *client.Client, id string, how patience) error {
	d, err := c.Promotion(ctx, id)
	if err != nil {
		return err
	}
	if how.wait {
		limited, cancel := context.WithTimeout(ctx, how.timeout)
		defer cancel()
		if d, err = a.watchPromotion(limited, c, d); err != nil && limited.Err() == nil || ctx.Err() != nil {
			return err
		}
	}
	if err := a.showPromotion(d); err != nil || !how.wait {
		return err
	}
	if err := a.tellCI(d, how.report); err != nil {
		return err
	}
	return a.judgePromotion(d)
}

// watchPromotion follows a promotion until it has ended, or is stopped by a
// wave that failed, and tells what happens meanwhile.
func (a *app) watchPromotion(ctx context.Context, c *client.Client, d promotion.Dossier) (promotion.Dossier, error) {
	defer a.progress("")
	tick := time.NewTicker(followEvery)
	defer tick.Stop()
	said := ""
	for !d.State.Over() && !halted(d) {
		line := promotionLine(d)
		if a.errTTY {
			a.progress(line)
		} else if line != said {
			a.note("%s\n", clean(line))
		}
		said = line
		select {
		case <-ctx.Done():
			return d, ctx.Err()
		case <-tick.C:
		}
		now, err := c.Promotion(ctx, d.ID)
		switch {
		case err == nil:
			d = now
		case ctx.Err() != nil:
			return d, ctx.Err()
		case !problem.Is(err, problem.NotReady) && !problem.Is(err, problem.TimedOut):
			return d, err
		}
	}
	return d, nil
}

// halted reports whether a promotion goes on only if somebody decides so.
func halted(d promotion.Dossier) bool {
	return d.View != nil && d.View.State == rollout.Paused && d.View.Cause != nil && d.View.Cause.Failed
}

// promotionLine says in one line where a promotion stands.
func promotionLine(d promotion.Dossier) string {
	line := fmt.Sprintf("%s: %s to %s is %s", d.ID, d.Release, d.Environment, d.State)
	if len(d.Blocks) > 0 {
		line += ": " + d.Blocks[0].Reason
	}
	if d.View == nil {
		return line
	}
	for _, s := range d.View.Details {
		if s.State != rollout.Moving {
			continue
		}
		n := s.Reached
		line += fmt.Sprintf("; %s wave %d of %d: %d updated, %d pending, %d failed, %d unreachable", s.Stamp, s.Wave, s.Waves, n.Updated, n.Pending, n.Failures(), n.Unreachable)
	}
	return line
}

func (a *app) judgePromotion(d promotion.Dossier) error {
	switch {
	case d.State == promotion.Succeeded:
		return nil
	case d.State.Over(), halted(d):
		return answer(exitEnded)
	}
	return answer(exitStays)
}

func (a *app) showPromotion(d promotion.Dossier) error {
	if a.asJSON {
		return a.json(d)
	}
	if err := a.print("%s: %s to %s is %s\n", d.ID, d.Release, d.Environment, d.State); err != nil {
		return err
	}
	if d.Outcome != "" {
		if err := a.print("because\t%s\n", clean(d.Outcome)); err != nil {
			return err
		}
	}
	for _, b := range d.Blocks {
		until := ""
		if b.Next != nil {
			until = "; it may change " + a.when(b.Next)
		}
		if err := a.print("%s\t%s%s\n", b.Rule, clean(b.Reason), until); err != nil {
			return err
		}
	}
	for _, g := range append(append([]gateResult{}, d.Gates...), d.Verdicts...) {
		if err := a.print("gate %s\t%s\t%s\n", g.Gate, g.Verdict, clean(g.Reason)); err != nil {
			return err
		}
	}
	if d.View == nil {
		return nil
	}
	return a.table(rolloutHeader, rolloutRows(*d.View))
}

func (a *app) promotionList() *cobra.Command {
	var environment string
	cmd := a.read(&cobra.Command{
		Use: "list", Short: "List the newest promotions", Args: cobra.NoArgs,
		RunE: a.call(func(ctx context.Context, c *client.Client, _ []string) error {
			all, err := c.Promotions(ctx, environment)
			if err != nil {
				return err
			}
			if a.asJSON {
				return jsonList(a, all, "")
			}
			rows := make([][]string, len(all))
			for i, p := range all {
				why := p.Outcome
				if len(p.Blocks) > 0 {
					why = p.Blocks[0].Reason
				}
				rows[i] = []string{p.ID, p.Release, p.Environment, string(p.State), p.By, a.when(&p.CreatedAt), why}
			}
			return a.table([]string{"PROMOTION", "RELEASE", "TO", "STATE", "BY", "ASKED", "WHY"}, rows)
		}),
	})
	cmd.Flags().StringVar(&environment, "environment", "", "only those into this environment")
	a.complete(cmd, "environment", environments)
	return cmd
}

func (a *app) promotionShow() *cobra.Command {
	var how patience
	cmd := a.read(&cobra.Command{
		Use: "show ID", Short: "Show a promotion: what keeps it, its gates with their evidence, its rollout", Args: cobra.ExactArgs(1),
		RunE: a.call(func(ctx context.Context, c *client.Client, args []string) error {
			return a.followPromotion(ctx, c, args[0], how)
		}),
	})
	how.flags(cmd)
	return cmd
}

// because gives a command the reason that it must be given.
func because(cmd *cobra.Command, reason *string) {
	cmd.Flags().StringVar(reason, "reason", "", "why, for others and for the audit log")
	required(cmd, "reason")
}

func (a *app) promotionSay(verb, short string) *cobra.Command {
	var reason string
	cmd := a.read(&cobra.Command{
		Use: verb + " ID", Short: short, Args: cobra.ExactArgs(1), Example: fmt.Sprintf("  slipway promotion %s promotion-12 --reason \"the tests were repeated\"", verb),
		RunE: a.call(func(ctx context.Context, c *client.Client, args []string) error {
			p, err := c.SayOfPromotion(ctx, args[0], verb, reason)
			if err != nil {
				return err
			}
			return a.followPromotion(ctx, c, p.ID, patience{})
		}),
	})
	because(cmd, &reason)
	return cmd
}

func (a *app) promotionAbort() *cobra.Command {
	var how client.Abortion
	cmd := a.read(&cobra.Command{
		Use: "abort ID", Short: "End a promotion; one that runs is taken back", Args: cobra.ExactArgs(1),
		RunE: a.call(func(ctx context.Context, c *client.Client, args []string) error {
			p, err := c.AbortPromotion(ctx, args[0], how)
			if err != nil {
				return err
			}
			return a.followPromotion(ctx, c, p.ID, patience{})
		}),
	})
	abortFlags(cmd, &how)
	return cmd
}

func abortFlags(cmd *cobra.Command, how *client.Abortion) {
	because(cmd, &how.Reason)
	cmd.Flags().BoolVar(&how.Leave, "leave", false, "leave devices as they are, instead of taking them back")
	cmd.Flags().BoolVar(&how.Force, "force", false, "go back though the release does not lead back safely")
}

func (a *app) rollback() *cobra.Command {
	var environment, to, reason string
	var force bool
	how := patience{}
	cmd := a.read(&cobra.Command{
		Use: "rollback --environment ENVIRONMENT", Short: "Take an environment back to the release before, at once and everywhere",
		Long: "Take an environment back: from the release on its way, if one is, or else from the one it\n" +
			"runs to the one before, or to one that is named and ran well there. Every stamp is told at\n" +
			"once, without waves; the release is rejected in the environment, and what waits for it\n" +
			"downstream is cancelled. It needs no gate, and keeps to freezes that do not exempt it.",
		Example: "  slipway rollback --environment production --reason \"orders are lost\"\n  slipway rollback --environment production --to v1.2.0 --reason \"v1.3.x leaks memory\" --wait",
		Args:    cobra.NoArgs,
		RunE: a.call(func(ctx context.Context, c *client.Client, _ []string) error {
			p, err := c.Rollback(ctx, environment, to, reason, force)
			if err != nil {
				return err
			}
			if !p.Back && how.wait {
				how.wait = false
				if _, err := a.awaitEnd(ctx, c, p.ID, how.timeout); err != nil {
					return err
				}
			}
			return a.followPromotion(ctx, c, p.ID, how)
		}),
	})
	cmd.Flags().StringVar(&environment, "environment", "", "environment to take back")
	cmd.Flags().StringVar(&to, "to", "", "a release that ran well there; default the one before")
	cmd.Flags().BoolVar(&force, "force", false, "go back though the release that runs does not lead back safely")
	because(cmd, &reason)
	how.flags(cmd)
	required(cmd, "environment")
	a.complete(cmd, "environment", environments)
	return cmd
}

// awaitEnd waits until a promotion has ended, however: here that it is taken
// back is what is wanted.
func (a *app) awaitEnd(ctx context.Context, c *client.Client, id string, timeout time.Duration) (promotion.Dossier, error) {
	limited, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	d, err := c.Promotion(limited, id)
	if err != nil {
		return d, err
	}
	return a.watchPromotion(limited, c, d)
}

func (a *app) promotionHold() *cobra.Command {
	var environment, reason string
	var all bool
	var life time.Duration
	cmd := a.read(&cobra.Command{
		Use: "hold --environment ENVIRONMENT", Short: "Keep releases out of an environment that nobody asks for, or all", Args: cobra.NoArgs,
		Example: "  slipway promotion hold --environment production --reason \"the customer's audit\" --for 48h",
		RunE: a.call(func(ctx context.Context, c *client.Client, _ []string) error {
			h, err := c.SetHold(ctx, environment, reason, all, life)
			if err != nil {
				return err
			}
			return a.showHolds([]promotion.Hold{h})
		}),
	})
	cmd.Flags().StringVar(&environment, "environment", "", "environment to hold")
	cmd.Flags().BoolVar(&all, "all", false, "also releases that somebody asks for")
	cmd.Flags().DurationVar(&life, "for", 0, "how long; default until it is ended")
	because(cmd, &reason)
	required(cmd, "environment")
	a.complete(cmd, "environment", environments)
	return cmd
}

func (a *app) showHolds(all []promotion.Hold) error {
	if a.asJSON {
		return jsonList(a, all, "")
	}
	rows := make([][]string, len(all))
	for i, h := range all {
		rows[i] = []string{h.ID, h.Environment, h.Owner, yesNo(h.All), a.when(&h.At), a.when(h.Until), h.Reason}
	}
	return a.table([]string{"HOLD", "ENVIRONMENT", "OWNER", "ALL", "SINCE", "UNTIL", "REASON"}, rows)
}

func (a *app) promotionHolds() *cobra.Command {
	var environment string
	cmd := a.read(&cobra.Command{
		Use: "holds", Short: "List the holds that hold", Args: cobra.NoArgs,
		RunE: a.call(func(ctx context.Context, c *client.Client, _ []string) error {
			all, err := c.Holds(ctx, environment)
			if err != nil {
				return err
			}
			return a.showHolds(all)
		}),
	})
	cmd.Flags().StringVar(&environment, "environment", "", "only those of this environment")
	return cmd
}

func (a *app) promotionReleaseHold() *cobra.Command {
	return a.read(&cobra.Command{
		Use: "release-hold HOLD", Short: "End a hold", Args: cobra.ExactArgs(1),
		RunE: a.call(func(ctx context.Context, c *client.Client, args []string) error {
			h, err := c.EndHold(ctx, args[0])
			if err != nil {
				return err
			}
			return a.showHolds([]promotion.Hold{h})
		}),
	})
}

func (a *app) promotionLift() *cobra.Command {
	var environment, reason string
	cmd := a.read(&cobra.Command{
		Use: "lift RELEASE --environment ENVIRONMENT", Short: "Let a rejected release enter again, if it passes what others pass", Args: cobra.ExactArgs(1),
		RunE: a.call(func(ctx context.Context, c *client.Client, args []string) error {
			r, err := c.LiftRejection(ctx, environment, args[0], reason)
			if err != nil {
				return err
			}
			if a.asJSON {
				return a.json(r)
			}
			return a.print("%s may enter %s again\n", r.Release, r.Environment)
		}),
	})
	cmd.Flags().StringVar(&environment, "environment", "", "where it was rejected")
	because(cmd, &reason)
	required(cmd, "environment")
	return cmd
}

func (a *app) promotionRejections() *cobra.Command {
	var environment string
	cmd := a.read(&cobra.Command{
		Use: "rejections", Short: "List the releases that are kept out of environments", Args: cobra.NoArgs,
		RunE: a.call(func(ctx context.Context, c *client.Client, _ []string) error {
			all, err := c.Rejections(ctx, environment)
			if err != nil {
				return err
			}
			if a.asJSON {
				return jsonList(a, all, "")
			}
			rows := make([][]string, len(all))
			for i, r := range all {
				rows[i] = []string{r.Environment, r.Release, r.By, a.when(&r.At), r.Reason}
			}
			return a.table([]string{"ENVIRONMENT", "RELEASE", "BY", "SINCE", "REASON"}, rows)
		}),
	})
	cmd.Flags().StringVar(&environment, "environment", "", "only those of this environment")
	return cmd
}

func (a *app) promotionVerify() *cobra.Command {
	var environment, reason string
	var failed bool
	cmd := a.read(&cobra.Command{
		Use: "verify --environment ENVIRONMENT", Short: "Look once more at what an environment runs; if it fails, what waits for it downstream is cancelled", Args: cobra.NoArgs,
		Example: "  slipway promotion verify --environment staging --reason \"the nightly load test\"\n  slipway promotion verify --environment staging --failed --reason \"memory grows by 2 % an hour\"",
		RunE: a.call(func(ctx context.Context, c *client.Client, _ []string) error {
			v, err := c.VerifyEnvironment(ctx, environment, reason, failed)
			if err != nil {
				return err
			}
			if a.asJSON {
				return a.json(v)
			}
			outcome := "failed"
			if v.Passed {
				outcome = "passed"
			}
			if err := a.print("%s in %s\t%s\t%s\n", v.Release, v.Environment, outcome, clean(v.Reason)); err != nil || v.Passed || failed {
				return err
			}
			return answer(exitNo)
		}),
	})
	cmd.Flags().StringVar(&environment, "environment", "", "whose release")
	cmd.Flags().BoolVar(&failed, "failed", false, "say that it was found wanting")
	because(cmd, &reason)
	required(cmd, "environment")
	return cmd
}

func (a *app) waive() *cobra.Command {
	var environment string
	var r client.WaiverRequest
	var life time.Duration
	cmd := a.read(&cobra.Command{
		Use: "waive RELEASE --environment ENVIRONMENT", Short: "Ask that a release may enter once though it was not verified before: a hotfix",
		Long:    "Ask that a release may enter an environment once though it was not verified before. It\ncounts once others agree, is used up by the promotion that needs it, and owes a review.",
		Example: "  slipway promotion waive v1.4.1 --environment production --class incident --ticket INC-812 --reason \"pumps stand still\"\n  slipway promotion waive approve waiver-7\n  slipway promotion waive list --owed",
		Args:    cobra.ExactArgs(1),
		RunE: a.call(func(ctx context.Context, c *client.Client, args []string) error {
			r.Release, r.ExpiresInSeconds = args[0], int64(life/time.Second)
			w, err := c.AskWaiver(ctx, environment, r)
			if err != nil {
				return err
			}
			return a.showWaivers([]promotion.Waiver{w})
		}),
	})
	flags := cmd.Flags()
	flags.StringVar(&environment, "environment", "", "environment that it may enter")
	flags.StringVar(&r.Class, "class", "", "what makes it needed: "+strings.Join(promotion.Classes, ", "))
	flags.StringVar(&r.Ticket, "ticket", "", "where it is followed up")
	flags.StringSliceVar(&r.Gates, "gate", nil, "a gate that is waived too; may be repeated")
	flags.DurationVar(&life, "for", 24*time.Hour, "how long it can be used")
	because(cmd, &r.Reason)
	for _, flag := range []string{"environment", "class", "ticket"} {
		required(cmd, flag)
	}
	cmd.AddCommand(a.waiveApprove(), a.waiveReview(), a.waiveList())
	return cmd
}

func (a *app) waiveApprove() *cobra.Command {
	return a.read(&cobra.Command{
		Use: "approve WAIVER", Short: "Agree to a waiver that somebody else asked for", Args: cobra.ExactArgs(1),
		RunE: a.call(func(ctx context.Context, c *client.Client, args []string) error {
			w, err := c.ApproveWaiver(ctx, args[0])
			if err != nil {
				return err
			}
			return a.showWaivers([]promotion.Waiver{w})
		}),
	})
}

func (a *app) waiveReview() *cobra.Command {
	var found string
	cmd := a.read(&cobra.Command{
		Use: "review WAIVER", Short: "Say what was found when a waiver that was used was looked at", Args: cobra.ExactArgs(1),
		RunE: a.call(func(ctx context.Context, c *client.Client, args []string) error {
			w, err := c.ReviewWaiver(ctx, args[0], found)
			if err != nil {
				return err
			}
			return a.showWaivers([]promotion.Waiver{w})
		}),
	})
	cmd.Flags().StringVar(&found, "found", "", "what was found")
	required(cmd, "found")
	return cmd
}

func (a *app) waiveList() *cobra.Command {
	var environment string
	var owed bool
	cmd := a.read(&cobra.Command{
		Use: "list", Short: "List waivers", Args: cobra.NoArgs,
		RunE: a.call(func(ctx context.Context, c *client.Client, _ []string) error {
			all, err := c.Waivers(ctx, environment, owed)
			if err != nil {
				return err
			}
			return a.showWaivers(all)
		}),
	})
	cmd.Flags().StringVar(&environment, "environment", "", "only those of this environment")
	cmd.Flags().BoolVar(&owed, "owed", false, "only those that somebody must still review")
	return cmd
}

func (a *app) showWaivers(all []promotion.Waiver) error {
	if a.asJSON {
		return jsonList(a, all, "")
	}
	rows := make([][]string, len(all))
	for i, w := range all {
		review := w.ReviewedBy
		if w.Owed() {
			review = "owed"
		}
		rows[i] = []string{w.ID, w.Environment, w.Release, w.Class, w.Ticket, w.By, fmt.Sprintf("%d of %d", len(w.Approvals), w.Needs), a.when(&w.Until), w.UsedBy, review}
	}
	return a.table([]string{"WAIVER", "ENVIRONMENT", "RELEASE", "CLASS", "TICKET", "BY", "APPROVED", "UNTIL", "USED BY", "REVIEW"}, rows)
}
