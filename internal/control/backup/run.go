package backup

import (
	"context"
	"crypto/hkdf"
	"crypto/sha256"
	"sync"
	"time"

	"github.com/slipway/slipway/internal/control/access"
	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/sqldb"
	"github.com/slipway/slipway/internal/vault"
)

const (
	lookEvery = 5 * time.Second        // whether a backup is due
	pollEvery = 200 * time.Millisecond // how far a plane is
	patience  = 2 * time.Minute        // how long a plane may be away in the middle of a backup
	atOnce    = 3                      // stamps that are backed up at the same time
	sweepTime = 24 * time.Hour         // how often chunks are swept that nothing uses
)

// Run has planes backed up until ctx ends.
func (b *Backups) Run(ctx context.Context) error {
	if err := b.resume(ctx); err != nil && ctx.Err() == nil {
		return err
	}
	if err := b.learn(ctx); err != nil && ctx.Err() == nil {
		b.Logger.Warn("the vaults were not looked through", "error", err)
	}
	swept := b.Now()
	look := func() {
		if err := b.look(ctx); err != nil && ctx.Err() == nil {
			b.Logger.Warn("backups: trying again", "error", err)
		}
		if b.Now().Sub(swept) > sweepTime {
			swept = b.Now()
			if _, err := b.sweep(ctx); err != nil && ctx.Err() == nil {
				b.Logger.Warn("chunks were not swept; trying again tomorrow", "error", err)
			}
		}
	}
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		look()
		select {
		case <-ctx.Done():
			return nil
		case <-b.kick:
		case <-tick.C:
		}
	}
}

// resume ends what a process that died has left: a backup without a signature
// is none.
func (b *Backups) resume(ctx context.Context) error {
	left, err := sqldb.Rows(ctx, b.DB, scanned[Backup], selectBackups+" WHERE state = ?", Taking)
	for _, one := range left {
		b.failed(&one, "control ended in the middle of it")
		if err := b.store(ctx, one); err != nil {
			return err
		}
	}
	return err
}

func (b *Backups) failed(one *Backup, failure string) {
	now := b.Now().UTC()
	one.State, one.Phase, one.Failure, one.EndedAt = Failed, "", failure, &now
}

// look takes what is due and what was asked for, and sees to drills.
func (b *Backups) look(ctx context.Context) error {
	if err := b.stepDrills(ctx); err != nil {
		return err
	}
	if len(b.Vaults) == 0 {
		return nil
	}
	plan, err := b.Schedule(ctx)
	if err != nil {
		return err
	}
	peers, err := b.peers(ctx)
	if err != nil {
		return err
	}
	var due []task
	for _, p := range peers {
		h, asked, err := b.history(ctx, p.Peer)
		if err != nil {
			return err
		}
		switch {
		case asked != nil:
			due = append(due, task{p, *asked})
		case plan.due(b.Now(), h):
			due = append(due, task{p, b.fresh(p, "")})
		}
	}
	return b.takeAll(ctx, due, plan)
}

// task is a backup to be taken.
type task struct {
	subject
	Backup
}

// takeAll takes stamps first, several at once, then provisioning, then control.
func (b *Backups) takeAll(ctx context.Context, due []task, plan Schedule) error {
	if len(due) == 0 {
		return nil
	}
	b.busy.Lock()
	defer b.busy.Unlock()
	var taking sync.WaitGroup
	slots := make(chan struct{}, atOnce)
	for _, one := range due {
		if _, stamp := link.StampOfPeer(one.subject.Peer); !stamp {
			taking.Wait()
		}
		slots <- struct{}{}
		taking.Go(func() {
			defer func() { <-slots }()
			b.takeOne(ctx, one, plan)
		})
	}
	taking.Wait()
	return ctx.Err()
}

func (b *Backups) fresh(p subject, by string) Backup {
	now := b.Now().UTC()
	return Backup{ID: vault.NewID(now, p.Peer), Peer: p.Peer, Environment: p.Environment, Region: p.Region, State: Taking, Phase: link.BackupWaiting, AskedBy: by, BegunAt: now}
}

func (b *Backups) history(ctx context.Context, peer string) (h history, asked *Backup, err error) {
	all, err := b.List(ctx, peer, time.Time{}, 20)
	if err != nil {
		return h, nil, err
	}
	for i, one := range all {
		if i == 0 {
			h.Tried = &one.BegunAt
		}
		if one.State == Kept {
			h.Kept = one.TakenAt
			break
		}
		if one.State == Taking {
			h.Taking, asked = true, &one
			continue
		}
		h.Failures++
	}
	return h, asked, nil
}

