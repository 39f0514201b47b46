package artifact

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/slipway/slipway/internal/control/access"
	"github.com/slipway/slipway/internal/control/audit"
	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/sqldb"
)

// maxPruned bounds how many files one call removes.
const maxPruned = 1000

// Prune removes files that no release names and that nothing has come of for
// a while; 0 is a day. It returns what was removed, or would be.
func (a *Artifacts) Prune(ctx context.Context, actor access.Actor, unused time.Duration, dryRun bool) ([]File, error) {
	if unused < 0 {
		return nil, problem.New(problem.Invalid, "the time without use must not be negative").At("unusedSeconds")
	}
	if unused == 0 {
		unused = keepUnused
	}
	const condition = " WHERE state <> ? AND used_at <= ? AND NOT EXISTS (SELECT 1 FROM release_artifact r WHERE r.sha256 = artifact.sha256) ORDER BY sha256 LIMIT ?"
	before := sqldb.Micros(a.now().Add(-unused))
	if dryRun {
		return sqldb.Rows(ctx, a.db, scan, selectFiles+condition, Leaving, before, maxPruned)
	}
	var leaving []File
	err := a.db.Commit(ctx, func(ctx context.Context, tx *sqldb.Tx) (err error) {
		if leaving, err = sqldb.Rows(ctx, tx, scan, selectFiles+condition, Leaving, before, maxPruned); err != nil {
			return err
		}
		for _, f := range leaving {
			if _, err := tx.Exec(ctx, "UPDATE artifact SET state = ? WHERE sha256 = ?", Leaving, f.SHA256); err != nil {
				return err
			}
		}
		return a.audit.Record(ctx, tx, audit.Entry{Actor: actor.Name, Action: "artifact.prune", Object: "artifacts", Outcome: audit.Done, Detail: described(leaving)})
	})
	if err != nil {
		return nil, err
	}
	return leaving, a.remove(ctx)
}

// described lists files for the audit log.
func described(files []File) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d files", len(files))
	for _, f := range files {
		fmt.Fprintf(&b, "; %s sha256:%s, %d bytes", f.File, f.SHA256, f.Size)
	}
	return b.String()
}

// remove removes what is leaving, also what a process that died meanwhile left.
func (a *Artifacts) remove(ctx context.Context) error {
	leaving, err := sqldb.Rows(ctx, a.db, scan, selectFiles+" WHERE state = ?", Leaving)
	if err != nil {
		return err
	}
	for _, f := range leaving {
		if err := a.files.Remove(ctx, f.SHA256); err != nil {
			return err
		}
		if err := a.db.Commit(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
			_, err := tx.Exec(ctx, "DELETE FROM artifact WHERE sha256 = ? AND state = ?", f.SHA256, Leaving)
			return err
		}); err != nil {
			return err
		}
	}
	return nil
}

// Tidy gives up files whose senders have, and ends removals that a crash cut
// short.
func (a *Artifacts) Tidy(ctx context.Context) error {
	before := a.now().Add(-abandoned)
	if err := a.db.Commit(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		given, err := sqldb.Rows(ctx, tx, scan, selectFiles+" WHERE state = ? AND used_at <= ? LIMIT ?", Arriving, sqldb.Micros(before), maxPruned)
		if err != nil {
			return err
		}
		for _, f := range given {
			if _, err := tx.Exec(ctx, "UPDATE artifact SET state = ? WHERE sha256 = ?", Leaving, f.SHA256); err != nil {
				return err
			}
			if err := a.audit.Conclude(ctx, tx, audit.Entry{Actor: "slipway", Action: "artifact.put", Object: "artifact/" + f.SHA256, Outcome: audit.Failed, Detail: "its sender has not gone on for a week"}); err != nil {
				return err
			}
		}
		return nil
	}); err != nil {
		return err
	}
	if err := a.remove(ctx); err != nil {
		return err
	}
	return a.files.Sweep(ctx, before)
}
