package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/slipway/slipway/internal/client"
	"github.com/slipway/slipway/internal/control/backup"
	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/vault"
)

func (a *app) backup() *cobra.Command {
	group := a.group("backup", "Back every plane up, and know which backups there are", "Control, provisioning and every stamp are backed up by themselves, encrypted, into the\nvaults that the configuration names. `slipway restore` brings them back, `slipway drill` tries that.",
		a.backupCreate(), a.backupList(), a.backupShow(), a.backupVerify(), a.backupPrune(), a.backupSchedule(), a.backupStatus(), a.backupKey(), a.backupKeygen())
	group.Aliases = []string{"backups"}
	return group
}

func (a *app) backupCreate() *cobra.Command {
	var wait, anew bool
	var timeout time.Duration
	cmd := a.read(&cobra.Command{
		Use: "create [PLANE…]", Short: "Back planes up now: control, provisioning, stamps by name; all where none is named",
		Example: "  slipway backup create --wait\n  slipway backup create eu-production-1 control",
		RunE: a.call(func(ctx context.Context, c *client.Client, args []string) error {
			asked, err := c.CreateBackups(ctx, args, anew)
			if err == nil && wait {
				limited, cancel := context.WithTimeout(ctx, timeout)
				defer cancel()
				asked, err = a.awaitBackups(limited, c, asked)
			}
			if err != nil {
				return err
			}
			if err := a.showBackups(asked); err != nil {
				return err
			}
			for _, one := range asked {
				if one.State == backup.Failed {
					return answer(exitFailed)
				}
			}
			return nil
		}),
	})
	cmd.Flags().BoolVar(&wait, "wait", false, "wait until they have ended: exit code 1 where one failed, 8 where they take longer than --timeout")
	cmd.Flags().DurationVar(&timeout, "timeout", time.Hour, "how long to wait")
	cmd.Flags().BoolVar(&anew, "anew", false, "use nothing that is in the vault already, because some of it is damaged")
	return cmd
}

// awaitBackups follows backups until all have ended.
func (a *app) awaitBackups(ctx context.Context, c *client.Client, all []backup.Backup) ([]backup.Backup, error) {
	defer a.progress("")
	for i := 0; i < len(all); {
		now, err := c.Backup(ctx, all[i].ID)
		switch {
		case err != nil:
			return all, err
		case now.State != backup.Taking:
			all[i] = now
			i++
			continue
		}
		a.progress(fmt.Sprintf("%s: %s %s", now.ID, now.Phase, bytesOf(now.Progress)))
		select {
		case <-ctx.Done():
			if errors.Is(ctx.Err(), context.DeadlineExceeded) {
				return all, problem.New(problem.TimedOut, "%s is still being taken; `slipway backup show` tells how far it is", now.ID)
			}
			return all, ctx.Err()
		case <-time.After(followEvery):
		}
	}
	return all, nil
}

var backupHeader = []string{"BACKUP", "STATE", "TAKEN", "BYTES", "ADDED", "VAULT", ""}

func (a *app) showBackups(all []backup.Backup) error {
	if a.asJSON {
		return jsonList(a, all, "")
	}
	rows := make([][]string, len(all))
	for i, one := range all {
		rows[i] = []string{one.ID, one.State, a.when(one.TakenAt), bytesOf(one.Bytes), bytesOf(one.Stored), one.Vault, one.Failure}
	}
	return a.table(backupHeader, rows)
}

func (a *app) backupList() *cobra.Command {
	var plane string
	cmd := a.read(&cobra.Command{
		Use: "list", Short: "List the newest backups", Args: cobra.NoArgs,
		Example: "  slipway backup list\n  slipway backup list --plane stamp.eu-production-1 --json",
		RunE: a.call(func(ctx context.Context, c *client.Client, _ []string) error {
			all, err := c.Backups(ctx, plane)
			if err != nil {
				return err
			}
			return a.showBackups(all)
		}),
	})
	cmd.Flags().StringVar(&plane, "plane", "", "only those of control, provisioning, or stamp.NAME")
	return cmd
}

func (a *app) backupShow() *cobra.Command {
	return a.read(&cobra.Command{
		Use: "show BACKUP", Short: "Show a backup", Args: cobra.ExactArgs(1),
		Example: "  slipway backup show 20261220T180000Z.control",
		RunE: a.call(func(ctx context.Context, c *client.Client, args []string) error {
			one, err := c.Backup(ctx, args[0])
			if err != nil {
				return err
			}
			return a.showBackup(one)
		}),
	})
}

