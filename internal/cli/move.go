package cli

import (
	"context"
	"crypto/rand"
	"fmt"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/slipway/slipway/internal/client"
	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/problem"
)

// moveOrder is what `device move` was asked.
type moveOrder struct {
	client.MoveRequest
	key     string
	wait    bool
	timeout time.Duration
}

func (a *app) deviceMove() *cobra.Command {
	var o moveOrder
	cmd := a.read(&cobra.Command{
		Use: "move ID… --to ENVIRONMENT", Short: "Move devices to another environment, or to another stamp",
		Long: "Move devices to another environment, those named or those that match a condition.\n\n" +
			"A device is taken off its stamp: its connection is cut and the next one refused. When\n" +
			"it registers again it is assigned a stamp of the target environment. The command ends\n" +
			"when every device is off its old stamp; with --wait, when every device that was\n" +
			"connected has arrived, and those named are connected again. The move itself goes on whatever becomes of this command.",
		Example: "  slipway device move sensor-0017 --to production --wait\n" +
			"  slipway device move sensor-0017 --to-stamp prod-2\n" +
			"  slipway device move --where \"tags.batch = '7'\" --to production --reason \"batch 7 passed\"",
		Args: func(_ *cobra.Command, args []string) error { return o.check(args) },
		ValidArgsFunction: func(cmd *cobra.Command, _ []string, typed string) ([]string, cobra.ShellCompDirective) {
			return a.offer(cmd.Context(), deviceIDs, typed)
		},
		RunE: a.call(func(ctx context.Context, c *client.Client, args []string) error {
			o.Devices = args
			return a.moveDevices(ctx, c, o)
		}),
	})
	flags := cmd.Flags()
	flags.StringVar(&o.To, "to", "", "target environment")
	flags.StringVar(&o.Stamp, "to-stamp", "", "the stamp they go to, as long as that takes them")
	flags.StringVar(&o.From, "from-stamp", "", "only devices of this stamp, which leave it")
	flags.Float64Var(&o.PerSecond, "per-second", 0, "begin with at most so many devices each second")
	flags.StringVar(&o.Where, "where", "", "condition that selects devices of all other environments")
	flags.StringVar(&o.Reason, "reason", "", "why, for the devices' history and the audit log")
	flags.BoolVar(&o.wait, "wait", false, "wait until every device that was connected has arrived")
	flags.DurationVar(&o.timeout, "timeout", 5*time.Minute, "how long to watch the move")
	flags.StringVar(&o.key, "key", "", "idempotency key: the same key is the same move; made when left out")
	a.complete(cmd, "to", environments)
	return cmd
}

// check holds the order against what makes sense before anybody is asked.
func (o moveOrder) check(devices []string) error {
	switch {
	case o.To == "" && o.Stamp == "" && o.From == "":
		return usage("say where to with --to ENVIRONMENT or --to-stamp STAMP")
	case len(devices) > 0 && o.Where != "", len(devices) == 0 && o.Where == "" && o.From == "":
		return usage("name devices or give a condition with --where, one of the two")
	case o.timeout <= 0:
		return usage("--timeout must be more than nothing")
	}
	return nil
}

// moveDevices starts a move, watches it, and reports how it ended.
func (a *app) moveDevices(ctx context.Context, c *client.Client, o moveOrder) error {
	if o.key == "" {
		o.key = rand.Text()
	}
	var connected []string
	if o.wait {
		connected = connectedOf(ctx, c, o.Devices)
	}
	m, err := c.StartMove(ctx, o.key, o.MoveRequest)
	if err != nil {
		return err
	}
	limited, cancel := context.WithTimeout(ctx, o.timeout)
	defer cancel()
	m, watchErr := a.watchMove(limited, c, m, o.wait)
	if watchErr == nil {
		a.awaitConnected(limited, c, connected)
	}
	if err := a.showMove(m); err != nil {
		return err
	}
	if watchErr != nil {
		if ctx.Err() == nil && limited.Err() != nil {
			watchErr = problem.New(problem.TimedOut, "move %s was not done within %s", m.ID, o.timeout)
		}
		return withHint(watchErr, "the move goes on; `slipway move show %s` tells how far it is", m.ID)
	}
	return a.judge(ctx, c, m)
}

