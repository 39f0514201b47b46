package sqldb

import (
	"context"
	"database/sql"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/slipway/slipway/internal/seal"
)

// SealingState is which keys a database's secrets are sealed with, and how far
// the newest has come.
type SealingState struct {
	Source string       // where the keys come from
	Keys   []SealingKey // the newest first
	Done   int          // secrets under the newest
	Left   int          // under older ones, or in the clear
}

// SealingKey is one key, which its id says nothing of.
type SealingKey struct {
	ID      string
	Made    time.Time
	Secrets int // sealed with it
}

// pageOfSecrets is how many are sealed anew in one transaction, so that nobody
// else waits long.
const pageOfSecrets = 200

// reseal seals with the newest key whatever is kept by one that older says is
// to be left. A value that changes meanwhile is left: its writer has sealed it.
func (db *DB) reseal(ctx context.Context, k *keys, older func(id string) bool) error {
	for _, c := range k.columns {
		after := []string(nil)
		for {
			page, err := db.secrets(ctx, c, after)
			if err != nil {
				return err
			}
			if len(page) == 0 {
				break
			}
			after = page[len(page)-1].key
			page = slices.DeleteFunc(page, func(s secret) bool { return !older(seal.KeyOf(s.text)) })
			if err := db.sealAll(ctx, c, page); err != nil {
				return err
			}
		}
	}
	return nil
}

// secret is the value of a sealed column in one row.
type secret struct {
	key  []string
	text string
}

// secrets reads a page of a column, in order of the table's key.
func (db *DB) secrets(ctx context.Context, c Sealed, after []string) ([]secret, error) {
	columns := strings.Join(c.Key, ", ")
	where, args := "", []any{}
	if after != nil {
		where = fmt.Sprintf(" AND (%s) > (%s)", columns, strings.TrimSuffix(strings.Repeat("?, ", len(c.Key)), ", "))
		for _, part := range after {
			args = append(args, part)
		}
	}
	return Rows(ctx, db, func(rows *sql.Rows) (s secret, err error) {
		s.key = make([]string, len(c.Key))
		into := []any{&s.text}
		for i := range s.key {
			into = append(into, &s.key[i])
		}
		return s, rows.Scan(into...)
	}, fmt.Sprintf("SELECT %s, %s FROM %s WHERE %s IS NOT NULL AND length(%s) > 0%s ORDER BY %s LIMIT %d", c.Name, columns, c.Table, c.Name, c.Name, where, columns, pageOfSecrets), args...)
}

func (db *DB) sealAll(ctx context.Context, c Sealed, page []secret) error {
	if len(page) == 0 {
		return nil
	}
	query := fmt.Sprintf("UPDATE %s SET %s = ? WHERE %s = ? AND %s = ?", c.Table, c.Name, strings.Join(c.Key, " = ? AND "), c.Name)
	return db.Commit(ctx, func(ctx context.Context, tx *Tx) error {
		for _, s := range page {
			plain, err := seal.Open(c.of(s.key...), s.text)
			if err != nil {
				return err
			}
			args := []any{tx.Seal(c, plain, s.key...)}
			for _, part := range s.key {
				args = append(args, part)
			}
			if _, err := tx.Exec(ctx, query, append(args, c.value(s.text))...); err != nil {
				return err
			}
		}
		return nil
	})
}

// forget has the database's files keep nothing of rows as they were before.
func (db *DB) forget(ctx context.Context, columns []Sealed) error {
	if db.dialect == SQLite {
		if _, err := db.writer.ExecContext(ctx, "VACUUM"); err != nil {
			return err
		}
		_, err := db.writer.ExecContext(ctx, "PRAGMA wal_checkpoint(TRUNCATE)")
		return err
	}
	var tables []string
	for _, c := range columns {
		if !slices.Contains(tables, c.Table) {
			tables = append(tables, c.Table)
		}
	}
	_, err := db.readers.ExecContext(ctx, "VACUUM FULL "+strings.Join(tables, ", "))
	return err
}

// Sealing tells which keys are in use.
func (db *DB) Sealing(ctx context.Context) (SealingState, error) {
	k := db.keys
	found, err := db.sealings(ctx, k)
	if err != nil {
		return SealingState{}, err
	}
	state := SealingState{Source: k.source.String(), Left: found[""]}
	for i, key := range k.ring() {
		n := found[key.ID]
		state.Keys = append(state.Keys, SealingKey{key.ID, key.Made, n})
		if i == 0 {
			state.Done = n
		} else {
			state.Left += n
		}
	}
	return state, nil
}

// sealingEvery is how often the keys are looked at: well within the time that a
// new one settles.
const sealingEvery = 10 * time.Second

// RunSealing takes notice of keys that others have made, seals anew what older
// ones hold, and drops those that hold nothing any more, until ctx ends. It
// may end anywhere: where it stands follows from the keys and the rows.
func (db *DB) RunSealing(ctx context.Context, logger *slog.Logger) error {
	tick := time.NewTicker(sealingEvery)
	defer tick.Stop()
	for {
		if err := db.StepSealing(ctx); err != nil && ctx.Err() == nil {
			logger.Error("secrets in the database were not sealed anew; trying again", "error", err)
		} else if len(db.keys.ring()) > 1 {
			db.sayHowFar(ctx, logger)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// sayHowFar tells how far a new key has come.
func (db *DB) sayHowFar(ctx context.Context, logger *slog.Logger) {
	state, err := db.Sealing(ctx)
	if err != nil {
		return // the next look meets the same
	}
	logger.Info("a sealing key is being replaced", "by", state.Keys[0].ID, "done", state.Done, "left", state.Left)
}

// StepSealing is one look of RunSealing.
func (db *DB) StepSealing(ctx context.Context) error {
	k := db.keys
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.source.Ours() {
		ring, err := k.source.Read(ctx)
		if err != nil {
			return err
		}
		k.use(ring)
	}
	ring, now := k.ring(), k.now()
	if len(ring) == 1 || ring.Sealer(now).ID != ring[0].ID {
		return nil
	}
	state, err := db.Sealing(ctx)
	if err != nil {
		return err
	}
	switch {
	case state.Left > 0:
		k.clean = time.Time{}
		return db.reseal(ctx, k, func(id string) bool { return id != ring[0].ID })
	case k.clean.IsZero():
		k.clean = now
		return nil
	case now.Sub(k.clean) < seal.Settling || !k.source.Ours():
		return nil
	}
	// For as long as a key takes to settle nobody has sealed with an older one.
	if err := k.source.Write(ring[:1]); err != nil {
		return err
	}
	k.use(ring[:1])
	return nil
}
