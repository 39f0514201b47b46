package cli

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/slipway/slipway/internal/client"
	"github.com/slipway/slipway/internal/control/backup"
	"github.com/slipway/slipway/internal/drill"
	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/vault"
)

func (a *app) drill() *cobra.Command {
	group := a.group("drill", "Try backups by restoring them, where nothing can be reached from", "A drill restores the newest backups and those of an older moment, runs what came back where\nit reaches nothing, has a device connect, and takes it away again. The host that recovers runs it.",
		a.drillRun(), a.drillList(), a.drillShow(), a.drillInspect())
	group.Aliases = []string{"drills"}
	return group
}

// recoveryRun is how drills are run.
type recoveryRun struct {
	file, scratch, database, sealingKeys string
	every                                time.Duration
}

func (a *app) drillRun() *cobra.Command {
	var how recoveryRun
	cmd := a.read(&cobra.Command{
		Use: "run --recovery FILE", Short: "Run a drill on this host and hand in its evidence", Args: cobra.NoArgs,
		Long: "Run a drill on this host, which has what the recovery role has and nothing else: FILE names\n" +
			"the vaults, the identity that decrypts and the keys that sign. The newest backups and those\n" +
			"of an older moment, chosen at random, are restored into --scratch; nothing that runs there\n" +
			"reaches anything, and all of it is destroyed. The installation judges the evidence, signs\n" +
			"and keeps it; the token used here needs no more than to do that.\n\n" +
			"With --every it stays and takes up drills as they become due.\n\n" +
			"Exit codes: 0 the drill passed, 1 it failed, 3 it was inconclusive.",
		Example: "  slipway drill run --recovery recovery.yaml\n  slipway drill run --recovery recovery.yaml --every 10m --scratch /var/lib/drills",
		RunE: a.call(func(ctx context.Context, c *client.Client, _ []string) error {
			runner, err := a.newRunner(how)
			if err != nil {
				return err
			}
			if how.every > 0 {
				return a.attendDrills(ctx, c, runner, how.every)
			}
			if _, err := c.AskDrill(ctx); err != nil {
				return err
			}
			d, err := a.runDrill(ctx, c, runner)
			if err != nil {
				return err
			}
			if err := a.showDrill(d); err != nil {
				return err
			}
			switch d.Verdict {
			case link.Pass:
				return nil
			case link.Fail:
				return answer(exitFailed)
			}
			return answer(exitNo)
		}),
	})
	cmd.Flags().StringVar(&how.file, "recovery", "", "file of the recovery role: vaults, identityFile, signers")
	cmd.Flags().StringVar(&how.scratch, "scratch", "", "directory to restore within (default a temporary one)")
	cmd.Flags().StringVar(&how.database, "database", "", "empty PostgreSQL database for planes that were kept in PostgreSQL (SLIPWAY_DATABASE)")
	cmd.Flags().StringVar(&how.sealingKeys, "sealing-keys", "", "where keys of databases come from that are in no backup: file:PATH, credential:NAME or command:PROGRAM ARGUMENT…")
	cmd.Flags().DurationVar(&how.every, "every", 0, "stay, and look so often whether a drill is due")
	required(cmd, "recovery")
	return cmd
}

func (a *app) newRunner(how recoveryRun) (*drill.Runner, error) {
	keys, err := vault.ReadRecovery(how.file)
	if err != nil {
		return nil, err
	}
	scratch := how.scratch
	if scratch == "" {
		if scratch, err = os.MkdirTemp("", "slipway-drill-"); err != nil {
			return nil, err
		}
	} else if err := os.MkdirAll(scratch, 0o700); err != nil {
		return nil, err
	}
	program, err := os.Executable()
	if err != nil {
		return nil, err
	}
	host, err := os.Hostname()
	if err != nil {
		return nil, err
	}
	return &drill.Runner{
		Keys: keys, Scratch: scratch, SealingKeys: how.sealingKeys, Database: cmp.Or(how.database, a.env("SLIPWAY_DATABASE")), Program: program, Version: versionText(), Host: host, Logger: slog.New(slog.DiscardHandler),
	}, nil
}

// heartbeat is how often an installation hears of a drill that runs.
const heartbeat = 20 * time.Second

