// Package rollout takes a release onto the stamps of an environment, ring by
// ring, and on each stamp onto devices, wave by wave, and back. A rollout is a
// document that a pure function steps, by what stamps tell and by the time;
// what each stamp is to run follows from it alone.
package rollout

import (
	"slices"
	"time"

	"github.com/slipway/slipway/internal/control/gate"
	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/resource"
)

// State is where a rollout stands.
type State string

// The states. The last four are for good.
const (
	Running     State = "running"
	Paused      State = "paused"      // no further device is told anything
	Complete    State = "complete"    // it has reached everything, and can still go back
	RollingBack State = "rollingBack" // every stamp is told what it ran before
	Succeeded   State = "succeeded"   // its release is what the stamps run
	RolledBack  State = "rolledBack"
	Aborted     State = "aborted" // rolled back because somebody said so
	Left        State = "left"    // ended by somebody, devices left as they are
)

// Over reports whether nothing comes after the state.
func (s State) Over() bool { return s == Succeeded || s == RolledBack || s == Aborted || s == Left }

// StampState is where a stamp stands in a rollout.
type StampState string

// The states of a stamp in a rollout.
const (
	Waiting StampState = "waiting" // its turn has not come
	Moving  StampState = "moving"  // a wave is on its way
	Done    StampState = "done"    // its last wave has passed
	Back    StampState = "back"    // it is told what it ran before
	Gone    StampState = "gone"    // it was deleted meanwhile
)

// Rollout is a release on its way onto the stamps of an environment.
type Rollout struct {
	ID          string               `json:"id"`
	Promotion   string               `json:"promotion"`
	Environment string               `json:"environment"`
	Release     string               `json:"release"`
	Digest      string               `json:"digest"`
	Kind        string               `json:"kind" doc:"What the release is made for: feature, security or mixed"`
	Class       string               `json:"rollback" doc:"The way back from it: safe, forward-only or needs-restore"`
	From        string               `json:"from,omitempty" doc:"What the environment ran when it began"`
	Back        bool                 `json:"back,omitempty" doc:"It leads to an earlier release, everywhere at once"`
	State       State                `json:"state"`
	Policy      resource.RolloutSpec `json:"policy" doc:"As it was declared when it began"`
	Stamps      []Stamp              `json:"stamps"`
	CreatedAt   time.Time            `json:"createdAt"`
	ReturnedAt  *time.Time           `json:"returnedAt,omitempty" doc:"When it turned back"`
	EndedAt     *time.Time           `json:"endedAt,omitempty"`
	PausedAt    *time.Time           `json:"pausedAt,omitempty"`
	Cause       *Cause               `json:"cause,omitempty" doc:"Why it pauses, goes back or has ended"`
	Ends        State                `json:"ends,omitempty" doc:"What it is once every stamp is back"`
	Opened      int                  `json:"opened,omitempty" doc:"Rings below this one begin without waiting any longer"`
	Log         []Event              `json:"log" doc:"What happened to it, oldest first"`
	Events      int                  `json:"events" doc:"How many there were, of which log may have fewer"`
}

// Cause is why a rollout does not go on.
type Cause struct {
	Stamp  string    `json:"stamp,omitempty"`
	Wave   int       `json:"wave,omitempty"`
	By     string    `json:"by" doc:"Who, or the rule"`
	Reason string    `json:"reason"`
	At     time.Time `json:"at"`
	Failed bool      `json:"failed,omitempty" doc:"A wave has failed, or what was to be verified"`
}

// Stamp is one stamp of a rollout.
type Stamp struct {
	Name     string     `json:"name"`
	Ring     int        `json:"ring"`
	State    StampState `json:"state"`
	Base     string     `json:"base,omitempty" doc:"What it runs where the rollout does not reach, and goes back to"`
	Wave     int        `json:"wave,omitempty" doc:"Counted from 1"`
	BeganAt  *time.Time `json:"beganAt,omitempty"`
	WaveAt   *time.Time `json:"waveAt,omitempty" doc:"When its wave began; a pause does not count"`
	DoneAt   *time.Time `json:"doneAt,omitempty"`
	Failed   bool       `json:"failed,omitempty" doc:"Its wave has failed"`
	Waves    []WaveEnd  `json:"waves,omitempty" doc:"The waves that are over"`
	Compared *Evidence  `json:"compared,omitempty" doc:"How devices with the release did beside the others"`
	LookedAt *time.Time `json:"lookedAt,omitempty" doc:"When they were last compared"`
}

// Evidence is how devices with the release did beside the others, so far.
type Evidence gate.Comparison

// WaveEnd is how a wave ended.
type WaveEnd struct {
	Wave    int               `json:"wave"`
	At      time.Time         `json:"at"`
	Outcome string            `json:"outcome" enum:"passed,failed,skipped,noData,empty"`
	By      string            `json:"by,omitempty" doc:"Who skipped it"`
	Census  link.UpdateCensus `json:"census" doc:"Of all devices it had reached"`
	Results []gate.Result     `json:"results,omitempty"`
}

