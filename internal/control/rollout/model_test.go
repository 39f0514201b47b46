package rollout_test

import (
	"encoding/json"
	"fmt"
	"reflect"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/slipway/slipway/internal/control/rollout"
	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/resource"
)

// leastSteps is how many steps the model takes at least; `make models` has it
// take those of a million histories.
const leastSteps = 30_000

// perHistory is how many steps one history has.
const perHistory = 60

// world is a rollout with stamps that do as they like.
type world struct {
	t         *rapid.T
	now       time.Time
	r         rollout.Rollout
	facts     rollout.Facts
	standings map[string]rollout.Standing
	bases     map[string]string // what each stamp ran before
	version   int64
	forced    bool // somebody said that it must go back
}

func TestRolloutModel(t *testing.T) {
	for taken := 0; taken < leastSteps; {
		rapid.Check(t, func(t *rapid.T) {
			w := newWorld(t)
			for range perHistory {
				w.step()
				taken++
			}
		})
		if t.Failed() {
			return
		}
	}
}

func newWorld(t *rapid.T) *world {
	w := &world{t: t, now: time.Unix(1_700_000_000, 0).UTC(), facts: rollout.Facts{}, standings: map[string]rollout.Standing{}, bases: map[string]string{}}
	for i := range rapid.IntRange(0, 5).Draw(t, "stamps") {
		w.declare(i)
	}
	spec := resource.RolloutSpec{
		OnFailure: rapid.SampledFrom([]string{"rollback", "pause"}).Draw(t, "onFailure"),
		Rings:     resource.RingSpec{AtOnce: rapid.IntRange(0, 3).Draw(t, "atOnce"), Pause: rapid.Bool().Draw(t, "pause"), Soak: rapid.SampledFrom([]resource.Span{"", "10m"}).Draw(t, "soak")},
		Waves:     []resource.Wave{{Share: 0.1, Soak: rapid.SampledFrom([]resource.Span{"", "5m"}).Draw(t, "waveSoak")}, {Share: 0.5}},
		OnNoData:  rapid.SampledFrom([]resource.NoData{"", "fail", "pass-with-reason"}).Draw(t, "noData"),
		Health:    &resource.WaveHealth{MaxFailures: 0.1, MinDevices: 5},
		Patience:  "2h",
	}
	release := link.Release{Name: "v2", Digest: "d2", Spec: link.ReleaseSpec{Rollback: rapid.SampledFrom([]string{"", "safe", "forward-only", "needs-restore"}).Draw(t, "class")}}
	back := rapid.IntRange(0, 9).Draw(t, "back") == 0
	w.keep(rollout.Begin(rollout.Plan{ID: "rollout-1", Promotion: "promotion-1", Environment: "production", Release: release, Policy: spec.Whole(false), Back: back, By: "ada"}, w.facts, w.now))
	return w
}

func (w *world) declare(i int) {
	name := fmt.Sprintf("stamp-%d", i)
	base := rapid.SampledFrom([]string{"v1", "v0", ""}).Draw(w.t, "base")
	w.version++
	w.standings[name] = rollout.Standing{Stamp: name, Environment: "production", Version: w.version, Base: base}
	w.bases[name] = base
	w.facts[name] = rollout.StampFacts{Ring: rapid.IntRange(0, 2).Draw(w.t, "ring"), Base: base, Version: w.version, SeenAt: w.now}
}

// keep is what a store does with a rollout: the standings follow it.
func (w *world) keep(next rollout.Rollout) {
	for name, s := range w.standings {
		before := document(s, w.r)
		after := rollout.Settle(s, next)
		if document(after, next) != before {
			w.version++
			after.Version = w.version
		}
		w.standings[name] = after
		f := w.facts[name]
		f.Version = after.Version
		w.facts[name] = f
	}
	w.r = next
}

// document is what a stamp is told, without its version.
func document(s rollout.Standing, r rollout.Rollout) string {
	s.Version = 0
	doc := rollout.Document(s, &r, func(name string) *link.Release { return &link.Release{Name: name} })
	text := ""
	if doc.Base != nil {
		text = doc.Base.Name
	}
	if doc.Rollout != nil {
		text += fmt.Sprintf("|%s %d %v %v", doc.Rollout.Release.Name, doc.Rollout.Wave, doc.Rollout.Paused, doc.Rollout.Reach)
	}
	return text
}

