// Package software has the devices of a stamp run what control wants: it
// chooses which of them a rollout reaches, gives them orders in their twins,
// hears what became of those, counts them, and has the files they need.
//
// Control's document says what is to be; what a device is to run follows from
// it and from the device's place on a ring alone. So whatever is lost or
// repeated, and whenever a process ends, looking at a device again leads to the
// same.
package software

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"math"
	"path/filepath"
	"reflect"
	"sync"
	"sync/atomic"
	"time"

	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/sqldb"
	"github.com/slipway/slipway/internal/stamp/device"
	"github.com/slipway/slipway/internal/stamp/touched"
	"github.com/slipway/slipway/internal/stamp/twin"
)

// Twins changes twins on behalf of the engine; the hub does, so that devices
// are told.
type Twins interface {
	// PatchTwinWith makes a change of a twin, and what its caller writes down of
	// it, in one.
	PatchTwinWith(ctx context.Context, req link.PatchTwin, also func(context.Context, *sqldb.Tx) error) (link.Twin, error)
	// ReportFor merges what a device says elsewhere than over a connection.
	ReportFor(ctx context.Context, id string, patch []byte) error
}

// Options are what an engine is made of.
type Options struct {
	Stamp   string
	DB      *sqldb.DB
	Devices *device.Devices
	Twins   Twins
	Dir     string // for artifacts and metadata; the processes of a stamp share it
	Control Control
	// Space bounds the bytes of the artifacts kept; 0 is DefaultSpace.
	Space int64
	// Fetched is told that artifacts have come; nil: nobody wants to know.
	Fetched func()
	// Notify has the process that leads look at a device.
	Notify func(id string)
	Logger *slog.Logger
	Now    func() time.Time
}

// Engine brings about what control wants to run.
type Engine struct {
	Options
	db       *sqldb.DB
	files    *files
	metadata *metadata
	fetch    chan struct{} // something may have to be fetched
	// Changed tells other processes that the document has; nil where there are
	// none.
	Changed func()

	plan    atomic.Pointer[plan]
	earlier sync.Map // releases by digest

	touched *touched.Devices
	urgent  chan struct{}

	mu sync.Mutex // held while a plan is put into force

	pass     pass
	complete atomic.Int64 // the version for which every device was looked at
	census   census
	health   health
}

// Open returns the engine of a stamp, with what control said last.
func Open(ctx context.Context, o Options) (*Engine, error) {
	files, err := openFiles(filepath.Join(o.Dir, "artifacts"), cmp.Or(o.Space, DefaultSpace), o.Control)
	if err != nil {
		return nil, err
	}
	metadata, err := openMetadata(filepath.Join(o.Dir, "metadata"), o.Control, o.Now)
	if err != nil {
		return nil, err
	}
	e := &Engine{metadata: metadata, fetch: make(chan struct{}, 1), Options: o, db: o.DB, files: files, touched: touched.New(), urgent: make(chan struct{}, 1)}
	return e, e.Load(ctx)
}

// Active reports whether control has said what is to run.
func (e *Engine) Active() bool { return e.plan.Load() != nil }

// Touch says that a device has changed in a way that may matter. It does not
// wait.
func (e *Engine) Touch(id string) {
	if _, module := link.SplitIdentity(id); module != "" || !e.Active() {
		return
	}
	e.touched.Touch(id)
}

// Again looks at every device anew, as news may have been lost.
func (e *Engine) Again() {
	e.touched.TouchAll()
	e.hurry()
}

func (e *Engine) hurry() { wake(e.urgent) }

func wake(bell chan struct{}) {
	select {
	case bell <- struct{}{}:
	default:
	}
}

const (
	settle    = 100 * time.Millisecond // how long changes are gathered before they are looked at
	tickEvery = 500 * time.Millisecond // how late a deadline is noticed
	calmDown  = time.Second            // after a failure
	page      = 500                    // devices looked at in one go
	tellers   = 32                     // twins changed at once
)

// Run follows the document until ctx ends, in one process of the stamp. What it
// had not looked at then, it looks at when it begins again.
func (e *Engine) Run(ctx context.Context) error {
	e.pass = pass{}
	e.complete.Store(0)
	e.census.reset()
	e.Again()
	mirrored := make(chan struct{})
	go func() { defer close(mirrored); e.mirror(ctx) }()
	defer func() { <-mirrored }()
	for ctx.Err() == nil {
		more, err := e.round(ctx)
		if err != nil && ctx.Err() == nil && !problem.Is(err, problem.Stale) {
			e.Logger.Error("what devices are to run was not brought about; trying again", "error", err)
			pause(ctx, calmDown)
		}
		if !more && err == nil {
			e.rest(ctx)
		}
	}
	return nil
}

