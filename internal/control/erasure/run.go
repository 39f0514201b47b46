package erasure

import (
	"context"
	"database/sql"
	"strings"
	"sync"
	"time"

	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/sqldb"
)

const (
	lookEvery = time.Second
	askTime   = 20 * time.Second
	awayTime  = 5 * time.Second // how long a plane that did not answer is left alone
	atOnce    = 8               // parts that are worked on together
	somParts  = 64              // and whose outcome is recorded together
)

// Run takes every erasure as far as it goes, until ctx ends.
func (s *Erasures) Run(ctx context.Context) error {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		again, err := s.look(ctx)
		if err != nil && ctx.Err() == nil {
			s.Logger.Warn("erasures: trying again", "error", err)
		}
		if again && err == nil && ctx.Err() == nil {
			continue
		}
		select {
		case <-ctx.Done():
			return nil
		case <-s.kick:
		case <-tick.C:
		}
	}
}

// look takes each erasure a step on; again says that one has another to take
// at once.
func (s *Erasures) look(ctx context.Context) (again bool, err error) {
	active, err := sqldb.Rows(ctx, s.DB, scan, selectAll+" WHERE active = 1 ORDER BY number")
	if err != nil {
		return false, err
	}
	for _, one := range active {
		if err := s.free(ctx, s.DB, one.Kind, one.Subject); err != nil {
			if err := s.wait(ctx, one, err); err != nil {
				return again, err
			}
			continue
		}
		more, err := s.step(ctx, one)
		if err != nil {
			return again, err
		}
		again = again || more
	}
	return again, nil
}

// wait notes what an erasure waits for.
func (s *Erasures) wait(ctx context.Context, one stored, failure error) error {
	why := problem.Of(failure).Error()
	if one.Problem == why {
		return nil
	}
	one.Problem = why
	return s.DB.Commit(ctx, func(ctx context.Context, tx *sqldb.Tx) error { return save(ctx, tx, one.Erasure, one.version) })
}

func (s *Erasures) step(ctx context.Context, one stored) (again bool, err error) {
	switch one.State {
	case Selecting:
		again, err = s.choose(ctx, one)
	case Erasing:
		return s.erase(ctx, one)
	case Closing:
		err = s.close(ctx, one)
	}
	if err != nil && ctx.Err() == nil {
		return false, s.wait(ctx, one, err)
	}
	return again, err
}

// choose makes parts of the devices that are to be erased: the one, or a page
// of a tenant's.
func (s *Erasures) choose(ctx context.Context, one stored) (again bool, err error) {
	e, found := one.Erasure, []string{one.Subject}
	last := e.Kind == Device
	if !last {
		if found, last, err = s.page(ctx, &e); err != nil {
			return false, err
		}
	}
	if e.Problem = ""; last {
		e.State = Erasing
	}
	return true, s.DB.Commit(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		parts := make([]part, len(found))
		for i, device := range found {
			parts[i] = part{device, link.ProvisioningPeer, stageOff}
		}
		added, err := put(ctx, tx, e.ID, parts)
		if err != nil {
			return err
		}
		now := e // the change may run again
		now.Devices += added
		return save(ctx, tx, now, one.version)
	})
}

// page looks up some of a tenant's devices: those that provisioning knows, then
// those that back ends made on stamps.
func (s *Erasures) page(ctx context.Context, e *Erasure) (found []string, last bool, err error) {
	if e.Cursor.Peers == nil {
		stamps, err := s.Stamps(ctx)
		if err != nil {
			return nil, false, err
		}
		e.Cursor.Peers = append([]string{link.ProvisioningPeer}, names(stamps)...)
	}
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	more := false
	if from := e.Cursor.Peers[0]; from == link.ProvisioningPeer {
		page, err := s.Planes.Registered(ctx, link.ListRegistrations{Tenant: e.Subject, After: e.Cursor.After})
		if err != nil {
			return nil, false, err
		}
		for _, r := range page.Items {
			found = append(found, r.DeviceID)
		}
		more = page.More
	} else {
		page, err := s.Planes.Here(ctx, from, link.QueryDevices{Tenant: e.Subject, After: e.Cursor.After})
		if err != nil {
			return nil, false, err
		}
		for _, d := range page.Items {
			found = append(found, d.DeviceID)
		}
		more = page.More
	}
	if more {
		e.Cursor.After = found[len(found)-1]
		return found, false, nil
	}
	e.Cursor = cursor{Peers: e.Cursor.Peers[1:]}
	return found, len(e.Cursor.Peers) == 0, nil
}

// outcome is what became of a part.
type outcome struct {
	part
	done    bool
	removed []link.CareFound
	waits   string
}

