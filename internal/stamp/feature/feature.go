// Package feature gives devices the values of feature flags, in their twins:
// which value a device gets follows from the flags that control said last, and
// from what the stamp knows of the device.
package feature

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/slipway/slipway/internal/flag"
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
	PatchTwin(ctx context.Context, req link.PatchTwin) (link.Twin, error)
}

// Engine has the twins of a stamp's devices hold the values of their flags.
type Engine struct {
	db      *sqldb.DB
	devices *device.Devices
	twins   Twins
	logger  *slog.Logger
	now     func() time.Time
	// Changed tells other processes that the flags have; nil where there are
	// none.
	Changed func()

	flags   atomic.Pointer[known]
	touched *touched.Devices
}

// known are the flags as control said last.
type known struct {
	version string
	set     *flag.Set
}

// New returns an engine over a stamp's devices. It knows no flags before Load.
func New(db *sqldb.DB, devices *device.Devices, twins Twins, logger *slog.Logger, now func() time.Time) *Engine {
	return &Engine{db: db, devices: devices, twins: twins, logger: logger, now: now, touched: touched.New()}
}

func read(version string, document json.RawMessage) (*known, error) {
	d, err := flag.Parse(document)
	if err != nil {
		return nil, err
	}
	set, err := flag.Compile(d, nil)
	return &known{version, set}, err
}

// Put takes the flags that control wants devices to have.
func (e *Engine) Put(ctx context.Context, flags link.Flags) (link.None, error) {
	if k := e.flags.Load(); k != nil && k.version == flags.Version {
		return link.None{}, nil
	}
	if _, err := read(flags.Version, flags.Document); err != nil {
		return link.None{}, err
	}
	err := e.db.Commit(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		_, err := tx.Exec(ctx, "INSERT INTO flags (id, version, document) VALUES (1, ?, ?) ON CONFLICT (id) DO UPDATE SET version = excluded.version, document = excluded.document", flags.Version, string(flags.Document))
		return err
	})
	if err == nil {
		err = e.Load(ctx)
	}
	if err == nil && e.Changed != nil {
		e.Changed()
	}
	return link.None{}, err
}

// Held is the version of the flags as they are stored; empty where there are
// none.
func (e *Engine) Held(ctx context.Context) (string, error) {
	version, _, err := sqldb.Row(ctx, e.db, func(rows *sql.Rows) (s string, err error) { return s, rows.Scan(&s) }, "SELECT version FROM flags WHERE id = 1")
	return version, err
}

// Load reads what control said last, which another process may have heard.
func (e *Engine) Load(ctx context.Context) error {
	type stored struct {
		version  string
		document []byte
	}
	s, found, err := sqldb.Row(ctx, e.db, func(rows *sql.Rows) (s stored, err error) { return s, rows.Scan(&s.version, &s.document) }, "SELECT version, document FROM flags WHERE id = 1")
	if err != nil || !found {
		return err
	}
	if k := e.flags.Load(); k != nil && k.version == s.version {
		return nil
	}
	k, err := read(s.version, s.document)
	if err != nil {
		return err
	}
	e.flags.Store(k)
	e.touched.TouchAll()
	return nil
}

// Touch says that a device has changed in a way rules may look at. It does not
// wait.
func (e *Engine) Touch(id string) {
	k := e.flags.Load()
	if k == nil || len(k.set.Keys()) == 0 {
		return
	}
	e.touched.Touch(id)
}

// settle is how long changes are gathered before they are looked at.
const settle = 100 * time.Millisecond

// Run follows changes until ctx ends. What it had not looked at then, it looks
// at when it begins again.
func (e *Engine) Run(ctx context.Context) error {
	if err := e.Load(ctx); err != nil {
		return err
	}
	e.touched.TouchAll()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-e.touched.Bell():
		}
		if err := e.round(ctx); err != nil && ctx.Err() == nil {
			e.logger.Error("flags of devices not brought about; trying again", "error", err)
			e.touched.TouchAll()
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(settle):
		}
	}
}

