package rollout

import (
	"fmt"
	"slices"
	"time"

	"github.com/slipway/slipway/internal/control/gate"
	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/resource"
)

// Facts are what is so of an environment's stamps, by name.
type Facts map[string]StampFacts

// StampFacts are what is so of a stamp.
type StampFacts struct {
	Ring int
	// NotBefore is when a rollout may begin there at the earliest, and Held by
	// what; the zero time is at once.
	NotBefore time.Time
	Held      string
	// Shut is until when nothing begins there, neither a rollout nor the next
	// wave of one, and ShutBy what keeps it so.
	Shut   time.Time
	ShutBy string
	// Base is what it runs.
	Base string
	// Version is that of the document the stamp is to follow.
	Version int64
	// Progress is what it last told, at SeenAt; nil if it never told.
	Progress *link.Progress
	SeenAt   time.Time
	// Gates are the verdicts on the wave it is in.
	Gates []gate.Result
}

// opens is when a rollout may begin on the stamp, and what keeps it until then.
func (f StampFacts) opens() (time.Time, string) {
	if f.Shut.After(f.NotBefore) {
		return f.Shut, f.ShutBy
	}
	return f.NotBefore, f.Held
}

// silentAfter is how old the word of a stamp may be that something is judged by.
const silentAfter = 30 * time.Second

// compareEvery is how often devices with and without the release are compared.
const compareEvery = 10 * time.Second

// Step is what becomes of a rollout at a moment.
func Step(r Rollout, f Facts, now time.Time) Rollout {
	next := r.clone()
	switch r.State {
	case Running:
		next.adopt(f)
		next.advance(f, now)
	case Complete:
		next.watch(f, now)
	case RollingBack:
		next.adopt(f)
		next.comeBack(f, now)
	}
	return next
}

// advance looks at each stamp on its way, then begins others.
func (r *Rollout) advance(f Facts, now time.Time) {
	r.watch(f, now)
	if r.State != Running {
		return
	}
	for i := range r.Stamps {
		if r.Stamps[i].State != Moving {
			continue
		}
		w := r.weigh(r.Stamps[i], f[r.Stamps[i].Name], now)
		switch {
		case w.outcome == NoData && r.Policy.OnNoData == resource.NoDataInconclusive:
			r.pause(Cause{Stamp: r.Stamps[i].Name, Wave: r.Stamps[i].Wave, By: Robot, Reason: w.why, At: now}, now)
			return
		case w.outcome != "":
			r.pass(i, w, Robot, now)
		}
	}
	for r.beginNext(f, now) {
	}
	if !slices.ContainsFunc(r.Stamps, func(s Stamp) bool { return s.State == Waiting || s.State == Moving }) {
		r.State = Complete
		r.log(Event{At: now, What: "complete"})
	}
}

// watch compares devices and finds out what has failed, also on stamps that
// are done: devices that come late can fail as well.
func (r *Rollout) watch(f Facts, now time.Time) {
	for i := range r.Stamps {
		s := &r.Stamps[i]
		if s.State != Moving && s.State != Done {
			continue
		}
		facts := f[s.Name]
		r.compare(s, facts, now)
		if w := r.weigh(*s, facts, now); w.failed {
			r.fail(i, w, now)
			return
		}
	}
}

// compare takes in how devices did since the last look.
func (r *Rollout) compare(s *Stamp, f StampFacts, now time.Time) {
	if r.Policy.Health == nil || r.Policy.Health.Compare == nil || !r.heard(*s, f, now) || s.LookedAt != nil && now.Sub(*s.LookedAt) < compareEvery {
		return
	}
	before := gate.Comparison{}
	if s.Compared != nil {
		before = gate.Comparison(*s.Compared)
	}
	after := Evidence(before.Next(*r.Policy.Health.Compare, f.Progress.Updated, f.Progress.Others))
	s.Compared, s.LookedAt = &after, &now
}

// heard reports whether a stamp tells of the wave it is in.
func (r *Rollout) heard(s Stamp, f StampFacts, now time.Time) bool {
	p := f.Progress
	return p != nil && p.Rollout == r.ID && p.Wave == s.Wave && p.Version >= f.Version && now.Sub(f.SeenAt) < silentAfter
}

// weighed is what is to be made of a stamp's wave.
type weighed struct {
	outcome string // empty: it is not over
	failed  bool
	why     string
	results []gate.Result
	until   *time.Time // when it may change by itself
}

// weigh judges the wave a stamp is in. One that would let the next begin where
// nothing may begin now is not over.
func (r *Rollout) weigh(s Stamp, f StampFacts, now time.Time) weighed {
	w := r.weighWave(s, f, now)
	goesOn := w.outcome == Passed || w.outcome == Empty || w.outcome == NoData && r.Policy.OnNoData == resource.NoDataPass
	if goesOn && s.Wave < len(r.Policy.Waves) && now.Before(f.Shut) {
		return weighed{why: f.ShutBy + " keep the next wave until then", results: w.results, until: &f.Shut}
	}
	return w
}