// The outcomes of a wave.
const (
	Passed  = "passed"
	Failed  = "failed"
	Skipped = "skipped" // somebody did not want to wait
	NoData  = "noData"  // too few devices came to an end, and the policy lets that through
	Empty   = "empty"   // it reached no device that the release has something for
)

// Event is one thing that happened to a rollout.
type Event struct {
	At     time.Time `json:"at"`
	What   string    `json:"what"`
	Stamp  string    `json:"stamp,omitempty"`
	Wave   int       `json:"wave,omitempty"`
	By     string    `json:"by,omitempty"`
	Reason string    `json:"reason,omitempty"`
}

// maxLog is how much of what happened is kept.
const maxLog = 500

// Robot is who acts where nobody did.
const Robot = "slipway"

// Plan is what a rollout begins with.
type Plan struct {
	ID, Promotion, Environment string
	Release                    link.Release
	From                       string
	Policy                     resource.RolloutSpec
	Back                       bool
	By, Reason                 string
}

// Begin returns the rollout of a plan. One that leads back is everywhere at
// once.
func Begin(p Plan, stamps map[string]StampFacts, now time.Time) Rollout {
	r := Rollout{
		ID: p.ID, Promotion: p.Promotion, Environment: p.Environment, Release: p.Release.Name, Digest: p.Release.Digest, Kind: kindOf(p.Release), Class: classOf(p.Release),
		From: p.From, Back: p.Back, State: Running, Policy: p.Policy, CreatedAt: now, Stamps: []Stamp{},
	}
	r.log(Event{At: now, What: "begun", By: p.By, Reason: p.Reason})
	r.adopt(stamps)
	if p.Back {
		r.State, r.Ends, r.ReturnedAt = RollingBack, Succeeded, &now
		r.Cause = &Cause{By: p.By, Reason: p.Reason, At: now}
		for i := range r.Stamps {
			r.Stamps[i].State, r.Stamps[i].Base, r.Stamps[i].BeganAt = Back, p.Release.Name, &now
		}
	}
	return r
}

func kindOf(r link.Release) string {
	if r.Spec.Type == "" {
		return link.ReleaseFeature
	}
	return r.Spec.Type
}

func classOf(r link.Release) string {
	if r.Spec.Rollback == "" {
		return link.RollbackSafe
	}
	return r.Spec.Rollback
}

// log notes what happened; of a long history the beginning and the end stay.
func (r *Rollout) log(m Event) {
	if len(r.Log) >= maxLog {
		r.Log = slices.Delete(slices.Clone(r.Log), 1, 2)
	}
	r.Log = append(r.Log[:len(r.Log):len(r.Log)], m)
	r.Events++
}

// clone is a copy whose stamps can be changed.
func (r Rollout) clone() Rollout {
	r.Stamps = slices.Clone(r.Stamps)
	return r
}

// adopt takes in stamps that came meanwhile, and lets go of those deleted.
func (r *Rollout) adopt(stamps map[string]StampFacts) {
	for i := range r.Stamps {
		if _, there := stamps[r.Stamps[i].Name]; !there {
			r.Stamps[i].State = Gone
		}
	}
	for name, f := range stamps {
		at := slices.IndexFunc(r.Stamps, func(s Stamp) bool { return s.Name == name })
		if at >= 0 && r.Stamps[at].State != Gone {
			continue
		}
		fresh := Stamp{Name: name, Ring: f.Ring, State: Waiting}
		if at >= 0 {
			r.Stamps[at] = fresh // deleted, and declared again
			continue
		}
		r.Stamps = append(r.Stamps, fresh)
	}
	slices.SortFunc(r.Stamps, func(a, b Stamp) int {
		if a.Ring != b.Ring {
			return a.Ring - b.Ring
		}
		return compare(a.Name, b.Name)
	})
}

func compare(a, b string) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

// Reach is how far a rollout has come on a stamp in a wave, with all before.
func Reach(waves []resource.Wave, wave int) link.Reach {
	var reach link.Reach
	for _, w := range waves[:min(wave, len(waves))] {
		reach.Share = max(reach.Share, w.Share)
		reach.Count = max(reach.Count, w.Count)
		switch {
		case w.Where == "":
		case reach.Where == "":
			reach.Where = w.Where
		default:
			reach.Where = "(" + reach.Where + ") OR (" + w.Where + ")"
		}
	}
	return reach
}

// Returns reports whether the way back may be taken without anybody's word.
func (r Rollout) Returns() bool { return r.Class == link.RollbackSafe }

// refused says no to what somebody wants of a rollout in a state that does not
// let it.
func (r Rollout) refused(what string) error {
	return problem.New(problem.Conflict, "rollout %s is %s and cannot be %s", r.ID, r.State, what)
}