// rest waits for something to do.
func (e *Engine) rest(ctx context.Context) {
	select {
	case <-ctx.Done():
	case <-e.urgent:
	case <-time.After(tickEvery):
	case <-e.touched.Bell():
		select {
		case <-ctx.Done():
		case <-e.urgent:
		case <-time.After(settle):
		}
	}
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// look brings devices to where they should be.
func (e *Engine) look(ctx context.Context, p *plan, ids []string) error {
	all, err := e.views(ctx, ids)
	if err != nil {
		return err
	}
	var strange []string
	for _, v := range all {
		if !v.enrolled {
			strange = append(strange, v.DeviceID)
		}
	}
	if len(strange) > 0 {
		if err := e.enrol(ctx, strange, e.Now()); err != nil {
			return err
		}
		if all, err = e.views(ctx, ids); err != nil {
			return err
		}
	}
	room, err := e.room(ctx, p, all)
	if err != nil {
		return err
	}
	var changes []change
	for _, v := range all {
		if !v.enrolled {
			continue // it is gone
		}
		c, err := e.decide(ctx, p, v, room)
		if err != nil {
			return err
		}
		if c.after.Rollout != "" && c.after.Order != v.Order {
			room--
		}
		changes = append(changes, c)
	}
	return e.carryOut(ctx, p, changes)
}

// room is how many more devices may work on the rollout's orders, besides those
// that are there already and some that are looked at: these may go on with an
// order they had before.
func (e *Engine) room(ctx context.Context, p *plan, all []view) (int64, error) {
	if p.Rollout == nil || p.Rollout.Parallel <= 0 {
		return math.MaxInt64, nil
	}
	working, err := e.working(ctx, p.Rollout.ID)
	if err != nil {
		return 0, err
	}
	for _, v := range all {
		if !v.enrolled {
			continue
		}
		c, err := e.decide(ctx, p, v, 0)
		if err != nil {
			return 0, err
		}
		if c.after.works(p.Rollout.ID) && !c.before.works(p.Rollout.ID) {
			working++
		}
	}
	return max(0, int64(p.Rollout.Parallel)-working), nil
}

// works reports whether the device works on an order of a rollout.
func (s Standing) works(rollout string) bool {
	return s.Step == Working && s.State == link.UpdatePending && s.Rollout == rollout
}

// change is what comes of a look at a device.
type change struct {
	before, after Standing
	patch         twin.Document // of its desired properties
}

func (e *Engine) decide(ctx context.Context, p *plan, v view, room int64) (c change, err error) {
	now := e.Now().UTC()
	reached := p.reaches(v.Standing)
	if !reached && p.where != nil {
		if reached, err = e.matches(ctx, p, v.DeviceID); err != nil {
			return c, err
		}
	}
	t := p.target(v.Standing, reached, true, room)
	t.Open = t.Open && (t.Release == nil || e.files.ready(t.Release))
	given, err := e.release(ctx, p, v.Given)
	if err != nil {
		return c, err
	}
	facts := Facts{Report: ParseReport(v.report), Contact: v.connected || v.polls(now), Given: given, Seen: seen(v.desired, now)}
	c.before = v.Standing
	c.after, _ = Next(v.Standing, facts, t, now)
	told := given
	if c.after.Given != v.Given {
		told = t.Release
	}
	o, ordered := c.after.order(told, p.Environment)
	c.patch, err = patch(v.desired, given, told, o, ordered)
	return c, err
}

// seen is the order that a twin holds, as far as it can be one of ours: it may
// come from the stamp the device was on before.
func seen(desired twin.Document, now time.Time) int64 {
	o, _ := desired[link.UpdateProperty].(twin.Document)
	number, _ := o["order"].(json.Number)
	n, err := number.Int64()
	if err != nil || n < 0 || n > orderAt(now.Add(24*time.Hour)) {
		return 0
	}
	return n
}

// matches reports whether the condition of a rollout holds for a device.
func (e *Engine) matches(ctx context.Context, p *plan, id string) (bool, error) {
	whole, err := e.Devices.Whole(ctx, id)
	if problem.Is(err, problem.NotFound) {
		return false, nil
	}
	return err == nil && p.where.Eval(whole), err
}

// carryOut writes down where devices stand, and tells those that are to be told.
func (e *Engine) carryOut(ctx context.Context, p *plan, changes []change) error {
	var quiet, loud []change
	failed := false
	for _, c := range changes {
		switch {
		case len(c.patch) > 0:
			loud = append(loud, c)
		case !reflect.DeepEqual(c.before, c.after):
			quiet = append(quiet, c)
		}
		failed = failed || c.after.State != c.before.State && (c.after.State == link.UpdateFailed || c.after.State == link.UpdateRolledBack)
	}
	if err := e.write(ctx, quiet); err != nil {
		return err
	}
	if failed {
		if err := e.consider(ctx, p); err != nil {
			return err
		}
	}
	return e.tell(ctx, loud)
}

// write writes down the standings of devices that need not be told of it.
func (e *Engine) write(ctx context.Context, quiet []change) error {
	if len(quiet) == 0 {
		return nil
	}
	var overtaken []string
	err := e.db.Commit(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		overtaken = nil
		for _, c := range quiet {
			err := save(ctx, tx, c.stamped(e.Now()))
			if errors.Is(err, errOvertaken) {
				overtaken = append(overtaken, c.before.DeviceID)
			} else if err != nil {
				return err
			}
		}
		return nil
	})
	e.census.stale.Store(true)
	for _, id := range overtaken {
		e.Touch(id)
	}
	return err
}

