package cli

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/slipway/slipway/internal/client"
	"github.com/slipway/slipway/internal/control/rehearsal"
	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/rehearse"
	"github.com/slipway/slipway/internal/resource"
	"github.com/slipway/slipway/internal/vault"
)

func (a *app) rehearsal() *cobra.Command {
	group := a.group("rehearsal", "Try a release's migrations on a masked copy of an environment's data", "A rehearsal copies a stamp's data and the solution's databases as they are at one moment, masks\nthem on the way, looks for leaks, carries the release's migrations out while others work on the\ncopy, measures, and takes the copy away. A host runs it that may read the data.",
		a.rehearsalStart(), a.rehearsalRun(), a.rehearsalList(), a.rehearsalShow(), a.rehearsalCancel(), a.rehearsalKeep())
	group.Aliases = []string{"rehearsals"}
	return group
}

func (a *app) rehearsalStart() *cobra.Command {
	var environment, stamp string
	var wait bool
	var timeout time.Duration
	cmd := a.read(&cobra.Command{
		Use: "start RELEASE --environment ENVIRONMENT", Short: "Ask for a rehearsal, which a host takes up that may read the data", Args: cobra.ExactArgs(1),
		Long:    "Ask for a rehearsal of a release's migrations on the data of a stamp. A host takes it up on\nwhich `slipway rehearsal run --every` stays.\n\nExit codes with --wait: 0 it passed, 1 it failed, 3 it was inconclusive or cancelled, 8 it has\nnot ended within --timeout.",
		Example: "  slipway rehearsal start v1.4.0 --environment production --wait",
		RunE: a.call(func(ctx context.Context, c *client.Client, args []string) error {
			r, err := c.StartRehearsal(ctx, environment, stamp, args[0])
			if err == nil && wait {
				limited, cancel := context.WithTimeout(ctx, timeout)
				defer cancel()
				r, err = a.awaitRehearsal(limited, c, r)
			}
			if err != nil {
				return err
			}
			if err := a.showRehearsal(r); err != nil || !wait {
				return err
			}
			return judgedRehearsal(r)
		}),
	})
	cmd.Flags().StringVar(&environment, "environment", "", "on whose data")
	cmd.Flags().StringVar(&stamp, "stamp", "", "of which stamp (default the one with the most devices)")
	cmd.Flags().BoolVar(&wait, "wait", false, "wait until it has ended")
	cmd.Flags().DurationVar(&timeout, "timeout", 4*time.Hour, "how long to wait")
	required(cmd, "environment")
	a.complete(cmd, "environment", environments)
	return cmd
}

// awaitRehearsal follows a rehearsal until it has ended.
func (a *app) awaitRehearsal(ctx context.Context, c *client.Client, r rehearsal.Rehearsal) (rehearsal.Rehearsal, error) {
	defer a.progress("")
	for r.State != rehearsal.Ended {
		a.progress(r.ID + ": " + cmp.Or(r.Phase, r.State))
		select {
		case <-ctx.Done():
			if ctx.Err() == context.DeadlineExceeded {
				return r, problem.New(problem.TimedOut, "%s has not ended; `slipway rehearsal show` tells how far it is", r.ID)
			}
			return r, ctx.Err()
		case <-time.After(followEvery):
		}
		now, err := c.Rehearsal(ctx, r.ID)
		if err != nil {
			return r, err
		}
		r = now
	}
	return r, nil
}

// judgedRehearsal is the exit code of a rehearsal that ended.
func judgedRehearsal(r rehearsal.Rehearsal) error {
	switch r.Verdict {
	case link.Pass:
		return nil
	case link.Fail:
		return answer(exitFailed)
	}
	return answer(exitNo)
}

// rehearsing is how rehearsals are run.
type rehearsing struct {
	recovery, database, databases, server, scratch string
	environment, stamp                             string
	every                                          time.Duration
}