// mostAwaited is how many named devices are waited for one by one.
const mostAwaited = 100

// connectedOf returns which of the named devices are connected now. One that
// cannot be told is not waited for; the move itself says what is wrong with it.
func connectedOf(ctx context.Context, c *client.Client, ids []string) (connected []string) {
	for _, id := range ids[:min(len(ids), mostAwaited)] {
		if d, err := c.Device(ctx, id); err == nil && d.Connected {
			connected = append(connected, id)
		}
	}
	return connected
}

// backWithin is how long a device may take from its assignment to its
// connection before the command ends without having seen it.
const backWithin = 30 * time.Second

// awaitConnected waits until devices that were connected are connected again.
func (a *app) awaitConnected(ctx context.Context, c *client.Client, ids []string) {
	defer a.progress("")
	ctx, cancel := context.WithTimeout(ctx, backWithin)
	defer cancel()
	tick := time.NewTicker(moveEvery)
	defer tick.Stop()
	for _, id := range ids {
		a.progress("waiting for " + id + " to connect")
		for {
			if d, err := c.Device(ctx, id); err == nil && d.Connected {
				break
			}
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
		}
	}
}

// moveDone tells whether there is anything left to watch.
func moveDone(m link.Move, wait bool) bool {
	return m.State == link.MoveComplete && (!wait || m.Census.Returning == 0)
}

// moveEvery is how often a move is looked at.
const moveEvery = 200 * time.Millisecond

// watchMove follows a move until it is done and draws its census meanwhile. A
// server that restarts in between is waited for: the move continues with it.
func (a *app) watchMove(ctx context.Context, c *client.Client, m link.Move, wait bool) (link.Move, error) {
	defer a.progress("")
	tick := time.NewTicker(moveEvery)
	defer tick.Stop()
	for !moveDone(m, wait) {
		a.progress(censusLine(m))
		select {
		case <-ctx.Done():
			return m, ctx.Err()
		case <-tick.C:
		}
		now, err := c.Move(ctx, m.ID)
		switch {
		case err == nil:
			m = now
		case ctx.Err() != nil:
			return m, ctx.Err()
		case !problem.Is(err, problem.NotReady) && !problem.Is(err, problem.TimedOut):
			return m, err
		}
	}
	return m, nil
}

// progress redraws the one line that shows how far something is.
func (a *app) progress(line string) {
	if a.errTTY {
		a.note("\r\x1b[K%s", line)
	}
}

// origin is the stamp that a move empties, in a sentence.
func origin(m link.Move) string {
	if m.From == "" {
		return ""
	}
	return " from " + m.From
}

// destination is where a move goes.
func destination(m link.Move) string {
	if m.Stamp == "" {
		return m.To
	}
	return m.To + "/" + m.Stamp
}

func censusLine(m link.Move) string {
	n := m.Census
	return fmt.Sprintf("%s%s to %s, %s: %d devices, %d pending, %d removing, %d waiting (%d returning), %d arrived, %d failed",
		m.ID, origin(m), destination(m), m.State, n.Total, n.Pending, n.Removing, n.Waiting, n.Returning, n.Arrived, n.Failed)
}

// censusRows are a move's states with the number of devices in each.
func censusRows(n link.Census) [][]string {
	rows := [][]string{}
	for _, state := range []struct {
		name  string
		count int
	}{
		{"pending", n.Pending}, {"removing", n.Removing}, {"waiting", n.Waiting}, {"arrived", n.Arrived},
		{"already", n.Already}, {"failed", n.Failed}, {"total", n.Total},
	} {
		rows = append(rows, []string{state.name, strconv.Itoa(state.count)})
	}
	return rows
}

