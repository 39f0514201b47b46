package drift_test

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/slipway/slipway/internal/control/drift"
	"github.com/slipway/slipway/internal/resource"
)

var noon = time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC)

func raw(text string) json.RawMessage {
	if text == "" {
		return nil
	}
	return json.RawMessage(text)
}

// One subject at a time: what class its difference has.
func TestClasses(t *testing.T) {
	long := map[string]time.Time{}
	subject := func(declared, live string) drift.Subject {
		return drift.Subject{Environment: "live", Kind: "route", Object: "route/out on live-1", Declared: raw(declared), Live: raw(live), SeenAt: noon}
	}
	for _, f := range drift.Judge([]drift.Subject{subject(`{"a":1}`, `{"a":2}`), subject(`{"a":1}`, ""), subject("", `{"a":1}`)}, nil, nil, noon) {
		long[f.ID] = noon.Add(-time.Hour)
	}
	stale := subject(`{"a":1}`, `{"a":1}`)
	stale.SeenAt = noon.Add(-time.Hour)
	unseen := subject(`{"a":1}`, "")
	unseen.SeenAt, unseen.Unseen = time.Time{}, "it does not answer"
	fresh := subject(`{"a":1}`, `{"a":2}`)
	fresh.ChangedAt = noon.Add(-time.Second)
	for name, c := range map[string]struct {
		subject drift.Subject
		since   map[string]time.Time
		want    drift.Class
	}{
		"in order":      {subject(`{"a":1}`, `{"a":1.0}`), long, ""},
		"changed":       {subject(`{"a":1}`, `{"a":2}`), long, drift.Changed},
		"missing":       {subject(`{"a":1}`, ""), long, drift.Missing},
		"unmanaged":     {subject("", `{"a":1}`), long, drift.Unmanaged},
		"stale":         {stale, nil, drift.Pending}, // for as long as the grace, like all
		"not seen":      {unseen, map[string]time.Time{}, drift.Pending},
		"just declared": {fresh, long, drift.Pending},
		"just seen":     {subject(`{"a":1}`, `{"a":2}`), nil, drift.Pending},
	} {
		found := drift.Judge([]drift.Subject{c.subject}, nil, c.since, noon)
		if c.want == "" && len(found) == 0 {
			continue
		}
		if len(found) != 1 || found[0].Class != c.want || found[0].Text == "" {
			t.Errorf("%s: %+v", name, found)
		}
		if c.want != drift.Pending {
			continue
		}
		since := map[string]time.Time{found[0].ID: found[0].Since}
		later := c.subject
		later.SeenAt = c.subject.SeenAt
		if !later.SeenAt.IsZero() && name != "stale" {
			later.SeenAt = noon.Add(time.Minute)
		}
		if found = drift.Judge([]drift.Subject{later}, nil, since, noon.Add(time.Minute)); len(found) != 1 || !found[0].Class.Open() {
			t.Errorf("%s, a minute later: %+v", name, found)
		}
	}
}

// Somebody answers for a difference with the value it has, for a time: another
// value alarms, and so does the same one later.
func TestAcceptances(t *testing.T) {
	subject := drift.Subject{Environment: "live", Kind: "stamp", Object: "stamp/live-1", Declared: raw(`{"capacity":100,"region":"eu"}`), Live: raw(`{"capacity":50,"region":"eu"}`), SeenAt: noon}
	id := drift.Judge([]drift.Subject{subject}, nil, nil, noon)[0].ID
	since := map[string]time.Time{id: noon.Add(-time.Hour)}
	accepted := []drift.Acceptance{{Environment: "live", Object: "stamp/live-1", Path: "/capacity", Value: raw(`5e1`), Owner: "ann", Reason: "r", Until: noon.Add(time.Hour)}}
	found := drift.Judge([]drift.Subject{subject}, accepted, since, noon)
	if len(found) != 1 || found[0].Class != drift.Accepted || found[0].Was != drift.Changed || found[0].Acceptance.Owner != "ann" {
		t.Errorf("accepted: %+v", found)
	}
	subject.SeenAt = noon.Add(2 * time.Hour)
	if found = drift.Judge([]drift.Subject{subject}, accepted, since, noon.Add(2*time.Hour)); found[0].Class != drift.Changed || found[0].Acceptance == nil {
		t.Errorf("once its time is over: %+v", found)
	}
	subject.SeenAt, subject.Live = noon, raw(`{"capacity":40,"region":"eu"}`)
	if found = drift.Judge([]drift.Subject{subject}, accepted, since, noon); found[0].Class != drift.Changed || found[0].Acceptance != nil {
		t.Errorf("another value: %+v", found)
	}
	subject.Live = raw(`{"capacity":50,"region":"us"}`)
	if found = drift.Judge([]drift.Subject{subject}, accepted, since, noon); len(found) != 2 || found[0].Class == drift.Accepted && found[1].Class == drift.Accepted {
		t.Errorf("another place: %+v", found)
	}
}

