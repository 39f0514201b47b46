// Package delivery carries what routes take from a stamp's logs to their
// endpoints, at least once and in order. Each route reads its log by itself,
// from a position of its own, and holds no more than a batch: an endpoint that
// is slow or away delays its route, nobody else, and what waits is in the log.
package delivery

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/sqldb"
	"github.com/slipway/slipway/internal/stamp/endpoint"
	"github.com/slipway/slipway/internal/stamp/route"
	"github.com/slipway/slipway/internal/stamp/telemetry"
)

// Options are what an engine is made of.
type Options struct {
	DB   *sqldb.DB
	Logs *telemetry.Logs
	// Twin returns a device's twin as decoded JSON.
	Twin func(ctx context.Context, id string) (document any, ok bool)
	// Open prepares an endpoint; endpoint.Open but in tests.
	Open func(spec link.Endpoint, o endpoint.Options) (endpoint.Endpoint, error)
	// Program prepares a route's processor; its kind of failure is
	// problem.NotReady while the stamp does not have it yet.
	Program func(ctx context.Context, p link.Processor) (Program, error)
	// Outside is what endpoints are opened with.
	Outside endpoint.Options
	// Wanted is told whether a route wants the changes of twins.
	Wanted func(twinChanges bool)
	// Changed tells other processes that the routes have changed; nil where
	// there are none.
	Changed func()
	Logger  *slog.Logger
	Now     func() time.Time
}

// Program works on messages: one comes back for each, nil where it is dropped.
// A failure of kind problem.Invalid would come again.
type Program interface {
	Run(ctx context.Context, messages [][]byte) ([][]byte, error)
	Close() error
}

// Engine runs the routes of one stamp.
type Engine struct {
	Options
	store store
	kick  chan struct{}

	mu      sync.Mutex
	workers map[string]*worker
	faults  map[string]error // why a route that is on does not run
}

// New returns an engine; nothing is delivered before Run.
func New(o Options) *Engine {
	return &Engine{Options: o, store: store{o.DB}, kick: make(chan struct{}, 1), workers: map[string]*worker{}, faults: map[string]error{}}
}

// Put takes the routes control wants. A route that is new begins with what
// comes after this.
func (e *Engine) Put(ctx context.Context, want link.Routes) (link.None, error) {
	telemetry, err := e.end(ctx, link.SourceTelemetry)
	if err != nil {
		return link.None{}, err
	}
	events, err := e.end(ctx, link.SourceEvents)
	if err != nil {
		return link.None{}, err
	}
	changed, err := e.store.put(ctx, want, func(source string) uint64 {
		if source == link.SourceTelemetry {
			return telemetry
		}
		return events
	})
	if err == nil && changed {
		e.Wake()
		if e.Changed != nil {
			e.Changed()
		}
	}
	return link.None{}, err
}

func (e *Engine) end(ctx context.Context, source string) (uint64, error) {
	_, last, err := e.Logs.Reader(source).Bounds(ctx)
	return last, err
}

// Wake has the routes looked at.
func (e *Engine) Wake() {
	select {
	case e.kick <- struct{}{}:
	default:
	}
}

// lookEvery is how often routes are looked at without a reason.
const lookEvery = 30 * time.Second

