package rollout

import (
	"context"
	"slices"
	"time"

	"github.com/slipway/slipway/internal/control/gate"
	"github.com/slipway/slipway/internal/link"
)

// View is a rollout as people see it, with what each stamp tells now.
type View struct {
	Rollout
	Details []StampView `json:"details" doc:"What each stamp tells now, in the order of stamps"`
	Held    string      `json:"held,omitempty" doc:"What keeps the next stamp"`
	Until   *time.Time  `json:"until,omitempty" doc:"When that ends by itself"`
}

// StampView is a stamp of a rollout as it is now.
type StampView struct {
	Stamp      string                       `json:"stamp"`
	Ring       int                          `json:"ring"`
	State      StampState                   `json:"state"`
	Wave       int                          `json:"wave,omitempty"`
	Waves      int                          `json:"waves"`
	Heard      bool                         `json:"heard" doc:"What follows is of this rollout and of its wave"`
	SeenAt     *time.Time                   `json:"seenAt,omitempty"`
	Devices    link.UpdateCensus            `json:"devices" doc:"All of the stamp"`
	Reached    link.UpdateCensus            `json:"reached" doc:"Those the rollout reaches so far"`
	WaveOnly   link.UpdateCensus            `json:"waveOnly" doc:"Those its last wave alone reaches"`
	ByHardware map[string]link.UpdateCensus `json:"byHardware,omitempty"`
	Updated    link.Health                  `json:"updated" doc:"How devices do that run the release"`
	Others     link.Health                  `json:"others" doc:"How those do that do not"`
	Halted     string                       `json:"halted,omitempty" doc:"Why the stamp has stopped by itself"`
	Waits      string                       `json:"waits,omitempty" doc:"What the wave waits for"`
	Until      *time.Time                   `json:"until,omitempty" doc:"When that ends by itself"`
	Verdicts   []gate.Result                `json:"verdicts,omitempty" doc:"How the wave is judged now"`
}

// Show returns a rollout with what its stamps tell now.
func (rs *Rollouts) Show(ctx context.Context, id string) (View, error) {
	r, err := readRollout(ctx, rs.o.DB, id)
	if err != nil {
		return View{}, err
	}
	facts, err := rs.facts(ctx, r.Rollout)
	if err != nil {
		return View{}, err
	}
	return Watch(r.Rollout, facts, rs.o.Now().UTC()), nil
}

// Watch puts a rollout together with what its stamps tell.
func Watch(r Rollout, f Facts, now time.Time) View {
	v := View{Rollout: r, Details: make([]StampView, len(r.Stamps))}
	for i, s := range r.Stamps {
		v.Details[i] = r.viewOf(s, f[s.Name], now)
	}
	if r.State == Running && slices.ContainsFunc(r.Stamps, func(s Stamp) bool { return s.State == Waiting }) {
		if i, held := r.turn(f, now); i >= 0 || held.why != "" {
			v.Held, v.Until = held.why, held.until
		}
	}
	return v
}

func (r *Rollout) viewOf(s Stamp, f StampFacts, now time.Time) StampView {
	v := StampView{Stamp: s.Name, Ring: s.Ring, State: s.State, Wave: s.Wave, Waves: len(r.Policy.Waves)}
	p := f.Progress
	if n := len(s.Waves); n > 0 {
		v.Reached = s.Waves[n-1].Census // for when the stamp has gone on to something else
	}
	if p == nil {
		return v
	}
	v.SeenAt, v.Devices = &f.SeenAt, p.Devices
	if p.Rollout != r.ID {
		return v
	}
	v.Heard = r.heard(s, f, now)
	v.Reached, v.WaveOnly, v.ByHardware, v.Updated, v.Others, v.Halted = p.Reached, p.WaveOnly, p.ByHardware, p.Updated, p.Others, p.Halted
	if s.State == Moving && !r.State.Over() {
		w := r.weigh(s, f, now)
		v.Waits, v.Until, v.Verdicts = w.why, w.until, w.results
	}
	return v
}