func (a *app) rehearsalRun() *cobra.Command {
	var how rehearsing
	cmd := a.read(&cobra.Command{
		Use: "run [RELEASE --environment ENVIRONMENT]", Short: "Run a rehearsal on this host and hand in its evidence", Args: cobra.MaximumNArgs(1),
		Long: "Run a rehearsal on this host. The stamp's data comes from its newest backup (--recovery), or\n" +
			"from its database as it is now (--database FILE or URL; nothing waits for that). --databases\n" +
			"names a file with the URLs of the solution's databases, NAME: URL, read as they are. What is\n" +
			"kept in PostgreSQL is copied into databases of its own on --server.\n\n" +
			"Every field is masked before it is written; copies are taken away at the end, also when this\n" +
			"is killed. The installation judges the evidence, signs and keeps it. With --every it stays\n" +
			"and takes up rehearsals as they are asked for.\n\n" +
			"Exit codes: 0 it passed, 1 it failed, 3 it was inconclusive or cancelled.",
		Example: "  slipway rehearsal run v1.4.0 --environment production --recovery recovery.yaml\n  slipway rehearsal run v1.4.0 --environment production --database /var/lib/slipway/stamps/eu-1/stamp.db\n  slipway rehearsal run --recovery recovery.yaml --databases databases.yaml --server postgres://rehearse@db/postgres --every 1m",
		RunE: a.call(func(ctx context.Context, c *client.Client, args []string) error {
			if (len(args) == 1) != (how.environment != "") {
				return usage("name a release and --environment, or neither with --every")
			}
			if (len(args) == 0) != (how.every > 0) {
				return usage("name a release, or stay with --every")
			}
			runner, err := a.newRehearser(how)
			if err != nil {
				return err
			}
			if how.every > 0 {
				return a.attendRehearsals(ctx, c, runner, how.every)
			}
			asked, err := c.StartRehearsal(ctx, how.environment, how.stamp, args[0])
			if err != nil {
				return err
			}
			r, err := a.runRehearsal(ctx, c, runner, asked.ID)
			if err != nil {
				return err
			}
			if err := a.showRehearsal(r); err != nil {
				return err
			}
			return judgedRehearsal(r)
		}),
	})
	flags := cmd.Flags()
	flags.StringVar(&how.environment, "environment", "", "on whose data")
	flags.StringVar(&how.stamp, "stamp", "", "of which stamp (default the one with the most devices)")
	flags.StringVar(&how.recovery, "recovery", "", "file of the recovery role: vaults, identityFile, signers")
	flags.StringVar(&how.database, "database", "", "the stamp's own database, file or URL, instead of a backup")
	flags.StringVar(&how.databases, "databases", "", "file with the URLs of the solution's databases")
	flags.StringVar(&how.server, "server", "", "PostgreSQL on which copies are made, by somebody who may create databases (SLIPWAY_REHEARSAL_SERVER)")
	flags.StringVar(&how.scratch, "scratch", "", "directory to work in (default a temporary one)")
	flags.DurationVar(&how.every, "every", 0, "stay, and look so often whether a rehearsal is due")
	a.complete(cmd, "environment", environments)
	return cmd
}

func (a *app) newRehearser(how rehearsing) (*rehearse.Runner, error) {
	if (how.recovery == "") == (how.database == "") || how.database != "" && how.every > 0 {
		return nil, usage("say with --recovery or with --database where the data is; to stay, with --recovery")
	}
	r := &rehearse.Runner{Database: how.database, Server: cmp.Or(how.server, a.env("SLIPWAY_REHEARSAL_SERVER")), Scratch: how.scratch, Version: versionText(), Logger: slog.New(slog.DiscardHandler)}
	var err error
	if how.recovery != "" {
		if r.Keys, err = vault.ReadRecovery(how.recovery); err != nil {
			return nil, err
		}
	}
	if how.databases != "" {
		text, err := os.ReadFile(how.databases)
		if err != nil {
			return nil, err
		}
		if r.Databases, err = resource.DecodeOne(how.databases, text, func(m map[string]string) (map[string]string, error) { return m, nil }); err != nil {
			return nil, err
		}
	}
	if r.Scratch == "" {
		r.Scratch = os.TempDir()
	} else if err := os.MkdirAll(r.Scratch, 0o700); err != nil {
		return nil, err
	}
	if r.Program, err = os.Executable(); err != nil {
		return nil, err
	}
	if r.Host, err = os.Hostname(); err != nil {
		return nil, err
	}
	return r, rehearse.ClearOld(r.Scratch, time.Now().Add(-24*time.Hour))
}

// rehearsalBeat is how often an installation hears of a rehearsal that runs, and
// this host of its being cancelled.
const rehearsalBeat = 5 * time.Second

// runRehearsal takes up a rehearsal that is due, runs it and hands in its
// evidence.
func (a *app) runRehearsal(ctx context.Context, c *client.Client, runner *rehearse.Runner, id string) (r rehearsal.Rehearsal, err error) {
	work, err := c.ClaimRehearsal(ctx, runner.Host, id)
	if err != nil {
		return r, err
	}
	running, stop := context.WithCancel(ctx)
	defer stop()
	phases := make(chan string, 1)
	runner.Advance = func(phase string) {
		a.progress(phase)
		select {
		case <-phases:
		default:
		}
		phases <- phase
	}
	told := make(chan struct{})
	telling, quiet := context.WithCancel(context.WithoutCancel(ctx))
	go func() {
		defer close(told)
		tick := time.NewTicker(rehearsalBeat)
		defer tick.Stop()
		phase := "beginning"
		for {
			// What cannot be told now is told with the next beat.
			if cancelled, err := c.AdvanceRehearsal(telling, work.Rehearsal, phase); err == nil && cancelled {
				stop()
			}
			select {
			case <-telling.Done():
				return
			case <-tick.C:
			case phase = <-phases:
			}
		}
	}()
	evidence := runner.Run(running, work)
	quiet()
	<-told
	a.progress("")
	return c.ConcludeRehearsal(context.WithoutCancel(ctx), work.Rehearsal, evidence)
}

