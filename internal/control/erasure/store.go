package erasure

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"log/slog"
	"time"

	"github.com/slipway/slipway/internal/control/access"
	"github.com/slipway/slipway/internal/control/audit"
	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/resource"
	"github.com/slipway/slipway/internal/sqldb"
)

// Planes are what planes do for an erasure.
type Planes interface {
	Bar(ctx context.Context, req link.BarDevice) (link.BarState, error)
	Erase(ctx context.Context, peer string, req link.EraseSubject) (link.Erased, error)
	Registered(ctx context.Context, req link.ListRegistrations) (link.Registrations, error)
	Here(ctx context.Context, stamp string, req link.QueryDevices) (link.Devices, error)
}

// Options are what erasure needs.
type Options struct {
	DB     *sqldb.DB
	Audit  *audit.Log
	Planes Planes
	Stamps func(ctx context.Context) ([]resource.Stamp, error)
	// Known fails where there is nothing of a device or tenant.
	Known func(ctx context.Context, kind, subject string) error
	// Held is what keeps a device or tenant as it is, if anything does.
	Held func(ctx context.Context, q sqldb.Querier, device, tenant string) (hold string, held bool, err error)
	// Drop takes a tenant without devices away, with the tokens that were its.
	Drop func(ctx context.Context, actor access.Actor, tenant string) (tokens int64, err error)
	// Remains tells what nobody can erase now, and until when it is there.
	Remains func(ctx context.Context, at time.Time) ([]Remain, error)
	Logger  *slog.Logger
	Now     func() time.Time
}

// Erasures are what was, or is to be, forgotten.
type Erasures struct {
	Options
	kick chan struct{}
	away map[string]time.Time // peers that did not answer, and until when they are not asked
}

// New returns the erasures kept in a database.
func New(o Options) *Erasures {
	return &Erasures{Options: o, kick: make(chan struct{}, 1), away: map[string]time.Time{}}
}

func (s *Erasures) clock() time.Time { return s.Now().UTC().Truncate(time.Microsecond) }

func scanInt(rows *sql.Rows) (n int64, err error) { return n, rows.Scan(&n) }

// stored is an erasure with the number of its change.
type stored struct {
	Erasure
	version int64
}

func scan(rows *sql.Rows) (s stored, err error) {
	var text []byte
	if err := rows.Scan(&s.version, &text); err != nil {
		return s, err
	}
	var k kept
	err = json.Unmarshal(text, &k)
	s.Erasure = k.erasure()
	return s, err
}

const selectAll = "SELECT version, document FROM erasure"

// Start begins to erase a device, or a tenant with all its devices.
func (s *Erasures) Start(ctx context.Context, actor access.Actor, kind, subject, reason string) (e Erasure, err error) {
	if err := checkRequest(kind, subject, reason); err != nil {
		return e, err
	}
	if err := s.Known(ctx, kind, subject); err != nil {
		return e, err
	}
	err = s.DB.Commit(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		if err := s.free(ctx, tx, kind, subject); err != nil {
			return err
		}
		active, err := sqldb.Rows(ctx, tx, scan, selectAll+" WHERE active = 1")
		if err != nil {
			return err
		}
		for _, one := range active {
			if one.Kind == kind && one.Subject == subject {
				return problem.New(problem.Conflict, "%s erases %s %s already", one.ID, kind, subject)
			}
		}
		n, _, err := sqldb.Row(ctx, tx, scanInt, "SELECT coalesce(max(number), 0) + 1 FROM erasure")
		if err != nil {
			return err
		}
		e = Erasure{ID: fmt.Sprintf("erasure-%d", n), Kind: kind, Subject: subject, Reason: reason, State: Selecting, Planes: []PlaneErasure{}, By: actor.Name, At: s.clock(), Salt: fresh()}
		text, err := json.Marshal(e.kept())
		if err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, "INSERT INTO erasure (id, number, active, version, document) VALUES (?, ?, 1, 1, ?)", e.ID, n, string(text)); err != nil {
			return err
		}
		return s.Audit.Record(ctx, tx, audit.Entry{Actor: actor.Name, Action: "data.erase", Object: object(kind, subject), Outcome: audit.Done, Reason: reason, Detail: e.ID})
	})
	if err == nil {
		s.wake()
	}
	return e, err
}

// free fails where a legal hold keeps what is to be erased.
func (s *Erasures) free(ctx context.Context, q sqldb.Querier, kind, subject string) error {
	device, tenant := subject, ""
	if kind == Tenant {
		device, tenant = "", subject
	}
	hold, held, err := s.Held(ctx, q, device, tenant)
	if err == nil && held {
		err = problem.New(problem.Conflict, "%s holds %s %s; lift it first", hold, kind, subject)
	}
	return err
}

func (s *Erasures) wake() {
	select {
	case s.kick <- struct{}{}:
	default:
	}
}

func save(ctx context.Context, tx *sqldb.Tx, e Erasure, version int64) error {
	text, err := json.Marshal(e.kept())
	if err != nil {
		return err
	}
	n, err := tx.Exec(ctx, "UPDATE erasure SET active = ?, document = ?, version = version + 1 WHERE id = ? AND version = ?", e.State != Done, string(text), e.ID, version)
	if err == nil && n == 0 {
		err = problem.New(problem.Stale, "%s changed meanwhile; try again", e.ID)
	}
	return err
}

// Get is one erasure.
func (s *Erasures) Get(ctx context.Context, id string) (Erasure, error) {
	one, found, err := sqldb.Row(ctx, s.DB, scan, selectAll+" WHERE id = ?", id)
	if err == nil && !found {
		err = problem.New(problem.NotFound, "there is no erasure %q", id)
	}
	return one.Erasure, err
}

// List are the newest.
func (s *Erasures) List(ctx context.Context, limit int) ([]Erasure, error) {
	found, err := sqldb.Rows(ctx, s.DB, scan, selectAll+" ORDER BY number DESC LIMIT ?", limit)
	all := make([]Erasure, len(found))
	for i, one := range found {
		all[i] = one.Erasure
	}
	return all, err
}

// put adds parts that are not there yet.
func put(ctx context.Context, tx *sqldb.Tx, id string, parts []part) (added int, err error) {
	for _, p := range parts {
		n, err := tx.Exec(ctx, "INSERT INTO erasure_part (erasure, device_id, peer, stage) VALUES (?, ?, ?, ?) ON CONFLICT (erasure, device_id, peer) DO NOTHING", id, p.device, p.peer, p.stage)
		if err != nil {
			return added, err
		}
		added += int(n)
	}
	return added, nil
}
