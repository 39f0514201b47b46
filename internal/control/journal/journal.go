// Package journal keeps what all processes say of what they do: lines of their
// logs, to be searched by text, time and what they are about, and the newest
// traces. It is a file of its own beside the metrics, bounded in age and in
// bytes, that nothing else depends on: what matters for good stands in the audit
// log.
package journal

import (
	"cmp"
	"context"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/metrics"
	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/resource"
	"github.com/slipway/slipway/internal/sqldb"
	"github.com/slipway/slipway/internal/tasks"
)

//go:embed migrations
var migrations embed.FS

// Options are what a journal is built from.
type Options struct {
	Dir   string        // where it is kept
	Age   time.Duration // how long; 0 is DefaultAge
	Bytes int64         // how much; 0 is DefaultBytes
	// Stamps tells in which environment each stamp is, and Tenant whose a device
	// is, for lines that do not say.
	Stamps func(context.Context) ([]resource.Stamp, error)
	Tenant func(ctx context.Context, device string) (string, error)
	Logger *slog.Logger
	Now    func() time.Time
}

// The bounds of what is kept where nothing else is said.
const (
	DefaultAge   = 14 * 24 * time.Hour
	DefaultBytes = 256 << 20
	maxSpans     = 50_000
)

// Journal is what is kept.
type Journal struct {
	Options
	db      *sqldb.DB
	more    tasks.Bell // there are new lines
	tenants known
	stamps  known
	lost    atomic.Int64
	taken   atomic.Int64
	bytes   atomic.Int64
}

// Open opens what is kept.
func Open(ctx context.Context, o Options) (*Journal, error) {
	o.Age, o.Bytes = cmp.Or(o.Age, DefaultAge), cmp.Or(o.Bytes, DefaultBytes)
	if err := os.MkdirAll(o.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("journal: %w", err)
	}
	tables, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return nil, err
	}
	j := &Journal{Options: o}
	if j.db, err = sqldb.Open(ctx, filepath.Join(o.Dir, "journal.db"), tables); err != nil {
		return nil, fmt.Errorf("journal: %w", err)
	}
	sum, err := sqldb.Rows(ctx, j.db, scanInt, "SELECT coalesce(sum(size), 0) FROM line")
	if err != nil {
		return nil, errors.Join(err, j.db.Close())
	}
	j.bytes.Store(sum[0])
	return j, nil
}

// Close closes what is kept.
func (j *Journal) Close() error { return j.db.Close() }

// tidyEvery is how often what is too old goes; what is too much goes at once.
const tidyEvery = 10 * time.Minute

// Run lets go of what is too old, until ctx ends.
func (j *Journal) Run(ctx context.Context) error {
	return tasks.Every(ctx, tidyEvery, func() {
		if err := j.tidy(ctx); err != nil && ctx.Err() == nil {
			j.Logger.Warn("old lines were not let go of", "error", err)
		}
	})
}

func (j *Journal) tidy(ctx context.Context) error {
	before := sqldb.Micros(j.Now().Add(-j.Age))
	return j.db.Commit(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		return errors.Join(j.drop(ctx, tx, "at < ?", before), forget(ctx, tx, "began < ?", before))
	})
}

func forget(ctx context.Context, tx *sqldb.Tx, where string, args ...any) error {
	_, err := tx.Exec(ctx, "DELETE FROM span WHERE "+where, args...)
	return err
}

func (j *Journal) drop(ctx context.Context, tx *sqldb.Tx, where string, args ...any) error {
	freed, err := sqldb.Rows(ctx, tx, scanInt, "SELECT coalesce(sum(size), 0) FROM line WHERE "+where, args...)
	if err != nil {
		return err
	}
	if _, err := tx.Exec(ctx, "DELETE FROM line WHERE "+where, args...); err != nil {
		return err
	}
	j.bytes.Add(-freed[0])
	return nil
}

// The most that a process may say at a time.
const (
	maxTaken = 2000
	maxText  = 16 << 10 // of one line
)

// Take keeps what a peer says; an empty peer is the process that control itself
// runs in, which may have other planes in it.
func (j *Journal) Take(ctx context.Context, peer string, t link.Trail) error {
	if len(t.Lines) > maxTaken || len(t.Spans) > maxTaken {
		return problem.New(problem.TooLarge, "a process says at most %d lines at a time", maxTaken)
	}
	lines := make([]line, 0, len(t.Lines))
	for _, l := range t.Lines {
		lines = append(lines, j.placed(ctx, peer, t.Process, l))
	}
	j.lost.Add(t.Lost)
	err := j.db.Commit(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		for _, l := range lines {
			if err := insertLine(ctx, tx, l); err != nil {
				return err
			}
			j.bytes.Add(l.size)
		}
		for _, s := range t.Spans {
			if err := insertSpan(ctx, tx, spoken(peer, s)); err != nil {
				return err
			}
		}
		return j.bound(ctx, tx)
	})
	if err == nil {
		j.taken.Add(int64(len(lines)))
		j.more.Ring()
	}
	return err
}