func (r *Rollout) weighWave(s Stamp, f StampFacts, now time.Time) weighed {
	if !r.heard(s, f, now) {
		return weighed{why: "the stamp does not tell of the wave yet"}
	}
	if f.Progress.Halted != "" {
		return weighed{outcome: Failed, failed: true, why: "the stamp has stopped by itself: " + f.Progress.Halted, results: r.judge(s, f, now)}
	}
	soaked := s.WaveAt.Add(r.wave(s).Soak.Duration(0))
	if empty(*f.Progress) {
		if now.Before(soaked) {
			return weighed{why: "it lasts until then, though it reaches no device", until: &soaked}
		}
		return weighed{outcome: Empty, why: "it reaches no device that the release has something for"}
	}
	results := append(r.judge(s, f, now), f.Gates...)
	verdict, reasons := gate.Combine(results, false)
	switch {
	case verdict == gate.Fail:
		return weighed{outcome: Failed, failed: true, why: joined(reasons), results: results}
	case verdict.Lets() && !now.Before(soaked):
		return weighed{outcome: Passed, results: results}
	case verdict.Lets():
		return weighed{why: "it lasts until then", results: results, until: &soaked}
	}
	late := r.late(s)
	switch {
	case now.Before(late):
		return weighed{why: joined(reasons), results: results, until: &late}
	case r.Policy.OnNoData == resource.NoDataFail:
		return weighed{outcome: Failed, failed: true, why: joined(reasons), results: results}
	}
	return weighed{outcome: NoData, why: joined(reasons), results: results}
}

func (r *Rollout) wave(s Stamp) resource.Wave {
	return r.Policy.Waves[min(max(s.Wave, 1), len(r.Policy.Waves))-1]
}

// late is when a wave has waited long enough.
func (r *Rollout) late(s Stamp) time.Time {
	return s.WaveAt.Add(r.Policy.Patience.Duration(resource.DefaultPatience))
}

// judge holds a wave against the policy.
func (r *Rollout) judge(s Stamp, f StampFacts, now time.Time) []gate.Result {
	w := gate.Wave{Deadline: r.late(s), Progress: *f.Progress}
	w.Progress.WaveOnly = carried(w.Progress.WaveOnly, r.Policy.Attempted)
	if s.Compared != nil {
		w.Compared = gate.Comparison(*s.Compared)
	}
	return gate.WaveVerdict(now, *r.Policy.Health, w)
}

// carried lets go of the last few devices once enough have come to an end: the
// wave does not wait for them, though they stay in the census.
func carried(c link.UpdateCensus, enough float64) link.UpdateCensus {
	if tried := c.Attempted(); tried > 0 && float64(tried) >= enough*float64(tried+c.Pending) {
		c.Unreachable, c.Pending = c.Unreachable+c.Pending, 0
	}
	return c
}

// empty reports whether there is no device that the rollout reaches and has
// something for.
func empty(p link.Progress) bool {
	c := p.Reached
	return p.Complete && c.Attempted()+c.Pending+c.Unreachable == 0
}

func joined(reasons []string) string {
	if len(reasons) == 0 {
		return "nothing is known yet"
	}
	text := reasons[0]
	for _, more := range reasons[1:] {
		text += "; " + more
	}
	return text
}

// pass ends a stamp's wave and begins its next, if there is one.
func (r *Rollout) pass(i int, w weighed, by string, now time.Time) {
	s := &r.Stamps[i]
	r.ended(s, w, by, now)
	if s.Wave < len(r.Policy.Waves) {
		s.Wave++
		s.WaveAt = &now
		r.log(Event{At: now, What: "wave", Stamp: s.Name, Wave: s.Wave, By: by, Reason: w.why})
		return
	}
	s.State, s.DoneAt = Done, &now
	r.log(Event{At: now, What: "done", Stamp: s.Name, By: by, Reason: w.why})
}

func (r *Rollout) ended(s *Stamp, w weighed, by string, now time.Time) {
	end := WaveEnd{Wave: s.Wave, At: now, Outcome: w.outcome, Results: w.results}
	if by != Robot {
		end.By = by
	}
	s.Waves = append(s.Waves[:len(s.Waves):len(s.Waves)], end)
}

// fail turns a rollout back, or stops it where it must not go back by itself.
func (r *Rollout) fail(i int, w weighed, now time.Time) {
	s := &r.Stamps[i]
	if s.State == Moving {
		r.ended(s, w, Robot, now)
	}
	s.Failed = true
	r.log(Event{At: now, What: "failed", Stamp: s.Name, Wave: s.Wave, Reason: w.why})
	r.failed(Cause{Stamp: s.Name, Wave: s.Wave, By: Robot, Reason: w.why, At: now, Failed: true}, now)
}

// failed does what the policy says of a failure, and what the release lets.
func (r *Rollout) failed(c Cause, now time.Time) {
	switch {
	case !r.Returns():
		c.Reason += fmt.Sprintf("; the release is %s and does not go back by itself", r.Class)
		r.pause(c, now)
	case r.Policy.OnFailure == resource.OnFailurePause:
		r.pause(c, now)
	default:
		r.turnBack(c, RolledBack, now)
	}
}