// round looks at what was touched, or at every device.
func (e *Engine) round(ctx context.Context) error {
	k := e.flags.Load()
	ids, everything := e.touched.Take(touched.Most)
	if k == nil {
		return nil
	}
	if everything {
		return e.everyone(ctx, k)
	}
	for _, id := range ids {
		one, err := e.devices.Whole(ctx, id)
		if problem.Is(err, problem.NotFound) {
			continue
		}
		if err == nil {
			err = e.follow(ctx, k, one)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// page is how many devices are looked at together.
const page = 500

// everyone looks at every device, unless other flags have come meanwhile, for
// which they are looked at anew.
func (e *Engine) everyone(ctx context.Context, k *known) error {
	for after := ""; e.flags.Load() == k; {
		all, err := e.devices.Wholes(ctx, after, page)
		if err != nil || len(all) == 0 {
			return err
		}
		for _, one := range all {
			if err := e.follow(ctx, k, one); err != nil {
				return err
			}
		}
		after = all[len(all)-1].ID
	}
	return nil
}

// follow has a device's twin hold the values of its flags. One that cannot hold
// them keeps what it has, which the log says; others must not wait for it.
func (e *Engine) follow(ctx context.Context, k *known, one device.Whole) error {
	if _, module := link.SplitIdentity(one.ID); module != "" {
		return nil
	}
	has, had := one.Document.Desired.Values[link.FlagsProperty]
	values, err := e.values(k, one)
	if err != nil {
		return err
	}
	patch := twin.Document{}
	switch {
	case len(values) == 0 && !had:
		return nil
	case len(values) == 0:
		patch[link.FlagsProperty] = nil
	case !had:
		patch[link.FlagsProperty] = values
	default:
		old, _ := has.(twin.Document)
		same, err := equal(old, values)
		if same || err != nil {
			return err
		}
		patch[link.FlagsProperty] = twin.Transition(old, values)
	}
	text, err := json.Marshal(map[string]any{"properties": map[string]any{"desired": patch}})
	if err != nil {
		return err
	}
	_, err = e.twins.PatchTwin(ctx, link.PatchTwin{DeviceID: one.ID, Patch: text})
	switch {
	case problem.Is(err, problem.NotFound): // it has gone meanwhile
		return nil
	case problem.Is(err, problem.Invalid), problem.Is(err, problem.TooLarge):
		e.logger.Warn("a twin cannot hold its flags", "device", one.ID, "error", err)
		return nil
	}
	return err
}

// values are those that a device is to have. A flag without a value is not
// among them.
func (e *Engine) values(k *known, one device.Whole) (twin.Document, error) {
	if len(k.set.Keys()) == 0 {
		return nil, nil
	}
	tags := map[string]any{}
	text, err := json.Marshal(one.Document.Tags)
	if err == nil {
		err = json.Unmarshal(text, &tags) // numbers as rules compare them
	}
	if err != nil {
		return nil, err
	}
	values := map[string]json.RawMessage{}
	for _, r := range k.set.All(map[string]any{
		"targetingKey": one.ID, "deviceId": one.ID, "tenant": one.Tenant, "status": one.Status, "modelId": one.ModelID, "enrollment": one.Enrollment, "tags": tags,
	}, e.now()) {
		if len(r.Value) > 0 {
			values[r.Key] = r.Value
		}
		if r.ErrorCode != "" {
			e.logger.Warn("a flag could not be evaluated for a device", "flag", r.Key, "device", one.ID, "error", r.ErrorDetails)
		}
	}
	if text, err = json.Marshal(values); err != nil {
		return nil, err
	}
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.UseNumber()
	var document twin.Document
	return document, decoder.Decode(&document)
}

func equal(a, b twin.Document) (bool, error) {
	x, err := twin.Encode(a)
	if err != nil {
		return false, err
	}
	y, err := twin.Encode(b)
	return bytes.Equal(x, y), err
}
