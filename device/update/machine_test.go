package update

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// model is a device on which everything may go wrong: what is on its disks,
// what runs, and what has been told. Its work is done by the state alone, in
// two halves between which power may fail.
type model struct {
	t       *rapid.T
	saved   []byte // the journal
	state   State
	facts   facts
	restart Restart
	now     time.Time

	slots   map[string]string // version that is made to start next, by software
	runs    map[string]string // version that runs
	good    map[string]bool   // versions that prove themselves, by release
	boot    int
	told    []Report
	orders  map[int64]Order
	highest int64

	withdrawn map[int64]bool
}

func (m *model) names() []string { return []string{"firmware", "app"} }

func (m *model) apply(e event) {
	before := m.state
	m.now = m.now.Add(time.Second)
	m.state = step(m.state, e, m.now, m.facts)
	text, err := json.Marshal(m.state)
	if err != nil {
		m.t.Fatal(err)
	}
	m.saved = text
	if before.Phase == Trial && m.state.Phase == Idle {
		m.t.Fatalf("from trial to idle at once")
	}
}

// crash is a loss of power: what is in memory is gone, and the journal and
// the slots decide what starts.
func (m *model) crash(fallBack bool) {
	s, err := ParseState(m.saved)
	if err != nil {
		m.t.Fatalf("journal %s: %v", m.saved, err)
	}
	m.state = s
	m.boot++
	if fallBack && m.restart != RestartService && (s.Phase == Armed || s.Phase == Trial) {
		for name, running := range s.Running {
			m.slots[name] = running.Version
		}
	}
	for name, version := range m.slots {
		m.runs[name] = version
	}
	m.apply(event{kind: onBooted, boot: m.bootID(), new: m.allNew()})
}

func (m *model) bootID() string {
	if m.restart == RestartService {
		return ""
	}
	return fmt.Sprint(m.boot)
}

func (m *model) allNew() bool {
	for _, c := range m.state.Changes() {
		if m.slots[c.Name] != c.Version {
			return false
		}
	}
	return m.state.Phase.begun()
}

// work does what the phase asks for; cut ends it halfway.
func (m *model) work(cut, fail bool) {
	s := m.state
	do := func(well kind, each func(c Software)) {
		for i, c := range s.Changes() {
			if cut && i > 0 {
				return
			}
			each(c)
		}
		if cut {
			return
		}
		if e := (event{kind: well, job: s.Job, boot: m.bootID(), counter: s.Order.Order, at: m.now}); fail {
			m.apply(event{kind: onFailed, job: s.Job, reason: "it went wrong"})
		} else {
			m.apply(e)
		}
	}
	nothing := func(Software) {}
	start := func(c Software) { m.runs[c.Name] = m.slots[c.Name] }
	switch s.Phase {
	case Offered:
		do(onChecked, nothing)
	case Downloading:
		do(onDownloaded, nothing)
	case Waiting:
		do(onOpened, nothing)
	case Preparing:
		do(onPrepared, nothing)
	case Installing:
		do(onSet, func(c Software) { m.slots[c.Name] = c.Version })
	case Armed:
		if m.restart != RestartService {
			m.crash(fail)
			return
		}
		do(onStarted, start)
	case Trial:
		fail = !m.good[s.Order.Release]
		do(onHealthy, nothing)
	case Committing:
		do(onCommitted, nothing)
	case Reverting:
		if fail {
			return // it is tried again
		}
		do(onUndone, func(c Software) { m.slots[c.Name] = s.Running[c.Name].Version })
	case Returning:
		if m.restart != RestartService && s.Tried {
			m.crash(false)
			return
		}
		fail = false
		do(onReturned, start)
	}
}

func (m *model) deliver() {
	if len(m.state.Outbox) == 0 {
		return
	}
	first := m.state.Outbox[0]
	m.told = append(m.told, first.Report)
	m.apply(event{kind: onDelivered, sequence: first.Sequence})
}

