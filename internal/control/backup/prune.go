package backup

import (
	"context"
	"encoding/json"
	"time"

	"github.com/slipway/slipway/internal/control/access"
	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/sqldb"
)

// Pruned is what was let go.
type Pruned struct {
	Backups []string `json:"backups"`
	Chunks  int      `json:"chunks" doc:"That no backup used any more"`
	Bytes   int64    `json:"bytes" doc:"Of those chunks"`
	DryRun  bool     `json:"dryRun,omitempty"`
}

// Prune lets go of backups that the plan need not keep, and of chunks that
// nothing uses.
func (b *Backups) Prune(ctx context.Context, actor access.Actor, dryRun bool) (Pruned, error) {
	p := Pruned{Backups: []string{}, DryRun: dryRun}
	plan, err := b.Schedule(ctx)
	if err != nil {
		return p, err
	}
	if !dryRun {
		err := b.DB.Commit(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
			return b.note(ctx, tx, actor, "backup.prune", "backups", "")
		})
		if err != nil {
			return p, err
		}
	}
	peers, err := sqldb.Rows(ctx, b.DB, scanText, "SELECT DISTINCT peer FROM backup ORDER BY peer")
	if err != nil {
		return p, err
	}
	for _, peer := range peers {
		gone, err := b.retain(ctx, peer, plan, dryRun)
		p.Backups = append(p.Backups, gone...)
		if err != nil {
			return p, err
		}
	}
	if dryRun {
		return p, nil
	}
	swept, err := b.sweep(ctx)
	p.Chunks, p.Bytes = swept.Chunks, swept.Bytes
	return p, err
}

// keepFailed is how long backups are told of that failed.
const keepFailed = 30 * 24 * time.Hour

// retain removes the backups of a plane that need not be kept.
func (b *Backups) retain(ctx context.Context, peer string, plan Schedule, dryRun bool) ([]string, error) {
	all, err := sqldb.Rows(ctx, b.DB, scanned[Backup], selectBackups+" WHERE peer = ? AND state = ?", peer, Kept)
	if err != nil {
		return nil, err
	}
	moments, places := map[string]time.Time{}, map[string]string{}
	for _, one := range all {
		moments[one.ID], places[one.ID] = *one.TakenAt, one.Vault
	}
	excess := plan.Keep.Excess(moments)
	if dryRun {
		return excess, nil
	}
	var gone []string
	for _, id := range excess {
		v := b.vaults[places[id]]
		if v == nil {
			continue // of a vault that is configured no more
		}
		removed, err := v.Remove(ctx, []string{id}, b.Now())
		if err != nil {
			return gone, err
		}
		gone = append(gone, removed...)
	}
	return gone, b.DB.Commit(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		for _, id := range gone {
			if _, err := tx.Exec(ctx, "DELETE FROM backup WHERE id = ?", id); err != nil {
				return err
			}
		}
		_, err := tx.Exec(ctx, "DELETE FROM backup WHERE peer = ? AND state = ? AND at < ?", peer, Failed, sqldb.Micros(b.Now().Add(-keepFailed)))
		return err
	})
}

// sweep removes chunks that nothing uses, while no backup is being taken.
func (b *Backups) sweep(ctx context.Context) (p Pruned, err error) {
	if !b.busy.TryLock() {
		return p, problem.New(problem.Busy, "a backup is being taken; try again when it has ended").After(time.Minute)
	}
	defer b.busy.Unlock()
	peers, err := sqldb.Rows(ctx, b.DB, scanText, "SELECT DISTINCT peer FROM backup ORDER BY peer")
	if err != nil {
		return p, err
	}
	for _, v := range b.vaults {
		for _, peer := range peers {
			n, bytes, err := v.Sweep(ctx, peer, b.signers(), b.Now())
			p.Chunks, p.Bytes = p.Chunks+n, p.Bytes+bytes
			if err != nil {
				return p, err
			}
		}
	}
	return p, nil
}

// Verify begins to read every chunk of a backup; the backup tells how far that
// is and what it has shown.
func (b *Backups) Verify(ctx context.Context, actor access.Actor, id string) (Backup, error) {
	one, err := b.Get(ctx, id)
	if err != nil {
		return one, err
	}
	v := b.vaults[one.Vault]
	if one.State != Kept || v == nil {
		return one, problem.New(problem.Conflict, "the backup %s is %s; one that is kept in a vault that is configured can be verified", id, one.State)
	}
	one.Verified = &BackupVerified{At: b.Now().UTC()}
	err = b.DB.Commit(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		if err := b.save(ctx, tx, one); err != nil {
			return err
		}
		return b.note(ctx, tx, actor, "backup.verify", id, "")
	})
	if err == nil {
		verified := *one.Verified // the caller's own
		go b.verify(context.WithoutCancel(ctx), one)
		one.Verified = &verified
	}
	return one, err
}

// verifyTime bounds how long the chunks of a backup are read.
const verifyTime = 12 * time.Hour

func (b *Backups) verify(ctx context.Context, one Backup) {
	ctx, cancel := context.WithTimeout(ctx, verifyTime)
	defer cancel()
	shown := b.Now()
	v := b.vaults[one.Vault]
	x, err := v.Find(ctx, one.ID, b.signers())
	if err == nil {
		err = v.Verify(ctx, x, func(chunks int) {
			if one.Verified.Chunks = chunks; b.Now().Sub(shown) > time.Second {
				shown = b.Now()
				if err := b.again(ctx, one); err != nil {
					b.Logger.Debug("how far a backup is verified was not recorded", "error", err)
				}
			}
		})
	}
	ended := b.Now().UTC()
	if one.Verified.EndedAt = &ended; err != nil {
		one.Verified.Failure = told(err)
	}
	if err := b.again(ctx, one); err != nil {
		b.Logger.Warn("what verifying a backup has shown was not recorded", "backup", one.ID, "error", err)
	}
}

// again keeps what is new of a backup, unless it was let go meanwhile.
func (b *Backups) again(ctx context.Context, one Backup) error {
	text, err := json.Marshal(one)
	if err != nil {
		return err
	}
	return b.DB.Commit(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		_, err := tx.Exec(ctx, "UPDATE backup SET document = ? WHERE id = ?", string(text), one.ID)
		return err
	})
}
