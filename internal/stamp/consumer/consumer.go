// Package consumer lets programs read a stamp's telemetry and events over the
// API without a broker of their own: named groups with a durable position,
// moved on by acknowledgement and set anywhere for a replay. A group may divide
// the telemetry into partitions, so that several readers share the work; a
// device is always in the same one.
package consumer

import (
	"context"
	"database/sql"
	"errors"
	"regexp"
	"time"

	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/sqldb"
	"github.com/slipway/slipway/internal/stamp/telemetry"
)

// Groups are the consumer groups of one stamp.
type Groups struct {
	stamp string
	db    *sqldb.DB
	logs  *telemetry.Logs
	now   func() time.Time
}

// New returns the groups kept in db.
func New(stamp string, db *sqldb.DB, logs *telemetry.Logs, now func() time.Time) *Groups {
	return &Groups{stamp, db, logs, now}
}

const (
	maxGroups = 1000 // positions: partitions count by themselves
	maxWait   = 30 * time.Second
	pageBytes = 2 << 20
	everyone  = -1 // the partition of a reader of everything
)

var name = regexp.MustCompile(`^[A-Za-z0-9$][A-Za-z0-9._-]{0,63}$`)

// check holds a reference against the rules and fills in what it leaves out.
func check(ref link.ConsumerRef) (link.ConsumerRef, error) {
	if ref.Source == "" {
		ref.Source = link.SourceTelemetry
	}
	switch {
	case !name.MatchString(ref.Group):
		return ref, problem.New(problem.Invalid, "a group has 1 to 64 of letters, digits and '._-', which %q does not", ref.Group).At("group")
	case ref.Source != link.SourceTelemetry && ref.Source != link.SourceEvents:
		return ref, problem.New(problem.Invalid, "a group reads telemetry or events, not %q", ref.Source).At("source")
	case ref.Partition != nil && (*ref.Partition < 0 || *ref.Partition >= link.Partitions):
		return ref, problem.New(problem.Invalid, "a partition is 0 to %d, not %d", link.Partitions-1, *ref.Partition).At("partition")
	}
	return ref, nil
}

func partition(ref link.ConsumerRef) int {
	if ref.Partition == nil {
		return everyone
	}
	return *ref.Partition
}

// Read returns what comes after a group's position, oldest first. It does not
// move the position: Ack does, once the page is worked off.
func (g *Groups) Read(ctx context.Context, req link.ReadConsumer) (page link.ConsumerPage, err error) {
	if req.ConsumerRef, err = check(req.ConsumerRef); err != nil {
		return page, err
	}
	position, err := g.begin(ctx, req.ConsumerRef, req.From)
	if err != nil {
		return page, err
	}
	page.Position = max(position, req.After)
	limit := req.Limit
	if limit <= 0 || limit > link.MaxPage {
		limit = 100
	}
	ctx, cancel := context.WithTimeout(ctx, max(0, min(req.Wait, maxWait))+readWait)
	defer cancel()
	err = g.fill(ctx, req, limit, &page)
	return page, err
}

// readWait is how long reading what is there may take.
const readWait = 5 * time.Second

var errFull = errors.New("full")

// fill reads until the page is full or the log has no more; for the first
// message it waits as long as was asked for.
func (g *Groups) fill(ctx context.Context, req link.ReadConsumer, limit int, page *link.ConsumerPage) error {
	reader := g.logs.Reader(req.Source)
	_, last, err := reader.Bounds(ctx)
	if err != nil || page.Position >= last && req.Wait <= 0 {
		return err
	}
	waited, stop := context.WithCancel(ctx)
	defer stop()
	if req.Wait > 0 {
		defer time.AfterFunc(min(req.Wait, maxWait), stop).Stop()
	}
	size := 0
	err = reader.Follow(waited, page.Position, func(r link.LogRecord) error {
		page.Lost += r.Sequence - page.Position - 1
		page.Position = r.Sequence
		if telemetry.Of(req.Source, r) && !link.IsProbe(r.DeviceID) && (req.Partition == nil || telemetry.Partition(r.DeviceID) == *req.Partition) {
			page.Items = append(page.Items, r)
			size += len(r.Body) + 2*len(r.BodyBase64) + 512
		}
		if len(page.Items) >= limit || size >= pageBytes || r.Sequence >= last && (len(page.Items) > 0 || req.Wait <= 0) {
			return errFull
		}
		return nil
	})
	if errors.Is(err, errFull) {
		err = nil
	}
	return err
}

// begin returns a group's position and makes the group if it is new.
func (g *Groups) begin(ctx context.Context, ref link.ConsumerRef, from string) (uint64, error) {
	stored, found, err := g.get(ctx, g.db, ref)
	if err != nil || found {
		return stored.Position, err
	}
	if from == "" {
		from = "latest"
	}
	c, err := g.Seek(ctx, link.SeekConsumer{ConsumerRef: ref, To: from})
	return c.Position, err
}

const selectConsumer = "SELECT name, log, partition, position, updated_at FROM consumer"