// settled holds whenever no order is worked on: what runs is what would start,
// and is what was confirmed, by a trial that it passed.
func (m *model) settled() {
	if m.state.Phase != Idle {
		return
	}
	for _, name := range m.names() {
		confirmed := m.state.Running[name].Version
		if m.slots[name] != confirmed || m.runs[name] != confirmed {
			m.t.Fatalf("%s: confirmed %s, starts %s, runs %s\n%s", name, confirmed, m.slots[name], m.runs[name], m.saved)
		}
		if confirmed != "factory" && !m.good[confirmed] {
			m.t.Fatalf("%s runs %s, which never proved itself", name, confirmed)
		}
	}
}

func TestTheMachineAlwaysEndsInWhatWasConfirmed(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := &model{
			t: t, facts: facts{"gw", 3, time.Hour}, restart: Restart(rapid.IntRange(0, 2).Draw(t, "restart")), now: time.Unix(1_700_000_000, 0),
			slots: map[string]string{"firmware": "factory", "app": "factory"}, runs: map[string]string{"firmware": "factory", "app": "factory"},
			good: map[string]bool{}, withdrawn: map[int64]bool{}, orders: map[int64]Order{}, saved: []byte("{}"),
		}
		m.state.Running = map[string]Installed{"firmware": {Version: "factory"}, "app": {Version: "factory"}}
		m.apply(event{kind: onConnected, hub: "hub"})
		steps := rapid.IntRange(20, 300).Draw(t, "steps")
		for range steps {
			switch rapid.SampledFrom([]string{"work", "work", "work", "work", "work", "work", "work", "work", "cut", "fail", "crash", "fall back", "fall back", "order", "order", "deliver", "connect", "stale", "withdraw"}).Draw(t, "next") {
			case "work":
				m.work(false, false)
			case "cut":
				m.work(true, false)
				m.crash(false)
			case "fail":
				m.work(false, true)
			case "crash":
				m.crash(false)
			case "fall back":
				m.crash(true)
			case "order":
				m.order()
			case "deliver":
				m.deliver()
			case "connect":
				m.apply(event{kind: onConnected, hub: "hub"})
			case "withdraw":
				if p := m.state.Phase; p != Idle && !p.begun() {
					m.withdrawn[m.state.Last] = true
				}
				m.apply(event{kind: onWithdrawn})
			case "stale":
				m.apply(event{kind: kind(rapid.IntRange(0, int(onReturned)).Draw(t, "kind")), job: m.state.Job - 1, hub: "another"}.staled())
			}
			m.settled()
		}
		for turns := 0; m.state.Phase != Idle; turns++ {
			if turns > 30 {
				t.Fatalf("it never ends: %s", m.saved)
			}
			m.work(false, false)
		}
		m.settled()
		for len(m.state.Outbox) > 0 {
			m.deliver()
		}
		m.truthful()
	})
}

// staled keeps to events that come of work on an order.
func (e event) staled() event {
	if e.kind <= onWithdrawn {
		e.kind = onChecked
	}
	return e
}

func (m *model) order() {
	m.highest++
	release := fmt.Sprint("v", m.highest)
	m.good[release] = rapid.Bool().Draw(m.t, "good")
	o := Order{Order: m.highest, Release: release, Environment: "test"}
	for _, name := range m.names() {
		o.Software = append(o.Software, Software{Name: name, Version: release, Artifacts: []Artifact{{File: "f", SHA256: fmt.Sprintf("%064x", m.highest)}}})
	}
	m.orders[m.highest] = o
	m.apply(event{kind: onOffer, hub: "hub", order: o})
}