// runDrill takes up the drill that is due, runs it and hands in its evidence.
func (a *app) runDrill(ctx context.Context, c *client.Client, runner *drill.Runner) (backup.Drill, error) {
	d, err := c.ClaimDrill(ctx, runner.Host)
	if err != nil {
		return d, err
	}
	phases := make(chan string, 1)
	runner.Advance = func(phase string) {
		a.progress(phase)
		select {
		case <-phases:
		default:
		}
		phases <- phase
	}
	telling, stop := context.WithCancel(ctx)
	told := make(chan struct{})
	go func() {
		defer close(told)
		phase := "beginning"
		for {
			// One that is not heard of in time has been given up: its evidence is refused.
			_ = c.AdvanceDrill(telling, d.ID, phase)
			select {
			case <-telling.Done():
				return
			case <-time.After(heartbeat):
			}
			select {
			case phase = <-phases:
			default:
			}
		}
	}()
	evidence := runner.Run(ctx, d.ID)
	stop()
	<-told
	a.progress("")
	return c.ConcludeDrill(context.WithoutCancel(ctx), d.ID, evidence)
}

// attendDrills runs drills as they become due, until ctx ends.
func (a *app) attendDrills(ctx context.Context, c *client.Client, runner *drill.Runner, every time.Duration) error {
	for {
		d, err := a.runDrill(ctx, c, runner)
		switch {
		case ctx.Err() != nil:
			return nil
		case err == nil:
			a.note("%s: %s\n", d.ID, d.Verdict)
		case !problem.Is(err, problem.NotFound):
			a.note("%s; trying again\n", clean(err.Error()))
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(every):
		}
	}
}

func (a *app) showDrill(d backup.Drill) error {
	if a.asJSON {
		return a.json(d)
	}
	if err := a.print("%s is %s %s\n", d.ID, d.State, d.Verdict); err != nil {
		return err
	}
	for _, reason := range d.Reasons {
		if err := a.print("because\t%s\n", clean(reason)); err != nil {
			return err
		}
	}
	if d.Evidence == nil {
		return nil
	}
	var rows [][]string
	for _, t := range d.Evidence.Trials {
		rows = append(rows, []string{t.Of, "", "", fmt.Sprintf("recovered in %.1f s, lost %.0f s; isolated by the %s; destroyed: %v", t.RTOSeconds, t.RPOSeconds, t.Isolation, t.Destroyed)})
		for _, c := range t.Checks {
			rows = append(rows, []string{t.Of, c.Name + " " + c.Plane, c.Verdict, c.Detail})
		}
	}
	n := d.Evidence.Negative
	rows = append(rows, []string{"", "a flipped bit", n.Verdict, n.Detail})
	return a.table([]string{"TRIAL", "CHECK", "VERDICT", ""}, rows)
}

func (a *app) drillList() *cobra.Command {
	return a.read(&cobra.Command{
		Use: "list", Short: "List the newest drills", Args: cobra.NoArgs,
		Example: "  slipway drill list",
		RunE: a.call(func(ctx context.Context, c *client.Client, _ []string) error {
			all, err := c.Drills(ctx)
			if err != nil {
				return err
			}
			if a.asJSON {
				return jsonList(a, all, "")
			}
			rows := make([][]string, len(all))
			for i, d := range all {
				reason := ""
				if len(d.Reasons) > 0 {
					reason = d.Reasons[0]
				}
				rows[i] = []string{d.ID, d.State, d.Verdict, a.when(d.EndedAt), d.Host, reason}
			}
			return a.table([]string{"DRILL", "STATE", "VERDICT", "ENDED", "HOST", ""}, rows)
		}),
	})
}

func (a *app) drillShow() *cobra.Command {
	return a.read(&cobra.Command{
		Use: "show DRILL", Short: "Show a drill with its evidence", Args: cobra.ExactArgs(1),
		Example: "  slipway drill show drill-20261220T180000Z --json",
		RunE: a.call(func(ctx context.Context, c *client.Client, args []string) error {
			d, err := c.Drill(ctx, args[0])
			if err != nil {
				return err
			}
			return a.showDrill(d)
		}),
	})
}

// drillInspect is the process that looks through what a drill has restored.
func (a *app) drillInspect() *cobra.Command {
	return &cobra.Command{
		Use: "inspect", Hidden: true, Short: "Look through a restored installation; what `slipway drill run` starts", Args: cobra.NoArgs,
		RunE: a.run(func(cmd *cobra.Command, _ []string) error {
			return drill.Serve(cmd.Context(), a.in, a.out, a.env, slog.New(slog.NewTextHandler(a.err, &slog.HandlerOptions{Level: slog.LevelWarn})))
		}),
	}
}
