package cli

import (
	"context"
	"fmt"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/slipway/slipway/internal/client"
	"github.com/slipway/slipway/internal/control/gate"
	"github.com/slipway/slipway/internal/control/rollout"
)

// gateResult is a verdict as commands show it.
type gateResult = gate.Result

func (a *app) rollout() *cobra.Command {
	group := a.group("rollout", "See releases on their way onto stamps and devices, and say how they go on", "",
		a.rolloutList(), a.rolloutShow(), a.rolloutSay("pause", "Tell no further device anything"), a.rolloutSay("resume", "Go on after a pause; a wave that had failed is judged anew"),
		a.rolloutAbort(), a.rolloutSkip())
	group.Aliases = []string{"rollouts"}
	return group
}

func (a *app) rolloutList() *cobra.Command {
	var environment string
	cmd := a.read(&cobra.Command{
		Use: "list", Short: "List the newest rollouts", Args: cobra.NoArgs,
		RunE: a.call(func(ctx context.Context, c *client.Client, _ []string) error {
			all, err := c.Rollouts(ctx, environment)
			if err != nil {
				return err
			}
			if a.asJSON {
				return jsonList(a, all, "")
			}
			rows := make([][]string, len(all))
			for i, r := range all {
				done := 0
				for _, s := range r.Stamps {
					if s.State == rollout.Done {
						done++
					}
				}
				why := ""
				if r.Cause != nil {
					why = r.Cause.Reason
				}
				rows[i] = []string{r.ID, r.Release, r.Environment, string(r.State), fmt.Sprintf("%d of %d", done, len(r.Stamps)), r.Promotion, a.when(&r.CreatedAt), why}
			}
			return a.table([]string{"ROLLOUT", "RELEASE", "ENVIRONMENT", "STATE", "STAMPS DONE", "PROMOTION", "BEGUN", "WHY"}, rows)
		}),
	})
	cmd.Flags().StringVar(&environment, "environment", "", "only those in this environment")
	return cmd
}

var rolloutHeader = []string{"STAMP", "RING", "STATE", "WAVE", "UPDATED", "PENDING", "FAILED", "ROLLED BACK", "UNREACHABLE", "EXEMPT", "WAITS FOR"}

// rolloutRows are a rollout's stamps with the census of the devices it reached.
func rolloutRows(v rollout.View) [][]string {
	rows := make([][]string, len(v.Details))
	number := func(n int64) string { return strconv.FormatInt(n, 10) }
	for i, s := range v.Details {
		n, waits := s.Reached, s.Waits
		if s.Halted != "" {
			waits = s.Halted
		}
		rows[i] = []string{
			s.Stamp, strconv.Itoa(s.Ring), string(s.State), fmt.Sprintf("%d of %d", s.Wave, s.Waves), number(n.Updated), number(n.Pending), number(n.Failed),
			number(n.RolledBack), number(n.Unreachable), number(n.Exempt), waits,
		}
	}
	return rows
}

func (a *app) rolloutShow() *cobra.Command {
	return a.read(&cobra.Command{
		Use: "show ID", Short: "Show a rollout: its stamps by ring, the census of each, and what they wait for", Args: cobra.ExactArgs(1),
		RunE: a.call(func(ctx context.Context, c *client.Client, args []string) error {
			return a.showRollout(ctx, c, args[0])
		}),
	})
}

func (a *app) showRollout(ctx context.Context, c *client.Client, id string) error {
	v, err := c.Rollout(ctx, id)
	if err != nil {
		return err
	}
	if a.asJSON {
		return a.json(v)
	}
	if err := a.print("%s: %s in %s is %s\n", v.ID, v.Release, v.Environment, v.State); err != nil {
		return err
	}
	if v.Cause != nil {
		if err := a.print("because\t%s (%s)\n", clean(v.Cause.Reason), v.Cause.By); err != nil {
			return err
		}
	}
	if v.Held != "" {
		if err := a.print("held\t%s\n", clean(v.Held)); err != nil {
			return err
		}
	}
	return a.table(rolloutHeader, rolloutRows(v))
}

