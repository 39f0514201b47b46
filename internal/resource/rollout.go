package resource

import (
	"fmt"
	"slices"
	"time"

	"github.com/slipway/slipway/internal/problem"
)

// RolloutSpec is how a release comes onto the stamps of an environment, and on
// a stamp onto its devices.
type RolloutSpec struct {
	Waves       []Wave       `json:"waves,omitempty" maxItems:"20" doc:"How far it reaches on a stamp, one wave after another; default 1 %, 10 %, 50 % and all, or all at once in an environment that promotes from none"`
	Exponential *Exponential `json:"exponential,omitempty" doc:"Waves that grow by a factor, instead of a list"`
	Parallel    int          `json:"parallel,omitempty" minimum:"0" doc:"Devices of a stamp that work on it at once; 0 is no limit"`
	Deadline    Span         `json:"deadline,omitempty" doc:"How long a connected device may take until it says that it runs the release; default 1h"`
	Attempts    int          `json:"attempts,omitempty" minimum:"0" maximum:"20" doc:"How often a device may try; default 3"`
	Health      *WaveHealth  `json:"health,omitempty" doc:"When a wave has failed; default more than 5 % of at least 10 devices, or devices that reconnect more often than the others"`
	Attempted   float64      `json:"attempted,omitempty" minimum:"0" maximum:"1" doc:"Share of a wave's devices, of those that can be reached, that must have come to an end; default 0.9"`
	Patience    Span         `json:"patience,omitempty" doc:"How long a wave waits for enough devices to judge by; default 24h"`
	OnNoData    NoData       `json:"onNoData,omitempty" enum:"inconclusive,fail,pass-with-reason" doc:"What it means when they do not come: it pauses (inconclusive, default), has failed, or goes on"`
	Gates       []Gate       `json:"gates,omitempty" maxItems:"30" doc:"What must be true on a stamp before its next wave; only gates that ask something of the present: promql, slo, devices, webhook"`
	Rings       RingSpec     `json:"rings,omitzero" doc:"How it goes from stamp to stamp"`
	OnFailure   string       `json:"onFailure,omitempty" enum:"rollback,pause" doc:"What a failed wave leads to; default rollback"`
}

// Wave is one step of a rollout on a stamp.
type Wave struct {
	Name  string  `json:"name,omitempty" maxLength:"63"`
	Share float64 `json:"share,omitempty" minimum:"0" maximum:"1" doc:"Of the stamp's devices"`
	Count int64   `json:"count,omitempty" minimum:"0" doc:"At least so many devices"`
	Where string  `json:"where,omitempty" maxLength:"4000" doc:"And those that match a query condition"`
	Soak  Span    `json:"soak,omitempty" doc:"How long it lasts at least; default no time"`
}

// Exponential are waves that grow: first, first × factor, and so on to all.
type Exponential struct {
	First  float64 `json:"first,omitempty" minimum:"0" maximum:"1" doc:"Share of the first wave; default 0.01"`
	Factor float64 `json:"factor,omitempty" minimum:"0" maximum:"1000" doc:"Default 10"`
	Soak   Span    `json:"soak,omitempty" doc:"How long each wave lasts at least"`
}

// RingSpec is how a rollout goes from stamp to stamp: by their ring.
type RingSpec struct {
	AtOnce int  `json:"atOnce,omitempty" minimum:"0" maximum:"1000" doc:"Stamps of a ring that are under way at once; default 1"`
	Soak   Span `json:"soak,omitempty" doc:"How long a ring stays done before the next one begins"`
	Pause  bool `json:"pause,omitempty" doc:"Somebody must resume it after each ring"`
}

// What a failed wave leads to.
const (
	OnFailureRollback = "rollback"
	OnFailurePause    = "pause"
)

// The defaults and limits of rollouts.
const (
	defaultAttempted = 0.9
	defaultAttempts  = 3
	defaultFailures  = 0.05
	maxWaves         = 20
	maxParallel      = 1_000_000
)

// The lengths of time of a rollout that says nothing of them.
const (
	DefaultDeadline = time.Hour
	DefaultPatience = 24 * time.Hour
)

// usualWaves are those of an environment that declares none.
var usualWaves = []Wave{{Name: "canary", Share: 0.01, Count: 1}, {Name: "few", Share: 0.1}, {Name: "half", Share: 0.5}, {Name: "all", Share: 1}}

// Whole returns the spec with its defaults and all its waves, the last of
// which reaches every device. first says that nothing comes before the
// environment.
func (s RolloutSpec) Whole(first bool) RolloutSpec {
	s.Waves = s.waves(first)
	s.Exponential = nil
	if s.Attempts == 0 {
		s.Attempts = defaultAttempts
	}
	if s.Attempted == 0 {
		s.Attempted = defaultAttempted
	}
	health := WaveHealth{MaxFailures: defaultFailures, Compare: &Comparison{OnNoData: NoDataPass}}
	if s.Health != nil {
		health = *s.Health
	}
	if whole, err := health.Check(); err == nil {
		s.Health = &whole
	}
	if s.Rings.AtOnce == 0 {
		s.Rings.AtOnce = 1
	}
	if s.OnFailure == "" {
		s.OnFailure = OnFailureRollback
	}
	if s.OnNoData == "" {
		s.OnNoData = NoDataInconclusive
	}
	return s
}

func (s RolloutSpec) waves(first bool) []Wave {
	all := slices.Clone(s.Waves)
	switch {
	case s.Exponential != nil:
		all = s.Exponential.waves()
	case len(all) == 0 && first:
		return []Wave{{Name: "all", Share: 1}}
	case len(all) == 0:
		return slices.Clone(usualWaves)
	}
	if all[len(all)-1].Share < 1 {
		all = append(all, Wave{Name: "all", Share: 1})
	}
	return all
}