func likeness(name, from string, release int64, areas string, differs ...resource.Differing) drift.Likeness {
	l := drift.Likeness{Environment: name, PromotesFrom: from, Blueprint: "solution", Release: release, Differs: differs, Areas: map[string]any{}}
	if whole, ok := drift.Document(json.RawMessage(areas)).(map[string]any); ok {
		l.Areas = whole
	}
	return l
}

// The score is what is equal or explained of what was compared; each reason is
// said.
func TestParity(t *testing.T) {
	const staging = `{"environment":{"access":"controlled","promotion":{"waivers":2}},"stamps":[{"name":"eu-1","capacity":100,"region":"eu"}],
		"release":{"names":["v2"]},"routes":[{"name":"out","spec":{"endpoint":{"webhook":{"url":"https://staging.example.com"}}}}],"limits":{"eu-1":{"connections":1000}}}`
	const production = `{"environment":{"access":"controlled","promotion":{"waivers":2}},"stamps":[{"name":"eu-1","capacity":10000,"region":"eu"}],
		"release":{"names":["v1"]},"routes":[{"name":"out","spec":{"endpoint":{"webhook":{"url":"https://example.com"}}}}],"limits":{"eu-1":{"connections":9000}}}`
	differs := []resource.Differing{
		{Path: "scale", Reason: "a hundredth"}, {Path: "routes[out].spec.endpoint.webhook.url", Reason: "its own back end"},
	}
	from, to := likeness("staging", "test", 2, staging, differs...), likeness("production", "staging", 1, production)
	r := drift.Parity(from, to, nil, noon)
	if r.Compared() != 9 || len(r.Items) != 4 || len(r.Unexplained()) != 1 || r.Unexplained()[0].Path != "limits.eu-1.connections" {
		t.Fatalf("%+v", r)
	}
	// Weights: environment 2×2, stamps 3×1, release 3, routes 2×2, limits 1.
	if r.Score != 14.0/15 {
		t.Errorf("score %g", r.Score)
	}
	for _, item := range r.Items {
		if item.Text == "" || item.Standing == drift.Explained && item.Reason == "" {
			t.Errorf("it does not say why: %+v", item)
		}
	}
	accepted := drift.Acceptance{Object: "parity/staging/production", Path: "limits.eu-1.connections", Value: raw(`[1000,9000]`), Owner: "ann", Reason: "a small machine", Until: noon.Add(time.Hour)}
	if r = drift.Parity(from, to, []drift.Acceptance{accepted}, noon); r.Score != 1 {
		t.Errorf("with somebody answering for it: %+v", r)
	}
	if r = drift.Parity(from, to, []drift.Acceptance{accepted}, noon.Add(2*time.Hour)); r.Score == 1 {
		t.Error("an acceptance counts though its time is over")
	}
	// A release that is older upstream is on no way.
	from.Release = 0
	if r = drift.Parity(from, to, []drift.Acceptance{accepted}, noon); len(r.Unexplained()) != 1 || r.Unexplained()[0].Area != "release" {
		t.Errorf("an older release upstream: %+v", r.Unexplained())
	}
	if same := drift.Parity(to, to, nil, noon); same.Score != 1 || len(same.Items) != 0 {
		t.Errorf("an environment is not like itself: %+v", same)
	}
	if nothing := drift.Parity(drift.Likeness{}, drift.Likeness{}, nil, noon); nothing.Score != 0 {
		t.Error("nothing compared is no likeness")
	}
}