func (w *world) step() {
	switch rapid.IntRange(0, 9).Draw(w.t, "what") {
	case 0, 1, 2, 3:
		w.report()
	case 4:
		w.command()
	case 5:
		if i := rapid.IntRange(0, 6).Draw(w.t, "stamp"); rapid.IntRange(0, 3).Draw(w.t, "gone") == 0 {
			delete(w.facts, fmt.Sprintf("stamp-%d", i))
			delete(w.standings, fmt.Sprintf("stamp-%d", i))
		} else if _, there := w.facts[fmt.Sprintf("stamp-%d", i)]; !there {
			w.declare(i)
		}
	default:
		w.now = w.now.Add(time.Duration(rapid.SampledFrom([]int{1, 20, 400, 4000, 9000}).Draw(w.t, "seconds")) * time.Second)
	}
	w.look()
}

// report has a stamp tell how its devices do; sometimes of an older document.
func (w *world) report() {
	name := fmt.Sprintf("stamp-%d", rapid.IntRange(0, 6).Draw(w.t, "stamp"))
	f, there := w.facts[name]
	if !there {
		return
	}
	doc := rollout.Document(w.standings[name], &w.r, func(name string) *link.Release { return &link.Release{Name: name} })
	p := &link.Progress{Version: doc.Version, Complete: rapid.IntRange(0, 4).Draw(w.t, "complete") > 0}
	if rapid.IntRange(0, 9).Draw(w.t, "old") == 0 {
		p.Version--
	}
	count := func(label string) int64 { return int64(rapid.IntRange(0, 12).Draw(w.t, label)) }
	failed := int64(0)
	if rapid.IntRange(0, 5).Draw(w.t, "bad") == 0 {
		failed = count("failed")
	}
	c := link.UpdateCensus{Updated: count("updated"), Failed: failed, Unreachable: count("unreachable")}
	if rapid.Bool().Draw(w.t, "busy") {
		c.Pending = count("pending")
	}
	p.Devices = c
	if doc.Rollout != nil {
		p.Rollout, p.Wave, p.Reached, p.WaveOnly = doc.Rollout.ID, doc.Rollout.Wave, c, c
		if rapid.IntRange(0, 29).Draw(w.t, "halts") == 0 {
			p.Halted = "too many failed"
		}
	}
	f.Progress, f.SeenAt = p, w.now
	if f.Shut = (time.Time{}); rapid.IntRange(0, 4).Draw(w.t, "shuts") == 0 {
		f.Shut, f.ShutBy = w.now.Add(time.Hour), "its windows"
	}
	w.facts[name] = f
}

func (w *world) command() {
	word := rollout.Word{By: "ada", Reason: "because"}
	var next rollout.Rollout
	var err error
	what := rapid.IntRange(0, 6).Draw(w.t, "command")
	switch what {
	case 0:
		next, err = rollout.Pause(w.r, word, w.now)
	case 1, 2:
		next, err = rollout.Resume(w.r, word, w.now)
	case 3:
		next, err = rollout.Skip(w.r, "", w.facts, word, w.now)
	case 4:
		if rapid.IntRange(0, 4).Draw(w.t, "really") > 0 {
			return
		}
		force := rapid.Bool().Draw(w.t, "force")
		if next, err = rollout.Abort(w.r, word, force, w.now); err == nil {
			w.forced = true
		}
	case 5:
		if rapid.IntRange(0, 9).Draw(w.t, "really") > 0 {
			return
		}
		next, err = rollout.Leave(w.r, word, w.now)
	case 6:
		if next, err = rollout.Confirm(w.r, w.now); rapid.Bool().Draw(w.t, "unverified") {
			next, err = rollout.Fail(w.r, "it is slow", w.now)
		}
	}
	if err != nil {
		return
	}
	if w.r.State.Over() {
		w.t.Fatalf("command %d changed a rollout that was %s", what, w.r.State)
	}
	w.keep(next)
}