func (r *Rollout) pause(c Cause, now time.Time) {
	r.State, r.PausedAt, r.Cause = Paused, &now, &c
	r.log(Event{At: now, What: "paused", Stamp: c.Stamp, Wave: c.Wave, By: c.By, Reason: c.Reason})
}

// turnBack has every stamp run what it ran before.
func (r *Rollout) turnBack(c Cause, ends State, now time.Time) {
	r.State, r.Ends, r.Cause, r.ReturnedAt, r.PausedAt = RollingBack, ends, &c, &now, nil
	for i := range r.Stamps {
		if r.Stamps[i].State != Gone {
			r.Stamps[i].State = Back
		}
	}
	r.log(Event{At: now, What: "rollingBack", Stamp: c.Stamp, Wave: c.Wave, By: c.By, Reason: c.Reason})
}

// comeBack ends a rollout whose stamps are all back, or have had their time:
// what they are to run stays said, and they hear it when they return.
func (r *Rollout) comeBack(f Facts, now time.Time) {
	for i := range r.Stamps {
		s := &r.Stamps[i]
		if s.State == Waiting { // it came meanwhile
			s.State = Back
		}
		if s.State == Back && s.DoneAt == nil && back(*s, f[s.Name], now) {
			s.DoneAt = &now
			r.log(Event{At: now, What: "back", Stamp: s.Name})
		}
	}
	missing := 0
	for _, s := range r.Stamps {
		if s.State == Back && s.DoneAt == nil {
			missing++
		}
	}
	if missing > 0 && now.Before(r.ReturnedAt.Add(r.Policy.Deadline.Duration(resource.DefaultDeadline))) {
		return
	}
	r.State, r.EndedAt = r.Ends, &now
	reason := ""
	if missing > 0 {
		reason = fmt.Sprintf("%d stamps have devices that are still on their way back", missing)
	}
	r.log(Event{At: now, What: string(r.State), Reason: reason})
}

// back reports whether a stamp has told all its devices that can be told.
func back(s Stamp, f StampFacts, now time.Time) bool {
	if s.BeganAt == nil {
		return true // the rollout never reached it
	}
	p := f.Progress
	return p != nil && p.Rollout == "" && p.Version >= f.Version && p.Complete && p.Devices.Pending == 0 && now.Sub(f.SeenAt) < silentAfter
}

// beginNext begins one more stamp, if one may.
func (r *Rollout) beginNext(f Facts, now time.Time) bool {
	i, held := r.turn(f, now)
	if i < 0 || held.why != "" {
		return false
	}
	s := &r.Stamps[i]
	s.State, s.Wave, s.BeganAt, s.WaveAt, s.Base = Moving, 1, &now, &now, f[s.Name].Base
	r.log(Event{At: now, What: "began", Stamp: s.Name, Wave: 1})
	return true
}

// turn is the stamp that begins next, and what keeps it.
func (r *Rollout) turn(f Facts, now time.Time) (int, weighed) {
	ring, moving := r.ring()
	if moving >= r.Policy.Rings.AtOnce {
		return -1, weighed{why: fmt.Sprintf("as many stamps are under way as may be at once: %d", moving)}
	}
	next, held := -1, weighed{}
	for i, s := range r.Stamps {
		if s.State != Waiting || s.Ring != ring {
			continue
		}
		if at, why := f[s.Name].opens(); now.Before(at) {
			next, held = i, weighed{why: why, until: &at}
			continue // another one of the ring may go first
		}
		return i, r.ringHeld(ring, now)
	}
	return next, held
}

// ring is the lowest ring that is not done, and how many stamps are moving.
func (r *Rollout) ring() (ring, moving int) {
	found := false
	for _, s := range r.Stamps {
		if s.State == Moving {
			moving++
		}
		if (s.State == Waiting || s.State == Moving) && (!found || s.Ring < ring) {
			ring, found = s.Ring, true
		}
	}
	return ring, moving
}

// ringHeld is what keeps a ring from beginning: the one before stays done for
// a while, or until somebody says so.
func (r *Rollout) ringHeld(ring int, now time.Time) weighed {
	var last time.Time
	earlier := false
	for _, s := range r.Stamps {
		if s.Ring == ring && (s.State == Moving || s.State == Done) {
			return weighed{} // it has begun
		}
		if s.Ring < ring && s.DoneAt != nil {
			earlier = true
			if s.DoneAt.After(last) {
				last = *s.DoneAt
			}
		}
	}
	if !earlier || r.Opened > ring {
		return weighed{}
	}
	if r.Policy.Rings.Pause {
		return weighed{why: fmt.Sprintf("somebody must let ring %d begin: slipway rollout skip %s", ring, r.ID)}
	}
	if soaked := last.Add(r.Policy.Rings.Soak.Duration(0)); now.Before(soaked) {
		return weighed{why: "the ring before stays done until then", until: &soaked}
	}
	return weighed{}
}
