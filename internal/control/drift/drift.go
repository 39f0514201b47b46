package drift

import (
	"context"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/slipway/slipway/internal/control/audit"
	"github.com/slipway/slipway/internal/control/environment"
	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/resource"
	"github.com/slipway/slipway/internal/sqldb"
)

// Fleet is what is declared of environments and stamps.
type Fleet interface {
	List(ctx context.Context) ([]resource.Environment, error)
	Stamps(ctx context.Context) ([]resource.Stamp, error)
	Template(ctx context.Context, environment string) (resource.Derived, bool, error)
	LinkedRoutes(ctx context.Context, environment string) ([]link.Route, error)
	Wanted(ctx context.Context, stamp string) (link.Routes, error)
	Directory(ctx context.Context) (link.Directory, error)
	Derivation(ctx context.Context, environment string) (environment.Derivation, error)
	Observed(stamp string) (link.Observed, bool)
}

// Running is what a stamp is to run.
type Running struct {
	Environment, Stamp string
	Base, Release      string // Release is what a rollout brings; empty where none is
	Counter            int64  // of the base
}

// Options are what drift is found with.
type Options struct {
	DB    *sqldb.DB
	Audit *audit.Log
	Fleet Fleet
	// Running tells what each stamp is to run.
	Running func(ctx context.Context) ([]Running, error)
	// Flags tells the version of the flags that each stamp is to have, and what
	// an environment's flags are.
	Flags       func(ctx context.Context) (map[string]string, error)
	FlagsOf     func(ctx context.Context, environment string) (any, error)
	Enrollments func(ctx context.Context) ([]link.Enrollment, error)
	// Configurations are those that the stamps of an environment are to have.
	Configurations func(ctx context.Context, environment string) ([]link.HeldConfiguration, error)
	// Held asks a stamp what it holds, and HeldDirectory provisioning.
	Held          func(ctx context.Context, stamp string) (link.Held, error)
	HeldDirectory func(ctx context.Context) (link.Directory, error)
	// Sample reads a page of the twins of a stamp, after a device.
	Sample  func(ctx context.Context, stamp, after string) (link.Rows, error)
	Version string // of the program
	Logger  *slog.Logger
	Now     func() time.Time
}

// Drift finds differences, continuously.
type Drift struct {
	o Options

	looking sync.Mutex // one look at a time
	mu      sync.Mutex
	found   []Finding
	at      time.Time      // of the last look
	objects map[string]int // that were compared, by environment
	twins   []Rollup       // of all stamps
	likes   map[string]Likeness
	reports []Report           // of neighbours, as of the last look
	samples map[string]*sample // by stamp
	held    map[string]heldAt
}

// heldAt is what a stamp said last.
type heldAt struct {
	link.Held
	at  time.Time
	why string // it did not say anything
}

// New returns what finds drift. It knows nothing before Run.
func New(o Options) *Drift {
	return &Drift{o: o, likes: map[string]Likeness{}, samples: map[string]*sample{}, held: map[string]heldAt{}}
}

// lookEvery is how often everything is looked at: a difference is known within
// a look and its grace, which is less than a minute.
const lookEvery = 10 * time.Second

// Run looks until ctx ends.
func (d *Drift) Run(ctx context.Context) error {
	if err := d.load(ctx); err != nil {
		return err
	}
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		if err := d.Look(ctx); err != nil && ctx.Err() == nil {
			d.o.Logger.Warn("drift not looked for; trying again", "error", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// Look looks at everything once.
func (d *Drift) Look(ctx context.Context) error {
	d.looking.Lock()
	defer d.looking.Unlock()
	ctx, done := context.WithTimeout(ctx, 2*lookEvery)
	defer done()
	subjects, likes, err := d.collect(ctx)
	if err != nil {
		return err
	}
	accepted, err := d.Acceptances(ctx)
	if err != nil {
		return err
	}
	now := d.o.Now().UTC()
	since := map[string]time.Time{}
	d.mu.Lock()
	before := d.found
	for _, f := range before {
		since[f.ID] = f.Since
	}
	d.mu.Unlock()
	found := Judge(subjects, accepted, since, now)
	if err := d.keep(ctx, before, found); err != nil {
		return err
	}
	d.mu.Lock()
	d.found, d.likes, d.at, d.objects, d.twins = found, likes, now, map[string]int{}, d.rollups()
	for _, s := range subjects {
		d.objects[s.Environment]++
	}
	d.mu.Unlock()
	return d.keepParity(ctx, now)
}

// Page is what was found when it was last looked.
type Page struct {
	Findings []Finding `json:"findings"`
	Counts   []Count   `json:"counts"`
	At       time.Time `json:"at" doc:"When it was last looked; zero says never"`
	Unseen   bool      `json:"unseen,omitempty" doc:"That is too long ago to say anything"`
}

// Findings are the differences of an environment, or of all, when it was last
// looked.
func (d *Drift) Findings(environment string) Page {
	d.mu.Lock()
	defer d.mu.Unlock()
	p := Page{Findings: []Finding{}, Counts: []Count{}, At: d.at, Unseen: d.o.Now().Sub(d.at) > staleAfter}
	for _, f := range d.found {
		if environment == "" || f.Environment == environment {
			p.Findings = append(p.Findings, f)
		}
	}
	p.Counts = append(p.Counts, Counts(p.Findings)...)
	return p
}

// Open counts what somebody has to do something about in each environment, by
// class, as of the last look. Zero time says that it was never looked.
func (d *Drift) Open() (counts []Count, at time.Time) {
	p := d.Findings("")
	for _, c := range p.Counts {
		if c.Class.Open() {
			counts = append(counts, c)
		}
	}
	return counts, p.At
}

// Compared is how many things of an environment were held against what is
// declared at the last look.
func (d *Drift) Compared(environment string) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.objects[environment]
}

// Parity holds two environments against one another, as of the last look.
func (d *Drift) Parity(ctx context.Context, from, to string) (Report, error) {
	accepted, err := d.Acceptances(ctx)
	if err != nil {
		return Report{}, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	one, known := d.likes[from]
	other, also := d.likes[to]
	for name, there := range map[string]bool{from: known, to: also} {
		if there {
			continue
		}
		if d.at.IsZero() {
			return Report{}, problem.New(problem.NotReady, "environments were not looked at yet; try again shortly")
		}
		return Report{}, problem.New(problem.NotFound, "there is no environment %q", name)
	}
	r := Parity(one, other, accepted, d.at)
	for _, stamp := range slices.Sorted(maps.Keys(d.held)) {
		if h := d.held[stamp]; h.why != "" {
			r.Gaps = append(r.Gaps, stamp+": "+h.why)
		}
	}
	return r, nil
}

// Reports are how alike neighbours are, as of the last look: each environment
// and the one it promotes from.
func (d *Drift) Reports() []Report {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.reports
}

// Newest is how alike an environment and its neighbour are, as of the last
// look.
func (d *Drift) Newest(environment string) (Report, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, what := range []func(Report) string{func(r Report) string { return r.From }, func(r Report) string { return r.To }} {
		for _, r := range d.reports {
			if what(r) == environment {
				return r, true
			}
		}
	}
	return Report{}, false
}

// pairs are the environments that are held against one another by themselves:
// each with the one it promotes from.
func (d *Drift) pairs() (all [][2]string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, name := range slices.Sorted(maps.Keys(d.likes)) {
		if from := d.likes[name].PromotesFrom; from != "" && d.likes[from].Environment != "" {
			all = append(all, [2]string{from, name})
		}
	}
	return all
}