func (a *app) showMove(m link.Move) error {
	if a.asJSON {
		return a.json(m)
	}
	if err := a.print("move %s%s to %s: %s\n", m.ID, origin(m), destination(m), m.State); err != nil {
		return err
	}
	if m.Problem != "" {
		a.note("waiting: %s\n", m.Problem)
	}
	return a.table([]string{"STATE", "DEVICES"}, censusRows(m.Census))
}

// judge turns a finished move into an exit code, with the reasons of failures.
func (a *app) judge(ctx context.Context, c *client.Client, m link.Move) error {
	if m.Census.Failed == 0 {
		if m.Census.Waiting > 0 && !a.asJSON {
			a.note("note: %d devices arrive when they register next, %d of them were connected and come by themselves\n", m.Census.Waiting, m.Census.Returning)
		}
		return nil
	}
	page, err := c.MoveDevices(ctx, m.ID, "failed", "")
	if err != nil {
		return err
	}
	const most = 20
	for _, d := range page.Items[:min(most, len(page.Items))] {
		a.note("failed: %s: %s\n", clean(d.DeviceID), clean(d.Problem))
	}
	return withHint(fmt.Errorf("%d of %d devices could not be moved", m.Census.Failed, m.Census.Total), "`slipway move devices %s --state failed` lists them", m.ID)
}

func (a *app) move() *cobra.Command {
	group := a.group("move", "See moves between environments; `slipway device move` starts one", "", a.moveList(), a.moveShow(), a.moveDeviceList())
	group.Aliases = []string{"moves"}
	return group
}

func (a *app) moveList() *cobra.Command {
	return a.read(&cobra.Command{
		Use: "list", Short: "List the newest moves", Args: cobra.NoArgs,
		RunE: a.call(func(ctx context.Context, c *client.Client, _ []string) error {
			all, err := c.Moves(ctx)
			if err != nil {
				return err
			}
			if a.asJSON {
				return jsonList(a, all, "")
			}
			rows := make([][]string, len(all))
			for i, m := range all {
				n := m.Census
				rows[i] = []string{
					m.ID, m.From, destination(m), string(m.State), strconv.Itoa(n.Total), strconv.Itoa(n.Arrived + n.Already), strconv.Itoa(n.Waiting),
					strconv.Itoa(n.Failed), m.Actor, a.when(&m.CreatedAt), m.Reason,
				}
			}
			return a.table([]string{"MOVE", "FROM", "TO", "STATE", "DEVICES", "THERE", "WAITING", "FAILED", "BY", "STARTED", "REASON"}, rows)
		}),
	})
}

func (a *app) moveShow() *cobra.Command {
	return a.read(&cobra.Command{
		Use: "show ID", Short: "Show a move with its census", Args: cobra.ExactArgs(1),
		RunE: a.call(func(ctx context.Context, c *client.Client, args []string) error {
			m, err := c.Move(ctx, args[0])
			if err != nil {
				return err
			}
			return a.showMove(m)
		}),
	})
}

func (a *app) moveDeviceList() *cobra.Command {
	var state string
	cmd := a.read(&cobra.Command{
		Use: "devices ID", Short: "List the devices of a move with the state of each", Args: cobra.ExactArgs(1),
		RunE: a.call(func(ctx context.Context, c *client.Client, args []string) error {
			var all []link.MovedDevice
			for after := ""; ; {
				page, err := c.MoveDevices(ctx, args[0], state, after)
				if err != nil {
					return err
				}
				if all, after = append(all, page.Items...), page.Next; after == "" {
					break
				}
			}
			if a.asJSON {
				return jsonList(a, all, "")
			}
			rows := make([][]string, len(all))
			for i, d := range all {
				rows[i] = []string{d.DeviceID, d.State, d.Problem}
			}
			return a.table([]string{"DEVICE", "STATE", "PROBLEM"}, rows)
		}),
	})
	cmd.Flags().StringVar(&state, "state", "", "only pending, removing, waiting, arrived, already or failed ones")
	return cmd
}