// attendRehearsals runs rehearsals as they are asked for, until ctx ends.
func (a *app) attendRehearsals(ctx context.Context, c *client.Client, runner *rehearse.Runner, every time.Duration) error {
	for {
		r, err := a.runRehearsal(ctx, c, runner, "")
		switch {
		case ctx.Err() != nil:
			return nil
		case err == nil:
			a.note("%s: %s\n", r.ID, r.Verdict)
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

func (a *app) showRehearsal(r rehearsal.Rehearsal) error {
	if a.asJSON {
		return a.json(r)
	}
	if err := a.print("%s of %s on the data of %s (%s) is %s %s\n", r.ID, r.Release, r.Stamp, r.Environment, r.State, r.Verdict); err != nil {
		return err
	}
	for _, lines := range []struct {
		word string
		all  []string
	}{{"because", r.Reasons}, {"holds no more", r.Void}} {
		for _, line := range lines.all {
			if err := a.print("%s\t%s\n", lines.word, clean(line)); err != nil {
				return err
			}
		}
	}
	if r.Evidence == nil {
		return nil
	}
	var rows [][]string
	for _, s := range r.Evidence.Steps {
		rows = append(rows, []string{"step", s.Name, fmt.Sprintf("%.1f s", float64(s.Milliseconds)/1000), s.Detail})
	}
	for _, m := range r.Evidence.Migrations {
		rows = append(rows, []string{"migration", m.Name, fmt.Sprintf("%.1f s", float64(m.Milliseconds)/1000), migrationLine(m)})
	}
	for _, c := range r.Evidence.Checks {
		rows = append(rows, []string{"check", strings.TrimSpace(c.Name + " " + c.On + " " + c.Migration), c.Verdict, c.Detail})
	}
	return a.table([]string{"", "WHAT", "", ""}, rows)
}

func migrationLine(m link.RehearsedMigration) string {
	line := fmt.Sprintf("%d rows, %s to %s; others waited %.1f s at most", m.Rows, bytesOf(m.Before), bytesOf(m.After), float64(m.WaitMillis)/1000)
	if len(m.Locks) > 0 {
		line += fmt.Sprintf("; %s on %s held %.1f s", m.Locks[0].Mode, m.Locks[0].Table, float64(m.Locks[0].Milliseconds)/1000)
	}
	return line
}

func (a *app) rehearsalList() *cobra.Command {
	var environment, release string
	cmd := a.read(&cobra.Command{
		Use: "list", Short: "List the newest rehearsals", Args: cobra.NoArgs,
		Example: "  slipway rehearsal list\n  slipway rehearsal list --environment production --release v1.4.0 --json",
		RunE: a.call(func(ctx context.Context, c *client.Client, _ []string) error {
			all, err := c.Rehearsals(ctx, environment, release)
			if err != nil {
				return err
			}
			if a.asJSON {
				return jsonList(a, all, "")
			}
			rows := make([][]string, len(all))
			for i, r := range all {
				rows[i] = []string{r.ID, r.Release, r.Stamp, r.State, r.Verdict, a.when(r.EndedAt), strings.Join(r.Reasons[:min(len(r.Reasons), 1)], "")}
			}
			return a.table([]string{"REHEARSAL", "RELEASE", "STAMP", "STATE", "VERDICT", "ENDED", ""}, rows)
		}),
	})
	cmd.Flags().StringVar(&environment, "environment", "", "only those on its data")
	cmd.Flags().StringVar(&release, "release", "", "only those of a release")
	return cmd
}

func (a *app) rehearsalShow() *cobra.Command {
	return a.read(&cobra.Command{
		Use: "show REHEARSAL", Short: "Show a rehearsal with its evidence, and whether it still holds", Args: cobra.ExactArgs(1),
		Example: "  slipway rehearsal show rehearsal-20261220T180000.000Z --json",
		RunE: a.call(func(ctx context.Context, c *client.Client, args []string) error {
			r, err := c.Rehearsal(ctx, args[0])
			if err != nil {
				return err
			}
			return a.showRehearsal(r)
		}),
	})
}

func (a *app) rehearsalCancel() *cobra.Command {
	return a.read(&cobra.Command{
		Use: "cancel REHEARSAL", Short: "End a rehearsal that waits or runs; its host clears away", Args: cobra.ExactArgs(1),
		Example: "  slipway rehearsal cancel rehearsal-20261220T180000.000Z",
		RunE: a.call(func(ctx context.Context, c *client.Client, args []string) error {
			r, err := c.CancelRehearsal(ctx, args[0])
			if err != nil {
				return err
			}
			return a.showRehearsal(r)
		}),
	})
}

// rehearsalKeep is the process that clears away what a rehearsal made, should
// the one that runs it be killed.
func (a *app) rehearsalKeep() *cobra.Command {
	return &cobra.Command{
		Use: "keep", Hidden: true, Short: "Clear away behind a rehearsal; what `slipway rehearsal run` starts", Args: cobra.NoArgs,
		RunE: a.run(func(cmd *cobra.Command, _ []string) error {
			return rehearse.Keep(context.WithoutCancel(cmd.Context()), a.in)
		}),
	}
}
