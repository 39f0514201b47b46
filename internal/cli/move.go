package cli

import (
	"context"
	"crypto/rand"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/slipway/slipway/internal/client"
	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/problem"
)

func (a *app) deviceMove() *cobra.Command {
	var m client.MoveRequest
	var wait bool
	var timeout time.Duration
	c := &cobra.Command{
		Use: "move [ID…] --to ENVIRONMENT", Short: "Move devices to another environment",
		Long: `Move devices to another environment, without touching them: each is taken off
its stamp, its connection cut; at its next registration it is assigned a stamp
of the target environment, its twin carried along or reset as its enrolment
says. The command ends when every device has left its old stamp; with --wait,
when every device that was connected has arrived. Interrupting it does not
interrupt the move: slipway move show goes on watching.`,
		Example: `  slipway device move sensor-0001 --to production --wait
  slipway device move --where "tags.batch = '7'" --to production`,
		RunE: func(c *cobra.Command, args []string) error {
			m.Devices = args
			if m.To == "" || (len(args) == 0) == (m.Where == "") {
				return usage{fmt.Errorf("say --to ENVIRONMENT, and either device ids or --where CONDITION")}
			}
			ctx, cancel := context.WithTimeout(c.Context(), timeout)
			defer cancel()
			return a.move(ctx, m, wait)
		},
	}
	flags := c.Flags()
	flags.StringVar(&m.To, "to", "", "target environment")
	flags.StringVar(&m.Where, "where", "", "condition that selects devices")
	flags.StringVar(&m.Reason, "reason", "", "why, for the transition log")
	flags.BoolVar(&wait, "wait", false, "wait until the devices that were connected have arrived")
	flags.DurationVar(&timeout, "timeout", 10*time.Minute, "give up watching after this long")
	return a.reads(c)
}

func (a *app) move(ctx context.Context, m client.MoveRequest, wait bool) error {
	api, err := a.client()
	if err != nil {
		return err
	}
	move, err := api.StartMove(ctx, rand.Text(), m)
	if err != nil {
		return err
	}
	return a.watchMove(ctx, api, move, wait)
}

// finished reports whether there is nothing more to watch for.
func finished(m link.Move, wait bool) bool {
	return m.State == link.MoveComplete && (!wait || m.Census.Returning == 0)
}

// watchMove shows progress until the move is finished, and the census.
func (a *app) watchMove(ctx context.Context, api *client.Client, move link.Move, wait bool) (err error) {
	tick := time.NewTicker(250 * time.Millisecond)
	defer tick.Stop()
	shown := ""
	for !finished(move, wait) {
		if line := progress(move); line != shown && a.terminal && !a.json {
			shown = line
			fmt.Fprintf(a.err, "\r\033[K%s", line)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return problem.New(problem.TimedOut, "%s goes on without being watched: %s; `slipway move show %s` tells how it stands", move.ID, progress(move), move.ID)
		}
		fresh, err := api.Move(ctx, move.ID)
		if problem.Is(err, problem.NotReady) || problem.Is(err, problem.TimedOut) {
			continue // the server is being restarted; the move goes on afterwards
		}
		if err != nil {
			return err
		}
		move = fresh
	}
	if shown != "" {
		fmt.Fprint(a.err, "\r\033[K")
	}
	if a.json {
		err = a.printJSON(move)
	} else {
		err = a.printCensus(move)
	}
	if err == nil && move.Census.Failed > 0 {
		return a.explainFailures(ctx, api, move)
	}
	return err
}

func progress(m link.Move) string {
	c := m.Census
	return fmt.Sprintf("%s to %s: %d of %d off their stamp, %d arrived", m.ID, m.To, c.Total-c.Pending-c.Removing, c.Total, c.Arrived)
}