func (g *Groups) scan(rows *sql.Rows) (c link.Consumer, err error) {
	var part int
	var at int64
	err = rows.Scan(&c.Group, &c.Source, &part, &c.Position, &at)
	if part != everyone {
		c.Partition = &part
	}
	c.Stamp, c.UpdatedAt = g.stamp, sqldb.Time(at)
	return c, err
}

func (g *Groups) get(ctx context.Context, q sqldb.Querier, ref link.ConsumerRef) (link.Consumer, bool, error) {
	return sqldb.Row(ctx, q, g.scan, selectConsumer+" WHERE name = ? AND log = ? AND partition = ?", ref.Group, ref.Source, partition(ref))
}

// Ack moves a group's position on. An older one changes nothing, so that late
// and repeated calls do no harm.
func (g *Groups) Ack(ctx context.Context, req link.AckConsumer) (c link.Consumer, err error) {
	if req.ConsumerRef, err = check(req.ConsumerRef); err != nil {
		return c, err
	}
	_, last, err := g.logs.Reader(req.Source).Bounds(ctx)
	if err != nil {
		return c, err
	}
	if req.Position > last {
		return c, problem.New(problem.Invalid, "the log ends at %d, before %d", last, req.Position).At("position")
	}
	err = g.db.Commit(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		n, err := tx.Exec(ctx, "UPDATE consumer SET position = CASE WHEN position < ? THEN ? ELSE position END, updated_at = ? WHERE name = ? AND log = ? AND partition = ?",
			req.Position, req.Position, sqldb.Micros(g.now()), req.Group, req.Source, partition(req.ConsumerRef))
		if err == nil && n == 0 {
			err = problem.New(problem.NotFound, "there is no group %q; reading makes it", req.Group)
		}
		if err != nil {
			return err
		}
		c, _, err = g.get(ctx, tx, req.ConsumerRef)
		return err
	})
	c.Lag = last - min(c.Position, last)
	return c, err
}

// Seek sets a group's position, for a replay or to skip, and makes the group
// if it is new.
func (g *Groups) Seek(ctx context.Context, req link.SeekConsumer) (c link.Consumer, err error) {
	if req.ConsumerRef, err = check(req.ConsumerRef); err != nil {
		return c, err
	}
	reader := g.logs.Reader(req.Source)
	first, last, err := reader.Bounds(ctx)
	if err != nil {
		return c, err
	}
	position, err := target(ctx, reader, req, first, last)
	if err != nil {
		return c, err
	}
	err = g.db.Commit(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		if err := room(ctx, tx); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, `INSERT INTO consumer (name, log, partition, position, updated_at) VALUES (?, ?, ?, ?, ?)
			ON CONFLICT (name, log, partition) DO UPDATE SET position = excluded.position, updated_at = excluded.updated_at`,
			req.Group, req.Source, partition(req.ConsumerRef), position, sqldb.Micros(g.now()))
		if err != nil {
			return err
		}
		c, _, err = g.get(ctx, tx, req.ConsumerRef)
		return err
	})
	c.Lag = last - min(c.Position, last)
	return c, err
}

func room(ctx context.Context, tx *sqldb.Tx) error {
	n, _, err := sqldb.Row(ctx, tx, func(rows *sql.Rows) (n int, err error) { return n, rows.Scan(&n) }, "SELECT count(*) FROM consumer")
	if err == nil && n >= maxGroups {
		err = problem.New(problem.Conflict, "the stamp keeps %d consumer positions, which is the most; delete groups nobody reads", n)
	}
	return err
}

// target is the position just before what a seek names.
func target(ctx context.Context, reader telemetry.Reader, req link.SeekConsumer, first, last uint64) (uint64, error) {
	switch {
	case req.Time != nil:
		return reader.Before(ctx, *req.Time)
	case req.Sequence > 0:
		return min(req.Sequence-1, last), nil
	case req.To == "earliest":
		return max(first, 1) - 1, nil
	case req.To == "latest":
		return last, nil
	}
	return 0, problem.New(problem.Invalid, "seek to earliest, latest, a sequence or a time").At("to")
}

// List returns every group, with how far behind it is.
func (g *Groups) List(ctx context.Context, _ link.None) (link.Consumers, error) {
	items, err := sqldb.Rows(ctx, g.db, g.scan, selectConsumer+" ORDER BY name, log, partition")
	if err != nil {
		return link.Consumers{}, err
	}
	ends := map[string]uint64{}
	for i := range items {
		source := items[i].Source
		if _, known := ends[source]; !known {
			if _, ends[source], err = g.logs.Reader(source).Bounds(ctx); err != nil {
				return link.Consumers{}, err
			}
		}
		items[i].Lag = ends[source] - min(items[i].Position, ends[source])
	}
	return link.Consumers{Items: items}, nil
}

// Delete forgets a group, whatever it reads.
func (g *Groups) Delete(ctx context.Context, ref link.ConsumerRef) (link.None, error) {
	return link.None{}, g.db.Commit(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		n, err := tx.Exec(ctx, "DELETE FROM consumer WHERE name = ?", ref.Group)
		if err == nil && n == 0 {
			err = problem.New(problem.NotFound, "there is no group %q", ref.Group)
		}
		return err
	})
}
