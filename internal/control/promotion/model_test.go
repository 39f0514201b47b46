package promotion_test

import (
	"reflect"
	"slices"
	"strconv"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/slipway/slipway/internal/control/gate"
	"github.com/slipway/slipway/internal/control/promotion"
	"github.com/slipway/slipway/internal/control/rollout"
)

// leastSteps is how many steps the model takes at least; `make models` has it
// take those of a million histories.
const leastSteps = 200_000

const perHistory = 80

// path are the environments of the model, each promoting from the one before.
var path = []string{"test", "staging", "production"}

// model is what the store and the world are to promotions, without either.
type model struct {
	t        *rapid.T
	now      time.Time
	all      []promotion.Promotion
	verdicts map[string]*promotion.Verification // the last, by environment and digest
	rejected map[string]*promotion.Rejection
	holds    map[string][]promotion.Hold
	waivers  map[string]*promotion.Waiver
	rollouts map[string]*rollout.Rollout
	signed   map[string]bool
	taken    int
	gates    gate.Verdict
	open     bool
	number   int
}

func TestPromotionModel(t *testing.T) {
	for taken := 0; taken < leastSteps; {
		rapid.Check(t, func(t *rapid.T) {
			m := &model{
				t: t, now: time.Unix(1_700_000_000, 0).UTC(), verdicts: map[string]*promotion.Verification{}, rejected: map[string]*promotion.Rejection{},
				holds: map[string][]promotion.Hold{}, waivers: map[string]*promotion.Waiver{}, rollouts: map[string]*rollout.Rollout{}, signed: map[string]bool{}, gates: gate.Pass, open: true,
			}
			for range perHistory {
				m.happen()
				m.look()
			}
			taken += m.taken
		})
		if t.Failed() {
			return
		}
	}
}

func (m *model) id(prefix string) string {
	m.number++
	return prefix + "-" + strconv.Itoa(m.number)
}

func upstream(environment string) string {
	if i := slices.Index(path, environment); i > 0 {
		return path[i-1]
	}
	return ""
}

// happen is one thing that people or the world do.
func (m *model) happen() {
	environment := rapid.SampledFrom(path).Draw(m.t, "environment")
	digest := rapid.SampledFrom([]string{"d1", "d2", "d3"}).Draw(m.t, "digest")
	key := environment + "/" + digest
	switch rapid.IntRange(0, 13).Draw(m.t, "what") {
	case 0, 1, 2, 3:
		m.start(environment, digest)
	case 4, 5, 6, 7:
		m.roll(environment)
	case 8:
		m.verdicts[key] = &promotion.Verification{Environment: environment, Digest: digest, By: "ada", Reason: "found wanting", At: m.now}
	case 9:
		m.waive(key, environment, digest)
	case 10:
		m.holds[environment] = nil
		if rapid.Bool().Draw(m.t, "hold") {
			m.holds[environment] = []promotion.Hold{{ID: m.id("hold"), Owner: "ada", All: rapid.Bool().Draw(m.t, "all"), At: m.now}}
		}
	case 11:
		m.gates = rapid.SampledFrom([]gate.Verdict{gate.Pass, gate.Pass, gate.Fail, gate.Inconclusive, gate.Error, gate.Pending, gate.Warn}).Draw(m.t, "gates")
		m.open = rapid.IntRange(0, 4).Draw(m.t, "frozen") > 0
	case 12:
		delete(m.rejected, key)
	case 13:
		m.now = m.now.Add(time.Hour)
	}
}

func (m *model) waive(key, environment, digest string) {
	w := &promotion.Waiver{ID: m.id("waiver"), Environment: environment, Digest: digest, By: "ada", At: m.now, Until: m.now.Add(2 * time.Hour), Needs: 1}
	w.Approvals = []promotion.Agreed{{By: rapid.SampledFrom([]string{"ada", "bob"}).Draw(m.t, "approver"), At: m.now}}
	if rapid.Bool().Draw(m.t, "unapproved") {
		w.Approvals = nil
	}
	m.waivers[key] = w
}

// start is what the store does with a new promotion.
func (m *model) start(environment, digest string) {
	for i := range m.all {
		p := &m.all[i]
		if p.Environment == environment && p.Digest == digest && !p.State.Over() {
			return
		}
	}
	for i := range m.all {
		if p := &m.all[i]; p.Environment == environment && p.State.Waits() {
			p.State = promotion.Superseded
		}
	}
	m.all = append(m.all, promotion.Promotion{
		ID: m.id("promotion"), Environment: environment, Upstream: upstream(environment), Digest: digest, Release: digest, State: promotion.Requested, By: "ada",
		Automatic: rapid.Bool().Draw(m.t, "automatic"), CreatedAt: m.now,
	})
}

