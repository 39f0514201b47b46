package configuration

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"sync"
	"time"

	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/sqldb"
	"github.com/slipway/slipway/internal/stamp/device"
	"github.com/slipway/slipway/internal/stamp/query"
	"github.com/slipway/slipway/internal/stamp/touched"
	"github.com/slipway/slipway/internal/stamp/twin"
)

// Twins changes twins on behalf of configurations; the hub does, so that
// devices are told.
type Twins interface {
	PatchTwin(ctx context.Context, req link.PatchTwin) (link.Twin, error)
	CreateModule(ctx context.Context, device, module string) error
}

// Engine brings about what configurations ask for.
type Engine struct {
	db      *sqldb.DB
	devices *device.Devices
	twins   Twins
	logger  *slog.Logger
	// Changed tells other processes that a configuration has changed; nil where
	// there are none.
	Changed func()

	touched *touched.Devices

	mu     sync.Mutex
	active bool // there are configurations, or traces of them
}

// New returns an engine over a stamp's devices.
func New(db *sqldb.DB, devices *device.Devices, twins Twins, logger *slog.Logger) *Engine {
	return &Engine{db: db, devices: devices, twins: twins, logger: logger, touched: touched.New(), active: true}
}

// Touch says that an identity has changed in a way conditions may look at. It
// does not wait.
func (e *Engine) Touch(id string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.active {
		e.touched.Touch(id)
	}
}

// changed looks at every identity anew, here and elsewhere.
func (e *Engine) changed() {
	e.Again()
	if e.Changed != nil {
		e.Changed()
	}
}

// Again looks at every identity anew, after a configuration has changed.
func (e *Engine) Again() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.active = true
	e.touched.TouchAll()
}

// settle is how long changes are gathered before they are looked at: a device
// that reports often is looked at once.
const settle = 200 * time.Millisecond

// Run follows changes until ctx ends. What it had not looked at then, it looks
// at when it begins again.
func (e *Engine) Run(ctx context.Context) error {
	e.Again()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-e.touched.Bell():
		}
		if err := e.round(ctx); err != nil && ctx.Err() == nil {
			e.logger.Error("configurations not brought about", "error", err)
			e.Again()
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(settle):
		}
	}
}

// round looks at what was touched, or at every identity.
func (e *Engine) round(ctx context.Context) error {
	ids, everything := e.touched.Take(touched.Most)
	configurations, err := e.List(ctx, Max)
	if err != nil {
		return err
	}
	if everything {
		return e.everyone(ctx, configurations)
	}
	for _, id := range ids {
		one, err := e.devices.Whole(ctx, id)
		if problem.Is(err, problem.NotFound) {
			continue
		}
		if err == nil {
			err = e.follow(ctx, configurations, one)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// everyone looks at every identity, a page at a time. A stamp without
// configurations and without traces of any has nothing to look at.
func (e *Engine) everyone(ctx context.Context, configurations []Configuration) error {
	if len(configurations) == 0 {
		left, _, err := sqldb.Row(ctx, e.db, scanInt, "SELECT count(*) FROM (SELECT 1 FROM device WHERE configurations <> '{}' LIMIT 1) d")
		if err != nil {
			return err
		}
		if left == 0 {
			e.mu.Lock()
			defer e.mu.Unlock()
			e.active = e.touched.All() // unless somebody came meanwhile
			return nil
		}
	}
	for after := ""; ; {
		page, err := e.devices.Wholes(ctx, after, 500)
		if err != nil || len(page) == 0 {
			return err
		}
		for _, one := range page {
			if err := e.follow(ctx, configurations, one); err != nil {
				return err
			}
		}
		after = page[len(page)-1].ID
	}
}

// follow makes one identity follow the configuration that wins for it.
func (e *Engine) follow(ctx context.Context, all []Configuration, one device.Whole) error {
	source := query.FromDevices
	if _, module := link.SplitIdentity(one.ID); module != "" {
		source = query.FromModules
	}
	first, targeting := winner(all, source, one)
	before, had, err := e.applied(ctx, one.ID)
	if err != nil {
		return err
	}
	if first == nil && !had && len(one.Configurations) == 0 {
		return nil
	}
	if first != nil && had && before.id == first.ID && same(targeting, one.Configurations) {
		return nil
	}
	old, fresh := map[string]any{}, map[string]any{}
	if had {
		if old, err = decode(before.content); err != nil {
			return err
		}
	}
	if first != nil {
		fresh = first.content()
	}
	content, err := json.Marshal(fresh)
	if err != nil {
		return err
	}
	if !had || !bytes.Equal(content, before.content) {
		if err := e.give(ctx, one.ID, twin.Transition(old, fresh), first); err != nil {
			return err
		}
	}
	return e.note(ctx, one.ID, first, content, targeting)
}

// same reports whether what is noted of an identity is what targets it.
func same(targeting []string, noted map[string]any) bool {
	if len(targeting) != len(noted) {
		return false
	}
	for _, id := range targeting {
		if _, ok := noted[id]; !ok {
			return false
		}
	}
	return true
}

// give changes the twin of an identity. One that cannot hold the content keeps
// what it has, which the log says; the others must not wait for it.
func (e *Engine) give(ctx context.Context, id string, patch map[string]any, first *Configuration) error {
	if len(patch) > 0 {
		if err := e.patch(ctx, id, patch); err != nil {
			return err
		}
	}
	if first == nil || len(first.Content.Modules) == 0 {
		return nil
	}
	return e.GiveModules(ctx, id, first.Content.Modules)
}

// GiveModules sets the desired properties of modules of a device, and makes
// those it lacks.
func (e *Engine) GiveModules(ctx context.Context, id string, modules map[string]map[string]any) error {
	for module, content := range modules {
		if err := e.twins.CreateModule(ctx, id, module); err != nil && !problem.Is(err, problem.Conflict) {
			return err
		}
		if err := e.patch(ctx, link.ModuleIdentity(id, module), nest(content)); err != nil {
			return err
		}
	}
	return nil
}

func (e *Engine) patch(ctx context.Context, id string, desired map[string]any) error {
	text, err := json.Marshal(map[string]any{"properties": map[string]any{"desired": desired}})
	if err != nil {
		return err
	}
	_, err = e.twins.PatchTwin(ctx, link.PatchTwin{DeviceID: id, Patch: text})
	switch problem.Of(err).Kind {
	case problem.Invalid, problem.TooLarge, problem.NotFound:
		if err != nil {
			e.logger.Warn("a configuration does not fit a twin", "device", id, "error", err)
			return nil
		}
	}
	return err
}