// look steps the rollout, and holds what came of it against what must be so.
func (w *world) look() {
	before, failing := w.r, w.failing()
	text, _ := json.Marshal(before)
	next := rollout.Step(before, w.facts, w.now)
	if again, _ := json.Marshal(before); string(again) != string(text) {
		w.t.Fatalf("a step changed what it was given")
	}
	if before.State.Over() && !reflect.DeepEqual(before, next) {
		w.t.Fatalf("%s is for good, and became %s", before.State, next.State)
	}
	w.keep(next)
	w.inOrder(before, next)
	w.stopped(before, next, failing)
	w.wentBack(next)
}

// failing is whether a stamp tells of a wave that has failed.
func (w *world) failing() bool {
	for _, s := range w.r.Stamps {
		f, there := w.facts[s.Name]
		if !there || s.State != rollout.Moving && s.State != rollout.Done || f.Progress == nil || f.Progress.Rollout != w.r.ID || f.Progress.Wave != s.Wave || f.Progress.Version < f.Version || w.now.Sub(f.SeenAt) >= 30*time.Second {
			continue
		}
		c := f.Progress.WaveOnly
		if f.Progress.Halted != "" || c.Attempted() >= 5 && float64(c.Failures()) > 0.1*float64(c.Attempted()) {
			return true
		}
	}
	return false
}

// inOrder: rings one after another, and no more stamps at once than may be.
func (w *world) inOrder(before, next rollout.Rollout) {
	moving := 0
	for _, s := range next.Stamps {
		if s.State != rollout.Moving {
			continue
		}
		if s.Wave > find(before, s.Name).Wave && w.now.Before(w.facts[s.Name].Shut) {
			w.t.Fatalf("%s began wave %d while its windows were shut", s.Name, s.Wave)
		}
		if moving++; find(before, s.Name).State == rollout.Moving {
			continue
		}
		for _, other := range next.Stamps {
			if other.Ring < s.Ring && other.State != rollout.Done && other.State != rollout.Gone {
				w.t.Fatalf("%s of ring %d began while %s of ring %d was %s", s.Name, s.Ring, other.Name, other.Ring, other.State)
			}
		}
	}
	if moving > next.Policy.Rings.AtOnce {
		w.t.Fatalf("%d stamps are under way, and %d may be", moving, next.Policy.Rings.AtOnce)
	}
}

// stopped: after a failed verdict nothing begins, and nothing goes back by
// itself that must not.
func (w *world) stopped(before, next rollout.Rollout, failing bool) {
	if before.State != rollout.Running && before.State != rollout.Complete {
		return
	}
	if failing && next.State != rollout.RollingBack && next.State != rollout.Paused && !next.State.Over() {
		w.t.Fatalf("a wave had failed, and the rollout is %s", next.State)
	}
	if failing {
		for _, s := range next.Stamps {
			if was := find(before, s.Name); s.Wave > was.Wave {
				w.t.Fatalf("%s went on to wave %d after a failure", s.Name, s.Wave)
			}
		}
	}
	if next.State == rollout.RollingBack && (before.Class != "safe" || before.Policy.OnFailure == "pause") {
		w.t.Fatalf("a release that is %s with onFailure %s went back by itself", before.Class, before.Policy.OnFailure)
	}
}

// wentBack: once it goes back, every stamp is told what it ran before, and it
// does nothing else any more.
func (w *world) wentBack(next rollout.Rollout) {
	goes := next.State == rollout.RollingBack || next.State == rollout.RolledBack || next.State == rollout.Aborted
	if !goes {
		return
	}
	if next.Back && next.State != rollout.RollingBack {
		w.t.Fatalf("the way back was itself %s", next.State)
	}
	for name, s := range w.standings {
		want := w.bases[name]
		if next.Back && find(next, name).Name != "" {
			want = next.Release
		}
		if s.Rollout != "" || s.Base != want {
			w.t.Fatalf("%s is to run base %q and rollout %q, and ran %q before", name, s.Base, s.Rollout, want)
		}
	}
}

func find(r rollout.Rollout, name string) rollout.Stamp {
	for _, s := range r.Stamps {
		if s.Name == name {
			return s
		}
	}
	return rollout.Stamp{}
}