// truthful judges what was told: how the last order ended fits what runs, no
// order ends twice in different ways, and nothing is confirmed that is not good.
func (m *model) truthful() {
	ended := map[int64]string{}
	for _, r := range m.told {
		if !r.final() {
			continue
		}
		if was, before := ended[r.Order]; before && was != r.Phase {
			m.t.Fatalf("order %d ended with %s and with %s", r.Order, was, r.Phase)
		}
		ended[r.Order] = r.Phase
		release := m.orders[r.Order].Release
		if confirmed := r.Phase == ReportConfirmed; confirmed != (r.Software["firmware"] == release) || confirmed && !m.good[release] {
			m.t.Fatalf("told %+v of release %s, good: %v", r, release, m.good[release])
		}
	}
	if last := m.state.Last; last > 0 && (ended[last] == "") != m.withdrawn[last] {
		m.t.Fatalf("nobody was told how order %d ended: %+v", last, m.told)
	}
	if len(m.told) > 0 {
		for name, version := range m.told[len(m.told)-1].Software {
			if version != m.runs[name] {
				m.t.Fatalf("told that %s %s runs, and %s does", name, version, m.runs[name])
			}
		}
	}
}

func TestAnotherHubCountsItsOwnOrders(t *testing.T) {
	f, now := facts{"gw", 3, time.Hour}, time.Unix(1, 0)
	order := func(n int64) Order {
		return Order{Order: n, Release: fmt.Sprint("v", n), Environment: "test", Software: []Software{{Name: "app", Version: fmt.Sprint("v", n), Artifacts: []Artifact{{File: "f"}}}}}
	}
	s := step(State{Running: map[string]Installed{"app": {Version: "v0"}}}, event{kind: onConnected, hub: "a"}, now, f)
	s = step(s, event{kind: onOffer, hub: "a", order: order(7)}, now, f)
	if s.Phase != Offered || s.Last != 7 {
		t.Fatalf("%+v", s)
	}
	moved := step(s, event{kind: onConnected, hub: "b"}, now, f)
	if moved.Phase != Idle || moved.Last != 0 || len(moved.Outbox) != 1 || moved.Outbox[0].Report.Order != 0 {
		t.Errorf("on another hub: %+v", moved)
	}
	if next := step(moved, event{kind: onOffer, hub: "b", order: order(2)}, now, f); next.Phase != Offered || next.Last != 2 {
		t.Errorf("its second order: %+v", next)
	}
	for _, k := range []kind{onChecked, onDownloaded, onOpened} {
		s = step(s, event{kind: k, job: s.Job, at: now}, now, f)
	}
	if s.Phase != Preparing {
		t.Fatalf("%+v", s)
	}
	if moved = step(s, event{kind: onConnected, hub: "b"}, now, f); moved.Phase != Preparing || moved.Outbox[0].Report.Order != 0 {
		t.Errorf("what has begun is brought to its end, and not told as the new hub's order: %+v", moved)
	}
}

func FuzzParseOrder(f *testing.F) {
	f.Add([]byte(`{"order":1,"release":"v1","environment":"test","software":[{"name":"a","version":"1","artifacts":[{"file":"f","size":1,"sha256":"` + fmt.Sprintf("%064x", 1) + `"}]}]}`))
	f.Add([]byte(`{"order":-1}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		o, err := ParseOrder(text)
		if err != nil {
			return
		}
		again, err := json.Marshal(o)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := ParseOrder(again); err != nil {
			t.Fatalf("%s is an order, %s is not: %v", text, again, err)
		}
	})
}

func FuzzParseState(f *testing.F) {
	f.Add([]byte(`{}`))
	f.Add([]byte(`{"phase":"trial","order":{"order":1,"release":"v1","environment":"test"}}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		s, err := ParseState(text)
		if err != nil {
			return
		}
		for _, k := range []kind{onBooted, onConnected, onFailed, onUndone, onReturned} { // no journal makes it panic
			s = step(s, event{kind: k, job: s.Job}, time.Unix(1, 0), facts{starts: 3})
		}
	})
}

func FuzzParseWindow(f *testing.F) {
	f.Add("mon-fri 22:00-04:00")
	f.Fuzz(func(t *testing.T, text string) {
		if w, err := ParseWindow(text); err == nil {
			w.Open(time.Unix(0, 0))
		}
	})
}