// Cell is what runs on one stamp.
type Cell struct {
	Environment string     `json:"environment"`
	Stamp       string     `json:"stamp"`
	Ring        int        `json:"ring"`
	Base        string     `json:"base,omitempty" doc:"The release of devices that no rollout reaches"`
	Rollout     string     `json:"rollout,omitempty" doc:"The rollout in effect"`
	Release     string     `json:"release,omitempty" doc:"The release it brings"`
	Wave        int        `json:"wave,omitempty"`
	Waves       int        `json:"waves,omitempty"`
	Paused      bool       `json:"paused,omitempty"`
	OnBase      int64      `json:"onBase" doc:"Devices that run the base"`
	OnRelease   int64      `json:"onRelease" doc:"Devices that run the rollout's release"`
	Total       int64      `json:"total" doc:"Devices that are to run either"`
	Share       float64    `json:"share" doc:"Share of the devices that run the rollout's release"`
	SeenAt      *time.Time `json:"seenAt,omitempty" doc:"When the stamp last told of it"`
}

// Runs reports whether a release runs on the stamp, or is on its way there.
func (c Cell) Runs(release string) bool { return c.Base == release || c.Release == release }

// Matrix returns what runs on each stamp, by environment, ring and name; of
// one release alone if one is named.
func (rs *Rollouts) Matrix(ctx context.Context, release string) ([]Cell, error) {
	stamps, err := rs.o.Fleet.Stamps(ctx)
	if err != nil {
		return nil, err
	}
	standings, err := rs.standings(ctx)
	if err != nil {
		return nil, err
	}
	effective, err := rs.effective(ctx, standings)
	if err != nil {
		return nil, err
	}
	cells := make([]Cell, 0, len(stamps))
	for _, s := range stamps {
		standing := standings[s.Metadata.Name]
		c := Cell{Environment: s.Spec.Environment, Stamp: s.Metadata.Name, Ring: s.Spec.RingOf(), Base: standing.Base}
		if r, moving := effective[standing.Rollout]; moving {
			form := shapeOf(standing, &r)
			c.Rollout, c.Release, c.Wave, c.Waves, c.Paused = form.rollout, form.release, form.wave, len(r.Policy.Waves), form.paused
		}
		if o, seen := rs.o.Fleet.Observed(s.Metadata.Name); seen && o.Releases != nil {
			c.count(*o.Releases, o.At)
		}
		if release == "" || c.Runs(release) {
			cells = append(cells, c)
		}
	}
	slices.SortFunc(cells, func(a, b Cell) int {
		if a.Environment != b.Environment {
			return compare(a.Environment, b.Environment)
		}
		if a.Ring != b.Ring {
			return a.Ring - b.Ring
		}
		return compare(a.Stamp, b.Stamp)
	})
	return cells, nil
}

// count takes in what the stamp tells of its devices.
func (c *Cell) count(p link.Progress, at time.Time) {
	d := p.Devices
	c.SeenAt, c.Total, c.OnBase = &at, d.Attempted()+d.Pending+d.Unreachable, d.Updated
	if c.Rollout == "" || p.Rollout != c.Rollout {
		return
	}
	c.OnRelease = p.Reached.Updated
	c.OnBase = d.Updated - c.OnRelease
	if c.Total > 0 {
		c.Share = float64(c.OnRelease) / float64(c.Total)
	}
}

// effective are the rollouts in effect on any stamp, by id.
func (rs *Rollouts) effective(ctx context.Context, standings map[string]Standing) (map[string]Rollout, error) {
	all := map[string]Rollout{}
	for _, s := range standings {
		if _, known := all[s.Rollout]; known || s.Rollout == "" {
			continue
		}
		r, err := readRollout(ctx, rs.o.DB, s.Rollout)
		if err != nil {
			return nil, err
		}
		all[s.Rollout] = r.Rollout
	}
	return all, nil
}