// takeOne takes a backup and records what came of it.
func (b *Backups) takeOne(ctx context.Context, one task, plan Schedule) {
	record := one.Backup
	place, err := vault.Choose(b.Vaults, one.subject.Peer, one.subject.Region, one.Bound)
	record.Vault = place.Name
	if err == nil {
		err = b.store(ctx, record)
	}
	var x vault.Index
	if err == nil {
		x, err = b.take(ctx, &record, place)
	}
	switch {
	case err == nil:
		record = described(record, x)
	default:
		b.failed(&record, told(err))
		b.Logger.Warn("a backup failed; it is tried again", "backup", record.ID, "error", err)
	}
	// What was begun is concluded though the process ends.
	ctx = context.WithoutCancel(ctx)
	if err := b.store(ctx, record); err != nil {
		b.Logger.Warn("what became of a backup was not recorded", "backup", record.ID, "error", err)
	}
	if record.State == Kept {
		if _, err := b.retain(ctx, one.subject.Peer, plan, false); err != nil {
			b.Logger.Warn("old backups were not removed; trying again", "plane", record.Peer, "error", err)
		}
	}
}

func told(err error) string {
	if known := problem.Of(err); known.Kind != problem.Internal {
		return known.Error()
	}
	return err.Error()
}

// take has the plane write, waits until it has, and signs.
func (b *Backups) take(ctx context.Context, record *Backup, place link.Vault) (vault.Index, error) {
	secret, err := hkdf.Key(sha256.New, b.naming, nil, record.Peer, 32)
	if err != nil {
		return vault.Index{}, err
	}
	state, err := b.Take(ctx, record.Peer, link.TakeBackup{
		ID: record.ID, Vault: place, Environment: record.Environment, Region: record.Region, Recipients: b.Recipients, Secret: secret, Rate: b.Rate, Anew: record.Anew,
	})
	if err != nil {
		return vault.Index{}, err
	}
	seen := b.Now()
	for state.Phase != link.BackupWritten {
		if state.Phase == link.BackupFailed {
			return vault.Index{}, problem.New(problem.NotReady, "%s", state.Failure)
		}
		select {
		case <-ctx.Done():
			return vault.Index{}, problem.New(problem.NotReady, "control ended in the middle of it")
		case <-time.After(pollEvery):
		}
		next, err := b.Status(ctx, record.Peer, link.BackupRef{ID: record.ID})
		switch {
		case err == nil:
			state, seen = next, b.Now()
			b.progress(ctx, record, state)
		case problem.Is(err, problem.NotFound) || b.Now().Sub(seen) > patience:
			return vault.Index{}, err
		}
	}
	return b.vaults[place.Name].Publish(ctx, record.ID, state.Digest, b.key, b.Now())
}

// progress keeps how far a backup is, for people who look.
func (b *Backups) progress(ctx context.Context, record *Backup, s link.BackupState) {
	if record.Phase == s.Phase && record.Progress == s.Bytes {
		return
	}
	record.Phase, record.Progress = s.Phase, s.Bytes
	if err := b.store(ctx, *record); err != nil && ctx.Err() == nil {
		b.Logger.Debug("how far a backup is was not recorded", "error", err)
	}
}

// Ask has planes backed up now: those named, or all.
func (b *Backups) Ask(ctx context.Context, actor access.Actor, only []string, fromScratch bool) ([]Backup, error) {
	if len(b.Vaults) == 0 {
		return nil, problem.New(problem.Conflict, "no vault is configured; docs/how-to/back-up-and-restore.md says how")
	}
	peers, err := b.peers(ctx)
	if err != nil {
		return nil, err
	}
	var asked []Backup
	for _, p := range peers {
		if len(only) == 0 || mentioned(only, p.Peer) {
			one := b.fresh(p, actor.Name)
			one.Anew = fromScratch
			asked = append(asked, one)
		}
	}
	if len(asked) == 0 || len(only) > len(asked) {
		return nil, problem.New(problem.NotFound, "a plane is control, provisioning, or stamp.NAME for a stamp there is").At("planes")
	}
	err = b.DB.Commit(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		for _, one := range asked {
			taking, found, err := sqldb.Row(ctx, tx, scanned[Backup], selectBackups+" WHERE peer = ? AND state = ?", one.Peer, Taking)
			if err != nil {
				return err
			}
			if found {
				return problem.New(problem.Conflict, "the backup %s is being taken; wait for it", taking.ID)
			}
			if err := b.save(ctx, tx, one); err != nil {
				return err
			}
		}
		return b.note(ctx, tx, actor, "backup.create", objectOf(only), "")
	})
	b.Kick()
	return asked, err
}

func objectOf(only []string) string {
	if len(only) == 1 {
		return only[0]
	}
	return "backups"
}

// mentioned takes a stamp by its name alone, too.
func mentioned(only []string, peer string) bool {
	for _, name := range only {
		if name == peer || link.StampPeer(name) == peer {
			return true
		}
	}
	return false
}
