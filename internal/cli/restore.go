package cli

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/spf13/cobra"

	"github.com/slipway/slipway/internal/recovery"
	"github.com/slipway/slipway/internal/vault"
)

func (a *app) restore() *cobra.Command {
	var file, to, only, at, database string
	var list bool
	cmd := a.read(&cobra.Command{
		Use: "restore --recovery FILE --to DIR", Short: "Bring an installation, or one plane of it, back from backups", Args: cobra.NoArgs,
		Long: "Bring an installation, or one plane of it, back from backups, into a directory that is not\n" +
			"there yet or is empty. FILE names the vaults, the identity that decrypts and the keys that\n" +
			"sign; nothing of the lost installation is needed. The directory appears when all of it is\n" +
			"whole and was looked through: control/, provisioning/ and stamps/NAME/ within it, as\n" +
			"`slipway up` and the processes of `slipway serve` have them.\n\n" +
			"Make sure that what was lost does not come back: two installations with the same keys\nwould both answer devices.",
		Example: "  slipway restore --recovery recovery.yaml --list\n" +
			"  slipway restore --recovery recovery.yaml --to /var/lib/slipway\n" +
			"  slipway restore --recovery recovery.yaml --only stamp.eu-production-1 --at 2026-12-20T17:45:00Z --to /srv/stamp",
		RunE: a.run(func(cmd *cobra.Command, _ []string) error {
			keys, err := vault.ReadRecovery(file)
			if err != nil {
				return err
			}
			var moment time.Time
			if at != "" {
				if moment, err = time.Parse(time.RFC3339, at); err != nil {
					return usage("--at reads 2026-12-20T17:45:00Z, not %q", at)
				}
			}
			if list {
				return a.listRecoverable(cmd.Context(), keys)
			}
			if to == "" {
				return usage("--to is missing: the directory to restore into")
			}
			var planes []string
			if only != "" {
				planes = []string{only}
			}
			return a.bringBack(cmd.Context(), keys, planes, moment, recovery.Target{Dir: to, Database: cmp.Or(database, a.env("SLIPWAY_DATABASE")), One: only != ""})
		}),
	})
	cmd.Flags().StringVar(&file, "recovery", "", "file of the recovery role: vaults, identityFile, signers")
	cmd.Flags().StringVar(&to, "to", "", "directory to restore into")
	cmd.Flags().StringVar(&only, "only", "", "only this plane: control, provisioning, stamp.NAME; its files are in the directory itself")
	cmd.Flags().StringVar(&at, "at", "", "the newest backups that are not younger than this time; otherwise the newest of all")
	cmd.Flags().StringVar(&database, "database", "", "empty PostgreSQL database for planes that were kept in PostgreSQL (SLIPWAY_DATABASE)")
	cmd.Flags().BoolVar(&list, "list", false, "only list the backups that the vaults have")
	required(cmd, "recovery")
	return cmd
}

func (a *app) listRecoverable(ctx context.Context, keys vault.Keys) error {
	var rows [][]string
	var all []vault.Index
	for _, v := range keys.Vaults {
		ids, err := v.List(ctx)
		if err != nil {
			return err
		}
		for _, id := range ids {
			x, err := v.Find(ctx, id, keys.Signers)
			if err != nil {
				rows = append(rows, []string{id, v.Name(), "", err.Error()})
				continue
			}
			x.Chunks, x.Contents = nil, nil
			all, rows = append(all, x), append(rows, []string{id, v.Name(), bytesOf(x.Bytes), ""})
		}
	}
	if a.asJSON {
		return jsonList(a, all, "")
	}
	return a.table([]string{"BACKUP", "VAULT", "BYTES", ""}, rows)
}

// restoredPlane is a plane that came back, as scripts see it.
type restoredPlane struct {
	Plane   string    `json:"plane"`
	Backup  string    `json:"backup"`
	TakenAt time.Time `json:"takenAt"`
	Dir     string    `json:"dir"`
	Bytes   int64     `json:"bytes"`
}

func (a *app) bringBack(ctx context.Context, keys vault.Keys, planes []string, at time.Time, target recovery.Target) error {
	chosen, err := recovery.Choose(ctx, keys, planes, at)
	if err != nil {
		return err
	}
	target.Logger = slog.New(slog.DiscardHandler)
	target.Progress = func(peer string, bytes int64) { a.progress(fmt.Sprintf("%s: %s", peer, bytesOf(bytes))) }
	back, err := recovery.Restore(ctx, keys, chosen, target)
	a.progress("")
	if err != nil {
		return err
	}
	var items []restoredPlane
	var rows [][]string
	for _, p := range back {
		items = append(items, restoredPlane{p.Index.Peer, p.Index.ID, p.Index.TakenAt, p.Dir, p.Bytes})
		rows = append(rows, []string{p.Index.Peer, p.Index.ID, a.when(&p.Index.TakenAt), bytesOf(p.Bytes), p.Dir})
	}
	if a.asJSON {
		return jsonList(a, items, "")
	}
	return a.table([]string{"PLANE", "BACKUP", "AS OF", "BYTES", "DIRECTORY"}, rows)
}