// Run delivers until ctx ends.
func (e *Engine) Run(ctx context.Context) error {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	defer e.stopAll()
	for {
		if err := e.reconcile(ctx); err != nil && ctx.Err() == nil {
			e.Logger.Error("routes not looked at", "error", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-e.kick:
		case <-tick.C:
		}
	}
}

// reconcile brings about one worker for each route that is on, made for the
// route as it is declared now.
func (e *Engine) reconcile(ctx context.Context) error {
	rows, err := e.store.all(ctx)
	if err != nil {
		return err
	}
	e.want(rows)
	wanted := map[string]row{}
	for _, r := range rows {
		if !r.spec.Disabled {
			wanted[r.name] = r
		}
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	for name, w := range e.workers {
		if r, ok := wanted[name]; !ok || r.text != w.text {
			w.stop()
			delete(e.workers, name)
		}
	}
	clear(e.faults)
	for name, r := range wanted {
		if e.workers[name] != nil {
			continue
		}
		w, err := e.newWorker(ctx, r)
		if err != nil {
			e.faults[name] = err
			e.Logger.Error("a route cannot run", "route", name, "error", err)
			continue
		}
		e.workers[name] = w
		w.start(ctx)
	}
	return nil
}

func (e *Engine) want(rows []row) {
	e.Wanted(slices.ContainsFunc(rows, func(r row) bool {
		return !r.spec.Disabled && (r.spec.Source == link.SourceTwin || r.spec.Source == link.SourceEvents)
	}))
}

// Look tells what routes want without running them, which another process does.
func (e *Engine) Look(ctx context.Context) error {
	rows, err := e.store.all(ctx)
	if err == nil {
		e.want(rows)
	}
	return err
}

func (e *Engine) newWorker(ctx context.Context, r row) (*worker, error) {
	rule, err := route.Compile(r.spec)
	if err != nil {
		return nil, err
	}
	var program Program
	if r.spec.Processor != nil {
		if program, err = e.Program(ctx, *r.spec.Processor); err != nil {
			return nil, err
		}
	}
	outside := e.Outside
	outside.Route, outside.Environment = r.name, r.spec.Environment
	target, err := e.Open(r.spec.Endpoint, outside)
	if err != nil {
		if program != nil {
			err = errors.Join(err, program.Close())
		}
		return nil, err
	}
	return &worker{
		engine: e, name: r.name, spec: r.spec, text: r.text, rule: rule, program: program, target: target, reader: e.Logs.Reader(r.spec.Source),
		position: r.position, replay: make(chan struct{}, 1), ended: make(chan struct{}), logger: e.Logger.With("route", r.name),
	}, nil
}

func (e *Engine) stopAll() {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, w := range e.workers {
		w.cancel()
	}
	for name, w := range e.workers {
		w.stop()
		delete(e.workers, name)
	}
}

func (e *Engine) worker(name string) *worker {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.workers[name]
}

func (e *Engine) fault(name string) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.faults[name]
}

// Held are the routes as they are stored, with digests in the places of their
// secrets.
func (e *Engine) Held(ctx context.Context, digest func(secret string) string) ([]link.Route, error) {
	rows, err := e.store.all(ctx)
	held := make([]link.Route, len(rows))
	for i, r := range rows {
		held[i] = link.Route{Name: r.name, Spec: r.spec}
		for _, secret := range secretsOf(&held[i].Spec) {
			if *secret != "" {
				*secret = digest(*secret)
			}
		}
		if hook := held[i].Spec.Endpoint.Webhook; hook != nil {
			for name, value := range hook.Headers {
				hook.Headers[name] = digest(value)
			}
		}
	}
	return held, err
}

// secretsOf are the places of a route that hold secrets.
func secretsOf(s *link.RouteSpec) []*string {
	switch e := s.Endpoint; {
	case e.Webhook != nil:
		return []*string{&e.Webhook.Secret}
	case e.NATS != nil:
		return []*string{&e.NATS.Password}
	case e.Kafka != nil:
		return []*string{&e.Kafka.Password}
	case e.PostgreSQL != nil:
		return []*string{&e.PostgreSQL.Password}
	case e.Archive != nil && e.Archive.S3 != nil:
		return []*string{&e.Archive.S3.SecretKey}
	}
	return nil
}

// States returns how every route is.
func (e *Engine) States(ctx context.Context, _ link.None) (link.RouteStates, error) {
	rows, err := e.store.all(ctx)
	if err != nil {
		return link.RouteStates{}, err
	}
	states := link.RouteStates{Items: make([]link.RouteState, len(rows))}
	ends := map[bool]uint64{}
	for i, r := range rows {
		events := r.spec.Source != link.SourceTelemetry
		if _, known := ends[events]; !known {
			if ends[events], err = e.end(ctx, r.spec.Source); err != nil {
				return states, err
			}
		}
		s := r.state(e.Outside.Stamp)
		s.Lag = ends[events] - min(s.Position, ends[events])
		s.State = "disabled"
		if w := e.worker(r.name); w != nil {
			w.health.show(&s)
		} else if fault := e.fault(r.name); fault != nil {
			s.State, s.Error = "failing", problem.Of(fault).Error()
		}
		states.Items[i] = s
	}
	return states, nil
}

// Try says what a route would make of a message.
func (e *Engine) Try(ctx context.Context, req link.TryRoute) (link.RouteTrial, error) {
	rule, err := route.Compile(req.Spec)
	if err != nil || req.Message == nil {
		return link.RouteTrial{}, err
	}
	m := *req.Message
	m.Stamp = e.Outside.Stamp
	out, taken := rule.Take(m, func() (any, bool) { return e.Twin(ctx, m.DeviceID) })
	if !taken {
		return link.RouteTrial{}, nil
	}
	if req.Spec.Processor != nil {
		return e.tryProcessor(ctx, *req.Spec.Processor, out)
	}
	return link.RouteTrial{Taken: true, Message: &out}, nil
}

// tryProcessor says what a route's program would make of a message.
func (e *Engine) tryProcessor(ctx context.Context, p link.Processor, m link.LogRecord) (trial link.RouteTrial, err error) {
	program, err := e.Program(ctx, p)
	if err != nil {
		return trial, err
	}
	defer func() { err = errors.Join(err, program.Close()) }()
	sealed, err := endpoint.Seal(m)
	if err != nil {
		return trial, err
	}
	made, err := program.Run(ctx, [][]byte{sealed.JSON})
	if err != nil {
		return trial, err
	}
	out, err := rebuild([]endpoint.Message{sealed}, made)
	if err != nil || len(out) == 0 {
		return trial, err
	}
	trial.Taken, trial.Message = true, &link.LogRecord{}
	return trial, json.Unmarshal(out[0].JSON, trial.Message)
}

// DeadLetters returns a page of those of a route.
func (e *Engine) DeadLetters(ctx context.Context, req link.DeadLetterPage) (link.DeadLetters, error) {
	limit := req.Limit
	if limit <= 0 || limit > link.MaxPage {
		limit = 100
	}
	items, more, err := e.store.deadLetters(ctx, req.Route, req.After, limit)
	for i := range items {
		items[i].Stamp = e.Outside.Stamp
	}
	return link.DeadLetters{Items: items, More: more}, err
}

// Replay marks dead letters to be sent once more, and tells how many.
func (e *Engine) Replay(ctx context.Context, req link.DeadLetterRef) (link.Purged, error) {
	w := e.worker(req.Route)
	if w == nil {
		return link.Purged{}, problem.New(problem.Conflict, "route %s does not run on this stamp; enable it first", req.Route)
	}
	n, err := e.store.replay(ctx, req)
	if err == nil {
		w.again()
	}
	return link.Purged{Total: n}, err
}

// Purge drops dead letters, and tells how many.
func (e *Engine) Purge(ctx context.Context, req link.DeadLetterRef) (link.Purged, error) {
	n, err := e.store.purge(ctx, req)
	return link.Purged{Total: n}, err
}

func decode(text []byte) (spec link.RouteSpec, err error) { return spec, json.Unmarshal(text, &spec) }
