package software

import (
	"context"
	"database/sql"
	"encoding/json"
	"sync"
	"time"

	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/sqldb"
	"github.com/slipway/slipway/internal/stamp/device"
)

// Seen is what one process of the stamp has seen of devices since a rollout
// began, or since the process did: of those that run its release, and of the
// others. Both begin anew together.
type Seen struct {
	Process string      `json:"process"`
	Rollout string      `json:"rollout"`
	Updated link.Health `json:"updated"`
	Others  link.Health `json:"others"`
}

// health is what the processes of the stamp have seen.
type health struct {
	mu    sync.Mutex
	here  Seen
	there map[string]told // by process
}

type told struct {
	seen Seen
	at   time.Time
}

// toldFor is how long what another process told counts.
const toldFor = 10 * time.Second

// Hear takes what another process has seen.
func (e *Engine) Hear(seen Seen) {
	h := &e.health
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.there == nil {
		h.there = map[string]told{}
	}
	h.there[seen.Process] = told{seen, e.Now()}
	for process, t := range h.there {
		if e.Now().Sub(t.at) > toldFor {
			delete(h.there, process)
		}
	}
}

// Here is what this process has seen, for the others.
func (e *Engine) Here() Seen {
	e.health.mu.Lock()
	defer e.health.mu.Unlock()
	return e.health.here
}

// sum is what all processes have seen of a rollout.
func (h *health) sum(rollout string) (updated, others link.Health) {
	h.mu.Lock()
	defer h.mu.Unlock()
	all := []Seen{h.here}
	for _, t := range h.there {
		all = append(all, t.seen)
	}
	for _, seen := range all {
		if seen.Rollout == rollout {
			updated, others = plus(updated, seen.Updated), plus(others, seen.Others)
		}
	}
	return updated, others
}

func plus(a, b link.Health) link.Health {
	a.DeviceSeconds += b.DeviceSeconds
	a.Reconnects += b.Reconnects
	a.Messages += b.Messages
	return a
}

// Account counts what devices did since they were last written down. It must
// come before that is, as it looks at what was known before.
func (e *Engine) Account(ctx context.Context, all []device.Activity) error {
	p := e.plan.Load()
	if p == nil || p.Rollout == nil || p.course.Rollout != p.Rollout.ID {
		return nil
	}
	before, err := e.stood(ctx, all)
	if err != nil {
		return err
	}
	h := &e.health
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.here.Rollout != p.Rollout.ID {
		h.here = Seen{Rollout: p.Rollout.ID}
	}
	for _, a := range all {
		was, known := before[a.DeviceID]
		if !known {
			continue // a module, or gone
		}
		if was.state == link.UpdatePending && was.rollout == p.Rollout.ID {
			continue // that it starts anew is part of the update
		}
		group := &h.here.Others
		if was.state == link.UpdateDone && was.rollout == p.Rollout.ID {
			group = &h.here.Updated
		}
		*group = plus(*group, was.did(a, p.course.BeganAt, e.Now()))
	}
	return nil
}

// stood is what was known of a device before an activity is written down.
type stood struct {
	id        string
	connected bool
	since     sql.NullInt64 // when connected last changed
	state     link.UpdateState
	rollout   string
}

// did is what an activity adds, as far as it lies in the rollout. A connection
// is one made anew if the device was connected in the rollout before.
func (s stood) did(a device.Activity, began, now time.Time) link.Health {
	h := link.Health{DeviceSeconds: min(a.Present, max(0, now.Sub(began))).Seconds(), Messages: a.Messages}
	if a.Connected && !a.Passing && (s.connected || s.since.Valid && !sqldb.Time(s.since.Int64).Before(began)) {
		h.Reconnects = 1
	}
	return h
}

func (e *Engine) stood(ctx context.Context, all []device.Activity) (map[string]stood, error) {
	ids := make([]string, len(all))
	for i, a := range all {
		ids[i] = a.DeviceID
	}
	list, err := json.Marshal(ids)
	if err != nil {
		return nil, err
	}
	rows, err := sqldb.Rows(ctx, e.db, func(rows *sql.Rows) (s stood, err error) {
		return s, rows.Scan(&s.id, &s.connected, &s.since, &s.state, &s.rollout)
	}, `SELECT d.device_id, d.connected, d.connected_at, s.state, s.rollout FROM device d JOIN software s ON s.device_id = d.device_id
		WHERE d.device_id IN (`+e.among()+")", string(list))
	before := make(map[string]stood, len(rows))
	for _, s := range rows {
		before[s.id] = s
	}
	return before, err
}