// stamped is where the device stands from now on.
func (c change) stamped(now time.Time) Standing {
	c.after.UpdatedAt = now.UTC()
	return c.after
}

// tell changes the twins of devices, several at once so that they share
// commits.
func (e *Engine) tell(ctx context.Context, loud []change) error {
	failures := make([]error, len(loud))
	next := atomic.Int64{}
	var telling sync.WaitGroup
	for range min(tellers, len(loud)) {
		telling.Go(func() {
			for i := next.Add(1) - 1; int(i) < len(loud) && ctx.Err() == nil; i = next.Add(1) - 1 {
				failures[i] = e.tellOne(ctx, loud[i])
			}
		})
	}
	telling.Wait()
	e.census.stale.Store(true)
	return errors.Join(failures...)
}

func (e *Engine) tellOne(ctx context.Context, c change) error {
	text, err := json.Marshal(map[string]any{"properties": map[string]any{"desired": c.patch}})
	if err != nil {
		return err
	}
	_, err = e.Twins.PatchTwinWith(ctx, link.PatchTwin{DeviceID: c.before.DeviceID, Patch: text}, func(ctx context.Context, tx *sqldb.Tx) error {
		return save(ctx, tx, c.stamped(e.Now()))
	})
	switch {
	case err == nil, problem.Is(err, problem.NotFound):
		return nil
	case errors.Is(err, errOvertaken):
		e.Touch(c.before.DeviceID)
		return nil
	case problem.Is(err, problem.Invalid), problem.Is(err, problem.TooLarge):
		return e.write(ctx, []change{c.refused(err)})
	}
	return err
}

// refused is what becomes of a device whose twin cannot hold its order.
func (c change) refused(err error) change {
	c.after.Given, c.after.GivenFor, c.after.Back = c.before.Given, c.before.GivenFor, c.before.Back
	c.after.Order, c.after.OrderedAt = c.before.Order, c.before.OrderedAt
	c.after.rest(link.UpdateFailed, clean("its twin cannot hold the order: "+problem.Of(err).Error(), maxError))
	return c
}

// consider has the rollout stop if too many devices of its wave have failed.
func (e *Engine) consider(ctx context.Context, p *plan) error {
	if p.Rollout == nil || p.Rollout.Halt == nil || p.course.Halted != "" {
		return nil
	}
	wave, err := e.waveCensus(ctx, p)
	if err != nil {
		return err
	}
	reason := halts(p.Rollout.Halt, wave)
	if reason == "" {
		return nil
	}
	e.Logger.Warn("the rollout has stopped by itself", "rollout", p.Rollout.ID, "reason", reason)
	c := p.course
	c.Halted = reason
	_, err = e.chart(ctx, p, c)
	return err
}