func (e Exponential) waves() (all []Wave) {
	share, factor := e.First, e.Factor
	if share == 0 {
		share = 0.01
	}
	if factor == 0 {
		factor = 10
	}
	for ; share < 1 && len(all) < maxWaves-1; share *= factor {
		all = append(all, Wave{Share: share, Count: 1, Soak: e.Soak})
	}
	return append(all, Wave{Share: 1, Soak: e.Soak})
}

// Check holds a rollout against its rules. The fields it names are below the
// rollout.
func (s RolloutSpec) Check() error {
	if err := s.checkWaves(); err != nil {
		return err
	}
	if err := s.checkSpans(); err != nil {
		return err
	}
	switch {
	case s.Parallel < 0 || s.Parallel > maxParallel:
		return problem.New(problem.Invalid, "at most %d devices work on it at once, or 0 for no limit, not %d", maxParallel, s.Parallel).At("parallel")
	case s.Attempts < 0 || s.Attempts > 20:
		return problem.New(problem.Invalid, "a device may try 1 to 20 times, not %d", s.Attempts).At("attempts")
	case !share(s.Attempted):
		return problem.New(problem.Invalid, "a share is from 0 to 1, not %g", s.Attempted).At("attempted")
	case s.Rings.AtOnce < 0 || s.Rings.AtOnce > 1000:
		return problem.New(problem.Invalid, "1 to 1000 stamps are under way at once, not %d", s.Rings.AtOnce).At("rings.atOnce")
	case !slices.Contains([]string{"", OnFailureRollback, OnFailurePause}, s.OnFailure):
		return problem.New(problem.Invalid, "must be %s or %s, not %q", OnFailureRollback, OnFailurePause, s.OnFailure).At("onFailure")
	case !slices.Contains([]NoData{"", NoDataInconclusive, NoDataFail, NoDataPass}, s.OnNoData):
		return problem.New(problem.Invalid, "must be inconclusive, fail or pass-with-reason, not %q", s.OnNoData).At("onNoData")
	}
	if s.Health != nil {
		if _, err := s.Health.Check(); err != nil {
			p := problem.Of(err)
			return p.At("health." + p.Field)
		}
	}
	return s.checkGates()
}

func share(v float64) bool { return v >= 0 && v <= 1 }

func (s RolloutSpec) checkWaves() error {
	if s.Exponential != nil {
		switch e := s.Exponential; {
		case len(s.Waves) > 0:
			return problem.New(problem.Invalid, "say waves or exponential, not both").At("exponential")
		case !share(e.First) || e.First > 0 && e.First < 0.0001:
			return problem.New(problem.Invalid, "the first share is from 0.0001 to 1, not %g", e.First).At("exponential.first")
		case e.Factor != 0 && !(e.Factor >= 1.1 && e.Factor <= 1000):
			return problem.New(problem.Invalid, "a factor is from 1.1 to 1000, not %g", e.Factor).At("exponential.factor")
		}
		return s.Exponential.Soak.check("exponential.soak", 0, maxSpan)
	}
	if len(s.Waves) > maxWaves {
		return problem.New(problem.Invalid, "a rollout has at most %d waves, not %d", maxWaves, len(s.Waves)).At("waves")
	}
	before := Wave{}
	for i, w := range s.Waves {
		at := fmt.Sprintf("waves[%d]", i)
		switch {
		case !share(w.Share):
			return problem.New(problem.Invalid, "a share is from 0 to 1, not %g", w.Share).At(at + ".share")
		case w.Count < 0:
			return problem.New(problem.Invalid, "a number of devices is not negative").At(at + ".count")
		case w.Share == 0 && w.Count == 0 && w.Where == "":
			return problem.New(problem.Invalid, "a wave has a share, a count or a condition").At(at)
		case w.Share > 0 && w.Share < before.Share || w.Count > 0 && w.Count < before.Count:
			return problem.New(problem.Invalid, "a wave reaches at least as far as the one before").At(at)
		case len(w.Where) > 4000:
			return problem.New(problem.Invalid, "a condition has at most 4000 characters, not %d", len(w.Where)).At(at + ".where")
		}
		if err := w.Soak.check(at+".soak", 0, maxSpan); err != nil {
			return err
		}
		before = Wave{Share: max(before.Share, w.Share), Count: max(before.Count, w.Count)}
	}
	return nil
}

func (s RolloutSpec) checkSpans() error {
	for _, one := range []struct {
		field string
		span  Span
		least time.Duration
	}{{"deadline", s.Deadline, time.Second}, {"patience", s.Patience, time.Second}, {"rings.soak", s.Rings.Soak, 0}} {
		if err := one.span.check(one.field, one.least, maxSpan); err != nil {
			return err
		}
	}
	return nil
}

// checkGates lets in gates alone that ask something of the stamp as it is.
func (s RolloutSpec) checkGates() error {
	for i, g := range s.Gates {
		if kind := g.Kind(); kind != "" && !slices.Contains([]string{GatePromQL, GateSLO, GateDevices, GateWebhook}, kind) {
			return problem.New(problem.Invalid, "a rollout's gates ask something of the present: promql, slo, devices or webhook, not %s", kind).At(fmt.Sprintf("gates[%d].%s", i, kind))
		}
	}
	return each("gates", s.Gates, func(g Gate) string { return g.Name }, Gate.Check)
}
