package decommission

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/slipway/slipway/internal/control/access"
	"github.com/slipway/slipway/internal/control/audit"
	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/sqldb"
)

// Devices is what other planes do with a device.
type Devices interface {
	Bar(ctx context.Context, req link.BarDevice) (link.BarState, error)
	Unbar(ctx context.Context, device string) error
	// Wipe tells a device on a stamp to wipe itself.
	Wipe(ctx context.Context, stamp string, req link.InvokeMethod) (link.MethodResult, error)
}

// Options are what decommissioning needs.
type Options struct {
	DB      *sqldb.DB
	Audit   *audit.Log
	Devices Devices
	// Find says where a device is, or that there is none.
	Find func(ctx context.Context, device string) (access.Place, error)
	// Held is what keeps a device as it is, if anything does.
	Held   func(ctx context.Context, q sqldb.Querier, device, tenant string) (hold string, held bool, err error)
	Logger *slog.Logger
	Now    func() time.Time
}

// Decommissions are the devices taken out of use.
type Decommissions struct {
	Options
	kick chan struct{}
	mu   sync.Mutex
	busy map[string]bool
	all  sync.WaitGroup
}

// New returns the decommissions kept in a database.
func New(o Options) *Decommissions {
	return &Decommissions{Options: o, kick: make(chan struct{}, 1), busy: map[string]bool{}}
}

// Request is what somebody wants of a device.
type Request struct {
	Device  string
	Reason  string
	Seconds int64 // that the device is waited for; 0 does not ask it to wipe itself
}

const (
	maxWait   = 30 * 24 * 3600
	maxReason = 500
	// maxAnswer bounds what is kept of what a device answers.
	maxAnswer = 1000
)

func (r Request) check() error {
	switch {
	case strings.TrimSpace(r.Reason) == "" || len(r.Reason) > maxReason:
		return problem.New(problem.Invalid, "say why, in at most %d characters", maxReason).At("reason")
	case r.Seconds < 0 || r.Seconds > maxWait:
		return problem.New(problem.Invalid, "must be 0 (do not ask the device) to %d, not %d", maxWait, r.Seconds).At("wipeSeconds")
	}
	return nil
}

func (d *Decommissions) clock() time.Time { return d.Now().UTC().Truncate(time.Microsecond) }

// Start begins to take a device out of use.
func (d *Decommissions) Start(ctx context.Context, actor access.Actor, r Request) (one Decommission, err error) {
	if err := r.check(); err != nil {
		return one, err
	}
	at, err := d.Find(ctx, r.Device)
	if err != nil {
		return one, err
	}
	err = d.DB.Commit(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		hold, held, err := d.Held(ctx, tx, r.Device, at.Tenant)
		if err != nil {
			return err
		}
		if held {
			return problem.New(problem.Conflict, "%s holds device %s; lift it first", hold, r.Device)
		}
		known, found, err := latest(ctx, tx, r.Device)
		if err != nil {
			return err
		}
		if found && known.State != Lifted {
			return problem.New(problem.Conflict, "device %s is %s already, by %s", r.Device, known.State, known.ID)
		}
		n, _, err := sqldb.Row(ctx, tx, func(rows *sql.Rows) (n int64, err error) { return n, rows.Scan(&n) }, "SELECT coalesce(max(number), 0) + 1 FROM decommission")
		if err != nil {
			return err
		}
		one = Decommission{
			ID: fmt.Sprintf("decommission-%d", n), Device: r.Device, Environment: at.Environment, Stamp: at.Stamp, Tenant: at.Tenant, Reason: r.Reason,
			State: Barring, Wipe: Wipe{Seconds: r.Seconds}, By: actor.Name, At: d.clock(),
		}
		text, err := json.Marshal(one)
		if err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, "INSERT INTO decommission (id, number, device_id, active, version, document) VALUES (?, ?, ?, 1, 1, ?)", one.ID, n, one.Device, string(text)); err != nil {
			return err
		}
		return d.record(ctx, tx, actor.Name, "device.decommission", audit.Done, one, r.Reason, one.ID)
	})
	if err == nil {
		d.wake()
	}
	return one, err
}

func (d *Decommissions) record(ctx context.Context, tx *sqldb.Tx, actor, action, outcome string, one Decommission, reason, detail string) error {
	return d.Audit.Record(ctx, tx, audit.Entry{Actor: actor, Action: action, Object: "device/" + one.Device, Environment: one.Environment, Outcome: outcome, Reason: reason, Detail: detail})
}

// TakeBack lets a decommissioned device register again.
func (d *Decommissions) TakeBack(ctx context.Context, actor access.Actor, device, reason string) (one Decommission, err error) {
	if err := (Request{Reason: reason}).check(); err != nil {
		return one, err
	}
	err = d.DB.Commit(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		known, found, err := latest(ctx, tx, device)
		if err != nil {
			return err
		}
		if !found {
			return problem.New(problem.NotFound, "device %s was not decommissioned", device)
		}
		if one, err = Lift(known.Decommission, actor.Name, reason); err != nil {
			return err
		}
		if err := save(ctx, tx, one, known.version); err != nil {
			return err
		}
		return d.record(ctx, tx, actor.Name, "device.recommission", audit.Done, one, reason, one.ID)
	})
	if err == nil {
		d.wake()
	}
	return one, err
}

// stored is a decommission with the number of its change.
type stored struct {
	Decommission
	version int64
}

func scan(rows *sql.Rows) (s stored, err error) {
	var text []byte
	if err := rows.Scan(&s.version, &text); err != nil {
		return s, err
	}
	return s, json.Unmarshal(text, &s.Decommission)
}

const selectAll = "SELECT version, document FROM decommission"

func latest(ctx context.Context, q sqldb.Querier, device string) (stored, bool, error) {
	return sqldb.Row(ctx, q, scan, selectAll+" WHERE device_id = ? ORDER BY number DESC LIMIT 1", device)
}

func save(ctx context.Context, tx *sqldb.Tx, one Decommission, version int64) error {
	text, err := json.Marshal(one)
	if err != nil {
		return err
	}
	n, err := tx.Exec(ctx, "UPDATE decommission SET active = ?, document = ?, version = version + 1 WHERE id = ? AND version = ?", one.Active(), string(text), one.ID, version)
	if err == nil && n == 0 {
		err = problem.New(problem.Stale, "%s changed meanwhile; try again", one.ID)
	}
	return err
}

// Of is the latest decommissioning of a device.
func (d *Decommissions) Of(ctx context.Context, device string) (Decommission, error) {
	one, found, err := latest(ctx, d.DB, device)
	if err == nil && !found {
		err = problem.New(problem.NotFound, "device %s was not decommissioned", device)
	}
	return one.Decommission, err
}

// List are the newest.
func (d *Decommissions) List(ctx context.Context, limit int) ([]Decommission, error) {
	found, err := sqldb.Rows(ctx, d.DB, scan, selectAll+" ORDER BY number DESC LIMIT ?", limit)
	all := make([]Decommission, len(found))
	for i, one := range found {
		all[i] = one.Decommission
	}
	return all, err
}

func (d *Decommissions) wake() {
	select {
	case d.kick <- struct{}{}:
	default:
	}
}