// roll takes the rollout that runs in an environment somewhere it can go.
func (m *model) roll(environment string) {
	for _, p := range m.all {
		if p.Environment != environment || !p.State.Runs() {
			continue
		}
		r := m.rollouts[p.Rollout]
		next := map[rollout.State][]rollout.State{
			rollout.Running:     {rollout.Complete, rollout.Complete, rollout.Paused, rollout.RollingBack, rollout.Left},
			rollout.Paused:      {rollout.Running, rollout.RollingBack},
			rollout.Complete:    {rollout.RollingBack, rollout.Paused, rollout.Complete},
			rollout.RollingBack: {rollout.RolledBack, rollout.Aborted},
		}[r.State]
		if len(next) > 0 {
			r.State = rapid.SampledFrom(next).Draw(m.t, "rollout")
			r.Cause = &rollout.Cause{By: "slipway", Reason: string(r.State)}
		}
	}
}

func (m *model) facts(p promotion.Promotion) promotion.Facts {
	key := p.Environment + "/" + p.Digest
	f := promotion.Facts{
		Rejected: m.rejected[key], Holds: m.holds[p.Environment], Opening: gate.Opening{Open: m.open, Reason: "frozen"}, Rollout: m.rollouts[p.Rollout],
		Gates:  []gate.Result{{Gate: "tests", Verdict: m.gates, Reason: "as the model says", Samples: 1}},
		Verify: true, Verdicts: []gate.Result{{Gate: "verify", Verdict: m.gates, Reason: "as the model says", Samples: 1}}, VerifyWithin: time.Hour,
	}
	if p.Upstream != "" {
		f.Upstream = m.verdicts[p.Upstream+"/"+p.Digest]
	}
	if w := m.waivers[key]; w != nil && w.Valid(m.now) {
		f.Waiver = w
	}
	if !m.signed[key] {
		f.Signed = "it was not let in"
	}
	for _, other := range m.all {
		if other.Environment == p.Environment && other.State.Runs() && other.ID != p.ID {
			f.Busy = other.ID
		}
	}
	return f
}

// look steps every promotion once, and holds what came of it against what must
// be so.
func (m *model) look() {
	for i := range m.all {
		before, facts := m.all[i], m.facts(m.all[i])
		next, actions := promotion.Step(before, facts, m.now)
		m.taken++
		if before.State.Over() && (!reflect.DeepEqual(before, next) || len(actions) > 0) {
			m.t.Fatalf("%s was %s for good, and became %s", before.ID, before.State, next.State)
		}
		if slices.Contains(actions, promotion.StartRollout) {
			m.mayRun(before, facts, actions)
		}
		m.revoked(before, next, facts)
		for _, a := range actions {
			m.act(&next, facts, a)
		}
		m.all[i] = next
		if next.State == promotion.Blocked && len(next.Blocks) == 0 {
			m.t.Fatalf("%s is blocked, and nobody is told why", next.ID)
		}
		for _, b := range next.Blocks {
			if b.Rule == "" || b.Object == "" || b.Reason == "" {
				m.t.Fatalf("%s is kept by %+v", next.ID, b)
			}
		}
	}
	m.one()
}

// mayRun: only what was verified upstream by its latest verdict, or is waived
// by somebody other than who asked, enters; past a rejection, a freeze, a gate
// or another promotion nothing does.
func (m *model) mayRun(p promotion.Promotion, f promotion.Facts, actions []promotion.Action) {
	verified := p.Upstream == "" || f.Upstream != nil && f.Upstream.Passed
	waived := f.Waiver != nil && f.Waiver.UsedBy == "" && f.Waiver.Approvals[0].By != f.Waiver.By
	switch {
	case !verified && !(waived && slices.Contains(actions, promotion.UseWaiver)):
		m.t.Fatalf("%s runs, and was neither verified in %s nor waived", p.ID, p.Upstream)
	case f.Rejected != nil || !f.Opening.Open || f.Busy != "" || f.Signed != "":
		m.t.Fatalf("%s runs past %+v", p.ID, f)
	case !m.gates.Lets():
		m.t.Fatalf("%s runs past a gate that says %s", p.ID, m.gates)
	}
	for _, h := range f.Holds {
		if h.All || p.Automatic {
			m.t.Fatalf("%s runs past a hold", p.ID)
		}
	}
}