func (a *app) rolloutSay(verb, short string) *cobra.Command {
	var reason string
	cmd := a.read(&cobra.Command{
		Use: verb + " ID", Short: short, Args: cobra.ExactArgs(1),
		RunE: a.call(func(ctx context.Context, c *client.Client, args []string) error {
			if _, err := c.SayOfRollout(ctx, args[0], verb, "", reason); err != nil {
				return err
			}
			return a.showRollout(ctx, c, args[0])
		}),
	})
	because(cmd, &reason)
	return cmd
}

func (a *app) rolloutSkip() *cobra.Command {
	var stamp, reason string
	cmd := a.read(&cobra.Command{
		Use: "skip ID", Short: "Wait no longer: for waves that have not failed, or for the next ring", Args: cobra.ExactArgs(1),
		RunE: a.call(func(ctx context.Context, c *client.Client, args []string) error {
			if _, err := c.SayOfRollout(ctx, args[0], "skip", stamp, reason); err != nil {
				return err
			}
			return a.showRollout(ctx, c, args[0])
		}),
	})
	cmd.Flags().StringVar(&stamp, "stamp", "", "only the wave of this stamp")
	because(cmd, &reason)
	return cmd
}

func (a *app) rolloutAbort() *cobra.Command {
	var how client.Abortion
	cmd := a.read(&cobra.Command{
		Use: "abort ID", Short: "Take a rollout back, or leave devices as they are", Args: cobra.ExactArgs(1),
		RunE: a.call(func(ctx context.Context, c *client.Client, args []string) error {
			if _, err := c.AbortRollout(ctx, args[0], how); err != nil {
				return err
			}
			return a.showRollout(ctx, c, args[0])
		}),
	})
	abortFlags(cmd, &how)
	return cmd
}

// releaseWhere is the matrix of what runs where, of one release if it is named.
func (a *app) releaseWhere() *cobra.Command {
	return a.read(&cobra.Command{
		Use: "where [NAME]", Short: "What runs on each stamp, and on what share of its devices", Args: cobra.MaximumNArgs(1),
		Example: "  slipway release where\n  slipway release where v1.4.0",
		RunE: a.call(func(ctx context.Context, c *client.Client, args []string) error {
			name := ""
			if len(args) == 1 {
				name = args[0]
			}
			cells, err := c.Matrix(ctx, name)
			if err != nil {
				return err
			}
			if a.asJSON {
				return jsonList(a, cells, "")
			}
			rows := make([][]string, len(cells))
			for i, cell := range cells {
				share := ""
				if cell.Release != "" {
					share = fmt.Sprintf("%.0f %%", 100*cell.Share)
				}
				rows[i] = []string{cell.Environment, cell.Stamp, strconv.Itoa(cell.Ring), cell.Base, strconv.FormatInt(cell.OnBase, 10), cell.Release, strconv.FormatInt(cell.OnRelease, 10), share, a.when(cell.SeenAt)}
			}
			return a.table([]string{"ENVIRONMENT", "STAMP", "RING", "RUNS", "DEVICES", "ON ITS WAY", "DEVICES", "SHARE", "SEEN"}, rows)
		}),
	})
}

func (a *app) environmentDiff() *cobra.Command {
	return a.read(&cobra.Command{
		Use: "diff FROM TO", Short: "Tell how what one environment runs differs from what another runs", Args: cobra.ExactArgs(2),
		Example: "  slipway environment diff production staging",
		RunE: a.call(func(ctx context.Context, c *client.Client, args []string) error {
			d, err := c.DiffEnvironments(ctx, args[0], args[1])
			if err != nil {
				return err
			}
			if a.asJSON {
				return a.json(d)
			}
			if err := a.print("%s runs %s, %s runs %s\n", args[0], d.From, args[1], d.To); err != nil {
				return err
			}
			for _, change := range d.Changes {
				if err := a.print("%s\n", clean(change.Text)); err != nil {
					return err
				}
			}
			if len(d.Changes) > 0 {
				return answer(exitNo)
			}
			return nil
		}),
	})
}
