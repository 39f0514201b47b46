package cli

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/slipway/slipway/internal/client"
	"github.com/slipway/slipway/internal/control/grant"
)

func (a *app) accessReview() *cobra.Command {
	group := a.group("access-review", "Look at who may do what in an environment, and take away what is not needed",
		"A review lists the rights that people have for good, with what of them was not used, and\nthe grants since the last one. Each right is kept or removed, by somebody whose own it is not.",
		a.accessReviewOpen(), a.accessReviewList(), a.accessReviewShow(), a.accessReviewDecide(grant.Keep, "Confirm rights"), a.accessReviewDecide(grant.Remove, "Take rights away"))
	group.Aliases = []string{"access-reviews"}
	return group
}

func (a *app) accessReviewOpen() *cobra.Command {
	return a.read(&cobra.Command{
		Use: "open ENVIRONMENT", Short: "Begin to look at who may do what in an environment", Args: cobra.ExactArgs(1), Example: "  slipway access-review open production",
		RunE: a.call(func(ctx context.Context, c *client.Client, args []string) error {
			r, err := c.OpenAccessReview(ctx, args[0])
			if err != nil {
				return err
			}
			return a.showReview(r)
		}),
	})
}

func (a *app) accessReviewList() *cobra.Command {
	var environment string
	cmd := a.read(&cobra.Command{
		Use: "list", Short: "List access reviews, newest first", Args: cobra.NoArgs,
		RunE: a.call(func(ctx context.Context, c *client.Client, _ []string) error {
			all, err := c.AccessReviews(ctx, environment)
			if err != nil {
				return err
			}
			if a.asJSON {
				return jsonList(a, all, "")
			}
			rows := make([][]string, len(all))
			for i, r := range all {
				rows[i] = []string{r.ID, r.Environment, r.By, a.when(&r.OpenedAt), fmt.Sprintf("%d/%d", decided(r), len(r.Rows)), a.when(r.DoneAt)}
			}
			return a.table([]string{"REVIEW", "ENVIRONMENT", "BY", "OPENED", "DECIDED", "DONE"}, rows)
		}),
	})
	cmd.Flags().StringVar(&environment, "environment", "", "only those of this environment")
	a.complete(cmd, "environment", environments)
	return cmd
}

func decided(r grant.AccessReview) (n int) {
	for _, row := range r.Rows {
		if row.Decision != "" {
			n++
		}
	}
	return n
}

func (a *app) accessReviewShow() *cobra.Command {
	return a.read(&cobra.Command{
		Use: "show ID", Short: "Show an access review: rights, what was decided on them, and grants with their use", Args: cobra.ExactArgs(1),
		RunE: a.call(func(ctx context.Context, c *client.Client, args []string) error {
			r, err := c.AccessReview(ctx, args[0])
			if err != nil {
				return err
			}
			return a.showReview(r)
		}),
	})
}

func (a *app) showReview(r grant.AccessReview) error {
	if a.asJSON {
		return a.json(r)
	}
	a.note("%s of %s by %s: %d of %d decided\n", r.ID, r.Environment, r.By, decided(r), len(r.Rows))
	rows := make([][]string, len(r.Rows))
	for i, row := range r.Rows {
		rows[i] = []string{row.ID, row.Name, row.Role, row.Where, a.when(row.UsedAt), strings.Join(row.Unused, " "), row.Decision, row.DecidedBy}
	}
	if err := a.table([]string{"RIGHT", "PERSON", "ROLE", "WHERE", "USED", "UNUSED", "DECISION", "BY"}, rows); err != nil || len(r.Grants) == 0 {
		return err
	}
	rows = make([][]string, len(r.Grants))
	for i, g := range r.Grants {
		var uses []string
		for _, u := range g.Uses {
			uses = append(uses, u.Permission+" "+strconv.FormatInt(u.Count, 10)+"×")
		}
		rows[i] = []string{g.ID, g.Name, g.Purpose, string(g.State), a.when(g.ActiveAt), strings.Join(uses, ", "), strings.Join(g.Unused, " ")}
	}
	return a.table([]string{"GRANT", "PERSON", "PURPOSE", "STATE", "ACTIVE", "USED", "UNUSED"}, rows)
}

func (a *app) accessReviewDecide(decision, short string) *cobra.Command {
	var reason string
	cmd := a.read(&cobra.Command{
		Use: decision + " REVIEW RIGHT…", Short: short, Args: cobra.MinimumNArgs(2), Example: fmt.Sprintf("  slipway access-review %s review-3 7 --reason \"left the team\"", decision),
		RunE: a.call(func(ctx context.Context, c *client.Client, args []string) error {
			var r grant.AccessReview
			for _, right := range args[1:] {
				var err error
				if r, err = c.DecideAccessReview(ctx, args[0], right, decision, reason); err != nil {
					return err
				}
			}
			return a.showReview(r)
		}),
	})
	if decision == grant.Remove {
		because(cmd, &reason)
	} else {
		cmd.Flags().StringVar(&reason, "reason", "", "why, for others and for the audit log")
	}
	return cmd
}