// erase works on some parts, on planes that are there.
func (s *Erasures) erase(ctx context.Context, one stored) (again bool, err error) {
	parts, err := s.waiting(ctx, one.ID)
	if err != nil {
		return false, err
	}
	outcomes := make([]outcome, len(parts))
	var working sync.WaitGroup
	slots := make(chan struct{}, atOnce)
	for i, p := range parts {
		slots <- struct{}{}
		working.Go(func() {
			defer func() { <-slots }()
			outcomes[i] = s.work(ctx, one.Erasure, p)
		})
	}
	working.Wait()
	if ctx.Err() != nil {
		return false, ctx.Err()
	}
	for _, o := range outcomes {
		if o.waits != "" && !o.done {
			s.away[o.peer] = s.Now().Add(awayTime)
		}
		again = again || o.done
	}
	stamps, err := s.Stamps(ctx)
	if err != nil {
		return false, err
	}
	return again, s.DB.Commit(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		return s.settle(ctx, tx, one, outcomes, names(stamps))
	})
}

// waiting are some parts of an erasure on planes that may be asked.
func (s *Erasures) waiting(ctx context.Context, id string) ([]part, error) {
	where, args := "erasure = ?", []any{id}
	for peer, until := range s.away {
		if s.Now().After(until) {
			delete(s.away, peer)
			continue
		}
		where, args = where+" AND peer <> ?", append(args, peer)
	}
	return sqldb.Rows(ctx, s.DB, func(rows *sql.Rows) (p part, err error) { return p, rows.Scan(&p.device, &p.peer, &p.stage) },
		"SELECT device_id, peer, stage FROM erasure_part WHERE "+where+" ORDER BY stage DESC, device_id, peer LIMIT ?", append(args, somParts)...)
}

// work asks a plane for its part.
func (s *Erasures) work(ctx context.Context, e Erasure, p part) outcome {
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	o := outcome{part: p}
	if p.stage == stageOff {
		state, err := s.Planes.Bar(ctx, link.BarDevice{DeviceID: p.device, Reason: "erased", Remove: true})
		if err != nil {
			o.waits = problem.Of(err).Error()
		}
		if o.done = err == nil && state.Off; err == nil && !state.Off && state.Problem != "" {
			o.waits = "stamp " + state.Stamp + ": " + state.Problem
		}
		return o
	}
	if p.stage == stageProvisioning {
		// While the record is there, so that its registration id is known.
		if _, err := s.Planes.Bar(ctx, link.BarDevice{DeviceID: p.device, Forget: true}); err != nil {
			o.waits = problem.Of(err).Error()
			return o
		}
	}
	erased, err := s.Planes.Erase(ctx, p.peer, link.EraseSubject{Erasure: e.ID, Device: p.device})
	if err != nil {
		o.waits = problem.Of(err).Error()
		return o
	}
	// What was on its way comes after it: once nothing more is found it is done.
	o.removed, o.done = erased.Removed, erased.Now == 0 && !erased.More
	return o
}

// settle records what became of parts, and which follow.
func (s *Erasures) settle(ctx context.Context, tx *sqldb.Tx, one stored, outcomes []outcome, stamps []string) error {
	e := one.Erasure
	e.Planes = append([]PlaneErasure{}, e.Planes...)
	var waits []string
	for _, o := range outcomes {
		if o.stage != stageOff || o.waits != "" {
			e.heard(o.peer, o.removed, o.waits)
		}
		if !o.done {
			continue
		}
		if _, err := tx.Exec(ctx, "DELETE FROM erasure_part WHERE erasure = ? AND device_id = ? AND peer = ?", e.ID, o.device, o.peer); err != nil {
			return err
		}
		left, _, err := sqldb.Row(ctx, tx, scanInt, "SELECT count(*) FROM erasure_part WHERE erasure = ? AND device_id = ?", e.ID, o.device)
		if err != nil {
			return err
		}
		if _, err := put(ctx, tx, e.ID, o.next(int(left), stamps)); err != nil {
			return err
		}
		if o.stage == stageControl {
			e.Erased++
		}
	}
	for _, p := range e.Planes {
		if p.Waits != "" {
			waits = append(waits, p.Plane+": "+p.Waits)
		}
	}
	e.Problem = strings.Join(waits, "; ")
	left, _, err := sqldb.Row(ctx, tx, scanInt, "SELECT count(*) FROM erasure_part WHERE erasure = ?", e.ID)
	if err != nil {
		return err
	}
	if left == 0 {
		e.State, e.Problem = Closing, ""
	}
	return save(ctx, tx, e, one.version)
}
