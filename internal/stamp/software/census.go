package software

import (
	"context"
	"database/sql"
	"sync"
	"sync/atomic"
	"time"

	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/sqldb"
)

// census are the counts as they were a moment ago. Counting looks at every
// device, so that the more there are the less often it is done.
type census struct {
	stale atomic.Bool // a standing has changed since

	mu     sync.Mutex
	counts counts
	of     *plan
	next   time.Time
	latest time.Time
}

// counts are the devices of the stamp by where they stand.
type counts struct {
	all, reached, wave link.UpdateCensus
	byHardware         map[string]link.UpdateCensus
	complete           bool // every device had been looked at before
}

const (
	countShare  = 10              // one part in so many of the time is spent on counting
	recountEach = 5 * time.Second // even if nothing seems to have changed: devices leave
	maxKinds    = 50              // of hardware that are counted each by itself
	otherKinds  = "other kinds"
)

func (c *census) reset() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.of, c.next = nil, time.Time{}
}

// add counts devices of one state.
func add(c *link.UpdateCensus, state link.UpdateState, n int64) {
	switch state {
	case link.UpdateDone:
		c.Updated += n
	case link.UpdatePending:
		c.Pending += n
	case link.UpdateFailed:
		c.Failed += n
	case link.UpdateRolledBack:
		c.RolledBack += n
	case link.UpdateUnreachable:
		c.Unreachable += n
	case link.UpdateExempt:
		c.Exempt += n
	}
}

func total(c link.UpdateCensus) int64 {
	return c.Updated + c.Pending + c.Failed + c.RolledBack + c.Unreachable + c.Exempt
}

// count counts devices, or says what was counted a moment ago.
func (e *Engine) count(ctx context.Context, p *plan) (counts, error) {
	c := &e.census
	c.mu.Lock()
	defer c.mu.Unlock()
	began := time.Now()
	if c.of == p && (began.Before(c.next) || !c.stale.Load() && began.Sub(c.latest) < recountEach) {
		return c.counts, nil
	}
	c.stale.Store(false)
	complete := e.complete.Load() == p.Version
	counted, err := e.countAll(ctx, p)
	counted.complete = complete
	if err != nil {
		c.stale.Store(true)
		return counted, err
	}
	ended := time.Now()
	c.counts, c.of, c.latest, c.next = counted, p, ended, ended.Add(countShare*ended.Sub(began))
	return counted, nil
}

func (e *Engine) countAll(ctx context.Context, p *plan) (all counts, err error) {
	all.byHardware = map[string]link.UpdateCensus{}
	rows, err := e.db.Query(ctx, "SELECT rollout, wave, state, hardware, count(*) FROM software GROUP BY rollout, wave, state, hardware ORDER BY rollout, wave, state, hardware")
	if err != nil {
		return all, err
	}
	defer rows.Close()
	for rows.Next() {
		var rollout, hardware string
		var state link.UpdateState
		var wave int
		var n int64
		if err := rows.Scan(&rollout, &wave, &state, &hardware, &n); err != nil {
			return all, err
		}
		all.take(p, rollout, wave, state, hardware, n)
	}
	return all, rows.Err()
}

func (c *counts) take(p *plan, rollout string, wave int, state link.UpdateState, hardware string, n int64) {
	add(&c.all, state, n)
	if p.Rollout == nil || wave == 0 || rollout != p.Rollout.ID {
		return
	}
	add(&c.reached, state, n)
	if wave == max(p.Rollout.Wave, 1) {
		add(&c.wave, state, n)
	}
	if _, known := c.byHardware[hardware]; !known && len(c.byHardware) >= maxKinds {
		hardware = otherKinds
	}
	kind := c.byHardware[hardware]
	add(&kind, state, n)
	c.byHardware[hardware] = kind
}

// waveCensus counts the devices of the rollout's last wave as they stand now.
func (e *Engine) waveCensus(ctx context.Context, p *plan) (wave link.UpdateCensus, err error) {
	type counted struct {
		state link.UpdateState
		n     int64
	}
	rows, err := sqldb.Rows(ctx, e.db, func(rows *sql.Rows) (c counted, err error) { return c, rows.Scan(&c.state, &c.n) },
		"SELECT state, count(*) FROM software WHERE rollout = ? AND wave = ? GROUP BY state", p.Rollout.ID, max(p.Rollout.Wave, 1))
	for _, c := range rows {
		add(&wave, c.state, c.n)
	}
	return wave, err
}

// Progress is what the stamp tells control of its releases; nil while there are
// none.
func (e *Engine) Progress(ctx context.Context) (*link.Progress, error) {
	p := e.plan.Load()
	if p == nil || p.course.Version != p.Version {
		return nil, nil
	}
	counted, err := e.count(ctx, p)
	if err != nil {
		return nil, err
	}
	progress := &link.Progress{
		Version: p.Version, Devices: counted.all, Reached: counted.reached, WaveOnly: counted.wave, Halted: p.course.Halted,
		Complete: counted.complete,
	}
	if p.Base != nil {
		progress.Base = p.Base.Name
	}
	if p.Rollout == nil {
		return progress, nil
	}
	progress.Rollout, progress.Wave, progress.ByHardware = p.Rollout.ID, p.Rollout.Wave, counted.byHardware
	progress.Updated, progress.Others = e.health.sum(p.Rollout.ID)
	progress.Updated.Devices = counted.reached.Updated
	progress.Others.Devices = total(counted.all) - counted.reached.Updated
	return progress, nil
}

// List returns a page of the census.
func (e *Engine) List(ctx context.Context, req link.ListUpdates) (page link.Updates, err error) {
	limit := req.Limit
	if limit <= 0 || limit > link.MaxPage {
		limit = link.MaxPage
	}
	where, args := "s.device_id > ?", []any{req.After}
	if req.State != "" {
		where, args = where+" AND s.state = ?", append(args, string(req.State))
	}
	if req.DeviceID != "" {
		where, args = where+" AND s.device_id = ?", append(args, req.DeviceID)
	}
	all, err := sqldb.Rows(ctx, e.db, scanStanding, "SELECT "+columns+" FROM software s WHERE "+where+" ORDER BY s.device_id LIMIT ?", append(args, limit+1)...)
	if page.More = len(all) > limit; page.More {
		all = all[:limit]
	}
	page.Items = make([]link.Update, len(all))
	for i, s := range all {
		page.Items[i] = s.shown(e.Stamp)
	}
	return page, err
}

// shown is where a device stands, as people see it.
func (s Standing) shown(stamp string) link.Update {
	return link.Update{
		DeviceID: s.DeviceID, Stamp: stamp, Release: s.Name, Rollout: s.Rollout, Order: s.Order, State: s.State, Reason: s.Reason, Progress: s.Progress,
		Attempts: s.Attempts, Hardware: s.Hardware, Running: s.Running, Wave: s.Wave, OrderedAt: s.OrderedAt, UpdatedAt: s.UpdatedAt,
	}
}