func (a *app) printCensus(m link.Move) error {
	c := m.Census
	fmt.Fprintf(a.out, "%s to %s: %s, %d devices\n", m.ID, m.To, m.State, c.Total)
	for _, line := range []struct {
		n    int
		text string
	}{
		{c.Pending, "pending    not begun"}, {c.Removing, "removing   being taken off the old stamp"}, {c.Arrived, "arrived    assigned in " + m.To},
		{c.Waiting, "waiting    off the old stamp; assigned at the next registration"}, {c.Already, "already    were there before"}, {c.Failed, "failed"},
	} {
		if line.n > 0 {
			if _, err := fmt.Fprintf(a.out, "%7d  %s\n", line.n, line.text); err != nil {
				return err
			}
		}
	}
	return nil
}

// explainFailures names some of the devices that failed and why.
func (a *app) explainFailures(ctx context.Context, api *client.Client, m link.Move) error {
	page, err := api.MoveDevices(ctx, m.ID, "failed", "")
	if err != nil {
		return err
	}
	const most = 10
	for _, d := range page.Items[:min(most, len(page.Items))] {
		fmt.Fprintf(a.err, "slipway: %s: %s\n", d.DeviceID, d.Problem)
	}
	if m.Census.Failed > most {
		fmt.Fprintf(a.err, "more: slipway move devices %s --state failed\n", m.ID)
	}
	return exit(exitFailure)
}

func (a *app) moveCommand() *cobra.Command {
	c := &cobra.Command{Use: "move", Aliases: []string{"moves"}, Short: "Moves of devices between environments: list, show, devices"}
	c.AddCommand(a.moveList(), a.moveShow(), a.moveDevices())
	return c
}

func (a *app) moveList() *cobra.Command {
	return a.reads(&cobra.Command{
		Use: "list", Short: "List the newest moves", Args: exactly(0),
		RunE: func(c *cobra.Command, _ []string) error {
			api, err := a.client()
			if err != nil {
				return err
			}
			moves, err := api.Moves(c.Context())
			if err != nil {
				return err
			}
			if a.json {
				return a.printJSON(client.Page[link.Move]{Items: moves})
			}
			rows := [][]string{{"move", "to", "state", "devices", "arrived", "waiting", "failed", "by", "started"}}
			for _, m := range moves {
				rows = append(rows, []string{m.ID, m.To, string(m.State), fmt.Sprint(m.Census.Total), fmt.Sprint(m.Census.Arrived), fmt.Sprint(m.Census.Waiting), fmt.Sprint(m.Census.Failed), m.Actor, a.when(&m.CreatedAt)})
			}
			return a.table(rows)
		},
	})
}

func (a *app) moveShow() *cobra.Command {
	var wait bool
	c := &cobra.Command{
		Use: "show ID", Short: "Show a move's census", Args: exactly(1),
		RunE: func(c *cobra.Command, args []string) error {
			api, err := a.client()
			if err != nil {
				return err
			}
			m, err := api.Move(c.Context(), args[0])
			if err != nil {
				return err
			}
			if wait {
				return a.watchMove(c.Context(), api, m, true)
			}
			if a.json {
				return a.printJSON(m)
			}
			return a.printCensus(m)
		},
	}
	c.Flags().BoolVar(&wait, "wait", false, "watch until it is finished")
	return a.reads(c)
}

func (a *app) moveDevices() *cobra.Command {
	var state, after string
	c := &cobra.Command{
		Use: "devices ID", Short: "List a move's devices with their state", Args: exactly(1),
		RunE: func(c *cobra.Command, args []string) error {
			api, err := a.client()
			if err != nil {
				return err
			}
			page, err := api.MoveDevices(c.Context(), args[0], state, after)
			if err != nil {
				return err
			}
			if a.json {
				return a.printJSON(page)
			}
			rows := [][]string{{"device", "state", "problem"}}
			for _, d := range page.Items {
				rows = append(rows, []string{d.DeviceID, d.State, d.Problem})
			}
			return a.table(rows)
		},
	}
	c.Flags().StringVar(&state, "state", "", "pending, removing, waiting, arrived, already or failed")
	c.Flags().StringVar(&after, "after", "", "begin after this device id")
	return a.reads(c)
}