func (a *app) showBackup(one backup.Backup) error {
	if a.asJSON {
		return a.json(one)
	}
	rows := [][]string{
		{"backup", one.ID}, {"state", one.State}, {"vault", one.Vault}, {"taken", a.when(one.TakenAt)}, {"version", one.Version},
		{"database", fmt.Sprintf("%s, tables of migration %d", one.Engine, one.Schema)},
		{"files", fmt.Sprintf("%d, %s", one.Files, bytesOf(one.Bytes))}, {"in the vault", fmt.Sprintf("%d chunks, %s, of which %s were new", one.Chunks, bytesOf(one.Size), bytesOf(one.Stored))},
	}
	for _, s := range one.Streams {
		rows = append(rows, []string{"log " + s.Name, fmt.Sprintf("%d records, up to %d", s.Messages, s.Last)})
	}
	if one.Failure != "" {
		rows = append(rows, []string{"failed", one.Failure})
	}
	if v := one.Verified; v != nil {
		rows = append(rows, []string{"verified", verdictOf(*v, one.Chunks)})
	}
	return a.table(nil, rows)
}

func verdictOf(v backup.Verified, chunks int) string {
	switch {
	case v.EndedAt == nil:
		return fmt.Sprintf("%d of %d chunks read", v.Chunks, chunks)
	case v.Failure != "":
		return v.Failure
	}
	return "every chunk is what it was"
}

func (a *app) backupVerify() *cobra.Command {
	cmd := a.read(&cobra.Command{
		Use: "verify BACKUP", Short: "Read every chunk of a backup and hold it against what was signed", Args: cobra.ExactArgs(1),
		Long:    "Read every chunk of a backup and hold it against what was signed. Nothing is decrypted:\nwhether it comes back, a drill shows. Exit code 3 says that it is damaged; then\n`slipway backup create --anew` makes one that uses nothing of it.",
		Example: "  slipway backup verify 20261220T180000Z.control",
		RunE: a.call(func(ctx context.Context, c *client.Client, args []string) error {
			one, err := c.VerifyBackup(ctx, args[0])
			for err == nil && one.Verified.EndedAt == nil {
				a.progress(verdictOf(*one.Verified, one.Chunks))
				select {
				case <-ctx.Done():
					return ctx.Err()
				case <-time.After(followEvery):
				}
				one, err = c.Backup(ctx, one.ID)
			}
			a.progress("")
			if err != nil {
				return err
			}
			if err := a.showBackup(one); err != nil {
				return err
			}
			if one.Verified.Failure != "" {
				return answer(exitNo)
			}
			return nil
		}),
	})
	return cmd
}

func (a *app) backupPrune() *cobra.Command {
	var dryRun bool
	cmd := a.read(&cobra.Command{
		Use: "prune", Short: "Let go of backups that the schedule need not keep, and of chunks that none uses", Args: cobra.NoArgs,
		Example: "  slipway backup prune --dry-run",
		RunE: a.call(func(ctx context.Context, c *client.Client, _ []string) error {
			gone, err := c.PruneBackups(ctx, dryRun)
			if err != nil {
				return err
			}
			if a.asJSON {
				return a.json(gone)
			}
			for _, id := range gone.Backups {
				if err := a.print("%s\n", id); err != nil {
					return err
				}
			}
			a.note("%d backups, %d chunks of %s\n", len(gone.Backups), gone.Chunks, bytesOf(gone.Bytes))
			return nil
		}),
	})
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "only tell which")
	return cmd
}

// secondsFlag is a duration flag over a number of seconds.
func secondsFlag(cmd *cobra.Command, into *int64, name, use string) {
	cmd.Flags().Func(name, use, func(text string) error {
		d, err := time.ParseDuration(text)
		*into = int64(d / time.Second)
		return err
	})
}

func (a *app) backupSchedule() *cobra.Command {
	var set backup.Schedule
	var paused bool
	cmd := a.read(&cobra.Command{
		Use: "schedule", Short: "Show or change how often backups are taken, which are kept, and what is promised", Args: cobra.NoArgs,
		Example: "  slipway backup schedule\n  slipway backup schedule --every 10m --keep-daily 30 --rpo 30m --rto 1h",
	})
	cmd.RunE = a.call(func(ctx context.Context, c *client.Client, _ []string) error {
		o, err := c.BackupStatus(ctx)
		if err != nil {
			return err
		}
		plan, changed := o.Schedule, false
		for name, put := range map[string]func(){
			"every": func() { plan.EverySeconds = set.EverySeconds }, "drill-every": func() { plan.DrillSeconds = set.DrillSeconds }, "pause": func() { plan.Paused = paused },
			"keep-last": func() { plan.Keep.Last = set.Keep.Last }, "keep-daily": func() { plan.Keep.Daily = set.Keep.Daily },
			"keep-weekly": func() { plan.Keep.Weekly = set.Keep.Weekly }, "keep-monthly": func() { plan.Keep.Monthly = set.Keep.Monthly },
			"rpo": func() { plan.Objectives.RPOSeconds = set.Objectives.RPOSeconds }, "rto": func() { plan.Objectives.RTOSeconds = set.Objectives.RTOSeconds },
			"drill-within": func() { plan.Objectives.DrillSeconds = set.Objectives.DrillSeconds },
		} {
			if cmd.Flags().Changed(name) {
				put()
				changed = true
			}
		}
		if changed {
			if plan, err = c.SetBackupSchedule(ctx, plan); err != nil {
				return err
			}
		}
		return a.showPlan(plan)
	})
	secondsFlag(cmd, &set.EverySeconds, "every", "how often each plane is backed up, such as 15m")
	secondsFlag(cmd, &set.DrillSeconds, "drill-every", "how often a drill becomes due, such as 24h")
	cmd.Flags().BoolVar(&paused, "pause", false, "take none by itself; --pause=false goes on")
	cmd.Flags().IntVar(&set.Keep.Last, "keep-last", 0, "how many of the newest are kept")
	cmd.Flags().IntVar(&set.Keep.Daily, "keep-daily", 0, "of how many days the newest is kept")
	cmd.Flags().IntVar(&set.Keep.Weekly, "keep-weekly", 0, "of how many weeks the newest is kept")
	cmd.Flags().IntVar(&set.Keep.Monthly, "keep-monthly", 0, "of how many months the newest is kept")
	secondsFlag(cmd, &set.Objectives.RPOSeconds, "rpo", "how old what comes back may be")
	secondsFlag(cmd, &set.Objectives.RTOSeconds, "rto", "how long it may take until a device authenticates again")
	secondsFlag(cmd, &set.Objectives.DrillSeconds, "drill-within", "how long ago the last drill may be that passed")
	return cmd
}

