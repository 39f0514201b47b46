package decommission

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/slipway/slipway/internal/control/audit"
	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/sqldb"
)

// Method is the direct method by which a device is told to wipe itself.
const Method = "slipwayWipe"

const (
	lookEvery = time.Second
	atOnce    = 32 // devices worked on together
	askTime   = 10 * time.Second
	wipeTime  = 30 * time.Second // that a connected device has to answer
)

// Run takes every device as far as it goes, until ctx ends.
func (d *Decommissions) Run(ctx context.Context) error {
	defer d.all.Wait()
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		if err := d.look(ctx); err != nil && ctx.Err() == nil {
			d.Logger.Warn("decommissions: trying again", "error", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-d.kick:
		case <-tick.C:
		}
	}
}

// look begins to work on those that nobody works on.
func (d *Decommissions) look(ctx context.Context) error {
	active, err := sqldb.Rows(ctx, d.DB, scan, selectAll+" WHERE active = 1 ORDER BY number LIMIT ?", link.MaxPage)
	for _, one := range active {
		if !one.Due(d.Now()) || !d.take(one.ID) {
			continue
		}
		d.all.Go(func() {
			defer d.release(one.ID)
			if err := d.advance(ctx, one); err != nil && ctx.Err() == nil && !problem.Is(err, problem.Stale) {
				d.Logger.Warn("a device is not taken out of use yet; trying again", "decommission", one.ID, "error", err)
			}
		})
	}
	return err
}

func (d *Decommissions) take(id string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.busy[id] || len(d.busy) >= atOnce {
		return false
	}
	d.busy[id] = true
	return true
}

func (d *Decommissions) release(id string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.busy, id)
}

// advance does what the state wants, and takes the step that follows.
func (d *Decommissions) advance(ctx context.Context, one stored) error {
	if one.Action() == Order {
		// What is told counts before it is told: a process that dies must not
		// believe that the device was never asked.
		told := one.Decommission
		told.Wipe.Tries++
		if err := d.DB.Commit(ctx, func(ctx context.Context, tx *sqldb.Tx) error { return save(ctx, tx, told, one.version) }); err != nil {
			return err
		}
		one = stored{told, one.version + 1}
	}
	facts := d.act(ctx, one.Decommission)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	next := Step(d.clock(), one.Decommission, facts)
	if next == one.Decommission {
		return nil
	}
	return d.DB.Commit(context.WithoutCancel(ctx), func(ctx context.Context, tx *sqldb.Tx) error {
		if err := save(ctx, tx, next, one.version); err != nil {
			return err
		}
		if next.State == one.State {
			return nil
		}
		return d.follow(ctx, tx, next)
	})
}

// follow records a state that was come to.
func (d *Decommissions) follow(ctx context.Context, tx *sqldb.Tx, one Decommission) error {
	detail := one.ID + ": " + string(one.State)
	if one.State == Removing {
		detail += fmt.Sprintf(", the wipe order: %s", one.Wipe.Outcome)
	}
	return d.record(ctx, tx, "slipway", "decommission.step", audit.Done, one, "", detail)
}

// act does what a state wants and tells what came of it.
func (d *Decommissions) act(ctx context.Context, one Decommission) (f Facts) {
	asking, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	switch one.Action() {
	case Bar, Remove:
		state, err := d.Devices.Bar(asking, link.BarDevice{DeviceID: one.Device, Reason: "decommissioned: " + one.Reason, Remove: one.Action() == Remove})
		if err != nil {
			return Facts{Wait: problem.Of(err).Error()}
		}
		return Facts{Barred: true, Off: state.Off, Wait: state.Problem}
	case Unbar:
		if err := d.Devices.Unbar(asking, one.Device); err != nil {
			return Facts{Wait: problem.Of(err).Error()}
		}
		return Facts{Free: true}
	case Order:
		return d.order(ctx, one)
	}
	return f
}

// order tells a device to wipe itself, on the stamp where it is now.
func (d *Decommissions) order(ctx context.Context, one Decommission) Facts {
	asking, cancel := context.WithTimeout(ctx, wipeTime+askTime)
	defer cancel()
	state, err := d.Devices.Bar(asking, link.BarDevice{DeviceID: one.Device, Reason: "decommissioned: " + one.Reason})
	if err != nil || state.Off || state.Stamp == "" {
		f := Facts{Barred: true, Off: err == nil && state.Off, Wait: state.Problem}
		if err != nil {
			f.Wait = problem.Of(err).Error()
		}
		return f
	}
	payload, err := json.Marshal(map[string]string{"decommission": one.ID})
	if err != nil {
		return Facts{Wait: err.Error()}
	}
	result, err := d.Devices.Wipe(asking, state.Stamp, link.InvokeMethod{DeviceID: one.Device, Method: Method, Payload: payload, ResponseTimeout: wipeTime})
	if err != nil {
		return Facts{Wait: problem.Of(err).Error()}
	}
	answer := string(result.Payload)
	return Facts{Answer: &Answer{result.Status, answer[:min(len(answer), maxAnswer)]}}
}