// revoked: what was eligible, and is not any more, ends.
func (m *model) revoked(before, next promotion.Promotion, f promotion.Facts) {
	if before.State.Waits() && before.Eligible && f.Upstream != nil && !f.Upstream.Passed && f.Waiver == nil && next.State != promotion.Aborted {
		m.t.Fatalf("%s is %s though its verification was revoked", next.ID, next.State)
	}
}

func (m *model) act(p *promotion.Promotion, f promotion.Facts, a promotion.Action) {
	key := p.Environment + "/" + p.Digest
	r := m.rollouts[p.Rollout]
	switch a {
	case promotion.StartRollout:
		p.Rollout = m.id("rollout")
		m.rollouts[p.Rollout] = &rollout.Rollout{ID: p.Rollout, State: rollout.Running}
	case promotion.UseWaiver:
		f.Waiver.UsedBy, f.Waiver.UsedAt = p.ID, &m.now
	case promotion.Admit:
		m.signed[key] = true
	case promotion.Withdraw:
		m.signed[key] = false
	case promotion.Confirm:
		if r.State != rollout.Complete || !m.gates.Lets() {
			m.t.Fatalf("%s was confirmed while its rollout was %s and its gates said %s", p.ID, r.State, m.gates)
		}
		r.State = rollout.Succeeded
	case promotion.FailRollout:
		if r.State != rollout.Complete {
			m.t.Fatalf("%s failed a rollout that was %s", p.ID, r.State)
		}
		r.State = rapid.SampledFrom([]rollout.State{rollout.RollingBack, rollout.Paused}).Draw(m.t, "onFailure")
	case promotion.Verified, promotion.Unverified:
		m.verdicts[key] = &promotion.Verification{Environment: p.Environment, Digest: p.Digest, Passed: a == promotion.Verified, At: m.now, By: "slipway", Reason: "x"}
		if a == promotion.Verified && p.State != promotion.Succeeded {
			m.t.Fatalf("%s is %s and counts as verified", p.ID, p.State)
		}
	case promotion.Reject:
		m.rejected[key] = &promotion.Rejection{Environment: p.Environment, Digest: p.Digest, By: "slipway", Reason: "x"}
	}
}

// one: at most one waits and one runs in each environment.
func (m *model) one() {
	waiting, running := map[string]int{}, map[string]int{}
	for _, p := range m.all {
		if p.State.Waits() {
			waiting[p.Environment]++
		}
		if p.State.Runs() {
			running[p.Environment]++
		}
	}
	for _, environment := range path {
		if waiting[environment] > 1 || running[environment] > 1 {
			m.t.Fatalf("%d wait for %s and %d run there", waiting[environment], environment, running[environment])
		}
	}
}

// TestTheRobotKeepsToItsPlace holds the robot's choice against what it must
// never do.
func TestTheRobotKeepsToItsPlace(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		promotionOr := func(label string) *promotion.Promotion {
			if rapid.Bool().Draw(t, label) {
				return nil
			}
			return &promotion.Promotion{
				Automatic: rapid.Bool().Draw(t, label+" automatic"), Counter: rapid.Int64Range(0, 3).Draw(t, label+" counter"),
				State: rapid.SampledFrom([]promotion.State{promotion.Blocked, promotion.Succeeded, promotion.RolledBack, promotion.Aborted, promotion.Superseded}).Draw(t, label+" state"),
			}
		}
		s := promotion.Sight{
			Automatic: rapid.Bool().Draw(t, "automatic"), Candidate: &promotion.Candidate{Counter: rapid.Int64Range(0, 3).Draw(t, "counter")}, Verified: rapid.Bool().Draw(t, "verified"),
			Current: rapid.Int64Range(0, 3).Draw(t, "current"), Waiting: promotionOr("waiting"), Last: promotionOr("last"), Rejected: rapid.Bool().Draw(t, "rejected"), Held: rapid.Bool().Draw(t, "held"),
		}
		if !promotion.Chooses(s) {
			return
		}
		if !s.Automatic || !s.Verified || s.Rejected || s.Held || s.Candidate.Counter <= s.Current || s.Waiting != nil && !s.Waiting.Automatic || s.Last != nil && s.Last.State != promotion.Superseded {
			t.Fatalf("the robot chose by %+v", s)
		}
	})
}