// bound lets the oldest go where there is too much.
func (j *Journal) bound(ctx context.Context, tx *sqldb.Tx) error {
	if err := forget(ctx, tx, "number <= (SELECT max(number) FROM span) - ?", maxSpans); err != nil {
		return err
	}
	for j.bytes.Load() > j.Bytes {
		before := j.bytes.Load()
		if err := j.drop(ctx, tx, "id IN (SELECT id FROM line ORDER BY id LIMIT 100)"); err != nil || j.bytes.Load() == before {
			return err
		}
	}
	return nil
}

// line is one as it is kept.
type line struct {
	link.Line
	level slog.Level
	more  []byte
	size  int64
}

// placed says where a line is from, whatever it says itself: a peer speaks for
// itself alone. Whose a device is, is looked up, so that its tenant sees it.
func (j *Journal) placed(ctx context.Context, peer, process string, l link.Line) line {
	if stamp, isStamp := link.StampOfPeer(peer); isStamp {
		l.Plane, l.Stamp = "stamp", stamp
	} else if peer != "" {
		l.Plane, l.Stamp = peer, ""
	}
	l.Process = cmp.Or(process, l.Process)
	if l.Stamp != "" {
		l.Environment = j.environment(ctx, l.Stamp)
	}
	if l.Device != "" {
		l.Tenant = j.tenant(ctx, l.Device)
	}
	kept := line{Line: l}
	if kept.level.UnmarshalText([]byte(l.Level)) != nil {
		kept.level = slog.LevelInfo
	}
	kept.Message = strings.ToValidUTF8(l.Message[:min(len(l.Message), maxText)], "\uFFFD")
	more, err := json.Marshal(l.More)
	if err != nil || len(more) > maxText {
		more = []byte("{}")
	}
	kept.more, kept.size = more, int64(len(kept.Message)+len(more)+200)
	return kept
}

func spoken(peer string, s link.Span) link.Span {
	if stamp, isStamp := link.StampOfPeer(peer); isStamp {
		s.Plane, s.Stamp = "stamp", stamp
	} else if peer != "" {
		s.Plane, s.Stamp = peer, ""
	}
	return s
}

// known remembers answers for a while.
type known struct {
	mu    sync.Mutex
	since time.Time
	names map[string]string
}

// The most that is remembered, and how long.
const (
	maxKnown = 10_000
	knownFor = time.Minute
)

func (k *known) look(now time.Time, name string, ask func() (string, error)) string {
	k.mu.Lock()
	if k.names == nil || now.Sub(k.since) > knownFor || len(k.names) > maxKnown {
		k.names, k.since = map[string]string{}, now
	}
	value, found := k.names[name]
	k.mu.Unlock()
	if found {
		return value
	}
	value, err := ask()
	if err != nil {
		value = "" // nobody's: who is bound to a tenant does not see it
	}
	k.mu.Lock()
	k.names[name] = value
	k.mu.Unlock()
	return value
}

func (j *Journal) environment(ctx context.Context, stamp string) string {
	return j.stamps.look(j.Now(), stamp, func() (string, error) {
		all, err := j.Stamps(ctx)
		for _, s := range all {
			if s.Metadata.Name == stamp {
				return s.Spec.Environment, nil
			}
		}
		return "", err
	})
}

// tenantWithin bounds how long a line waits for whose its device is.
const tenantWithin = 2 * time.Second

func (j *Journal) tenant(ctx context.Context, device string) string {
	return j.tenants.look(j.Now(), device, func() (string, error) {
		ctx, cancel := context.WithTimeout(ctx, tenantWithin)
		defer cancel()
		return j.Tenant(ctx, device)
	})
}

// Collect tells how much is kept, and how much was not.
func (j *Journal) Collect(_ context.Context, add func(metrics.Sample)) error {
	add(metrics.Sample{Name: "slipway_journal_bytes", Help: "Bytes of lines that the journal keeps.", Value: float64(j.bytes.Load())})
	add(metrics.Sample{Name: "slipway_journal_lines_total", Help: "Lines that the journal has taken.", Counter: true, Value: float64(j.taken.Load())})
	add(metrics.Sample{Name: "slipway_journal_lost_total", Help: "Lines and spans that processes had no room for.", Counter: true, Value: float64(j.lost.Load())})
	return nil
}