func (a *app) showPlan(p backup.Schedule) error {
	if a.asJSON {
		return a.json(p)
	}
	span := func(s int64) string { return (time.Duration(s) * time.Second).String() }
	every := span(p.EverySeconds)
	if p.Paused {
		every = "paused; otherwise " + every
	}
	return a.table(nil, [][]string{
		{"every", every}, {"drill every", span(p.DrillSeconds)},
		{"kept", fmt.Sprintf("the last %d, of %d days, %d weeks, %d months", p.Keep.Last, p.Keep.Daily, p.Keep.Weekly, p.Keep.Monthly)},
		{"lost at most", span(p.Objectives.RPOSeconds)}, {"recovered within", span(p.Objectives.RTOSeconds)}, {"a drill passed within", span(p.Objectives.DrillSeconds)},
	})
}

func (a *app) backupStatus() *cobra.Command {
	return a.read(&cobra.Command{
		Use: "status", Short: "Show how old each plane's newest backup is; exit code 3 where one is older than promised", Args: cobra.NoArgs,
		Example: "  slipway backup status",
		RunE: a.call(func(ctx context.Context, c *client.Client, _ []string) error {
			o, err := c.BackupStatus(ctx)
			if err != nil {
				return err
			}
			late := o.DrillLate
			rows := make([][]string, len(o.Planes))
			for i, p := range o.Planes {
				late = late || p.Late
				rows[i] = a.standingRow(p)
			}
			if a.asJSON {
				err = a.json(o)
			} else {
				err = a.table([]string{"PLANE", "VAULT", "NEWEST", "KEPT", "SIZE", ""}, rows)
				if o.DrillLate {
					a.note("no drill has passed lately: `slipway drill run`\n")
				}
			}
			if err == nil && late {
				err = answer(exitNo)
			}
			return err
		}),
	})
}

func (a *app) standingRow(p backup.PlaneStanding) []string {
	row := []string{p.Peer, p.Vault, "never", strconv.Itoa(p.Kept), bytesOf(p.Size), p.Problem}
	if p.Newest != nil {
		row[2] = a.when(p.Newest.TakenAt)
	}
	switch {
	case p.Problem != "":
	case p.Last != nil && p.Last.State == backup.Failed:
		row[5] = "the last failed: " + p.Last.Failure
	case p.Late:
		row[5] = "older than promised"
	}
	return row
}

func (a *app) backupKey() *cobra.Command {
	return &cobra.Command{
		Use: "key", Short: "Show the key by which this installation's backups are known, for the file of the recovery role", Args: cobra.NoArgs,
		Example: "  slipway backup key",
		RunE: a.call(func(ctx context.Context, c *client.Client, _ []string) error {
			o, err := c.BackupStatus(ctx)
			if err != nil {
				return err
			}
			return a.print("%s\n", o.Signer)
		}),
	}
}

func (a *app) backupKeygen() *cobra.Command {
	return &cobra.Command{
		Use: "keygen FILE", Short: "Make the identity that decrypts backups, on the machine of whoever recovers", Args: cobra.ExactArgs(1),
		Long:    "Make the identity that decrypts backups and write it to FILE; its recipient, for the\nserver's configuration, is printed. Do this on the machine of whoever recovers: who has\nFILE reads every backup, and without it none can be restored.",
		Example: "  slipway backup keygen recovery.age",
		RunE: a.run(func(_ *cobra.Command, args []string) error {
			identity, recipient, err := vault.NewIdentity()
			if err != nil {
				return err
			}
			file, err := os.OpenFile(args[0], os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
			if errors.Is(err, fs.ErrExist) {
				return problem.New(problem.Conflict, "there is a file %s already; an identity that is lost makes backups worthless", args[0])
			}
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(file, "# recipient: %s\n%s\n", recipient, identity)
			if err = errors.Join(err, file.Sync(), file.Close()); err != nil {
				return err
			}
			return a.print("%s\n", recipient)
		}),
	}
}
