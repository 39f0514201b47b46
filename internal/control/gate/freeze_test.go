package gate_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/slipway/slipway/internal/control/gate"
	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/resource"
)

func at(text string) time.Time {
	t, err := time.Parse(time.RFC3339, text)
	if err != nil {
		panic(err)
	}
	return t
}

var (
	weekends = resource.Freeze{Name: "weekends", Reason: "nobody is there", Start: "2026-01-02T16:00:00", Duration: "64h", RRule: "FREQ=WEEKLY;BYDAY=FR", Timezone: "Europe/Berlin", Exempt: []string{"security", "rollback"}}
	holidays = resource.Freeze{Name: "holidays", Reason: "the end of the year", Start: "2026-12-18T00:00:00", Duration: "17d"}
	office   = resource.Freeze{Name: "office", Reason: "people watch", Allow: true, Start: "2026-01-05T09:00:00", Duration: "8h", RRule: "FREQ=DAILY;BYDAY=MO,TU,WE,TH,FR", Timezone: "Europe/Berlin", Exempt: []string{"rollback"}}
)

func TestOpen(t *testing.T) {
	halt := gate.Halt{ID: "h", Reason: "an incident", Actor: "ann", At: at("2026-11-18T10:00:00Z"), Exempt: []string{"rollback"}}
	until := at("2026-11-18T13:00:00Z")
	short := halt
	short.Until = &until
	for name, c := range map[string]struct {
		now     string
		freezes []resource.Freeze
		halts   []gate.Halt
		work    string
		open    bool
		reason  string
		next    string
	}{
		"nothing declared":                  {now: "2026-11-18T12:00:00Z", open: true, reason: "no freeze"},
		"midweek":                           {now: "2026-11-18T12:00:00Z", freezes: []resource.Freeze{weekends}, open: true, reason: "no freeze", next: "2026-11-20T15:00:00Z"},
		"weekend":                           {now: "2026-11-21T12:00:00Z", freezes: []resource.Freeze{weekends}, reason: "weekends", next: "2026-11-23T07:00:00Z"},
		"weekend in summer":                 {now: "2026-07-17T14:00:00Z", freezes: []resource.Freeze{weekends}, reason: "weekends", next: "2026-07-20T06:00:00Z"},
		"just before it, in summer":         {now: "2026-07-17T13:59:59Z", freezes: []resource.Freeze{weekends}, open: true, reason: "no freeze", next: "2026-07-17T14:00:00Z"},
		"security on a weekend":             {now: "2026-11-21T12:00:00Z", freezes: []resource.Freeze{weekends}, work: resource.WorkSecurity, open: true, reason: "no freeze"},
		"a deny runs into the next":         {now: "2026-12-18T12:00:00Z", freezes: []resource.Freeze{weekends, holidays}, reason: "holidays", next: "2027-01-04T07:00:00Z"},
		"inside an allow":                   {now: "2026-11-18T12:00:00Z", freezes: []resource.Freeze{office}, open: true, reason: "office", next: "2026-11-18T16:00:00Z"},
		"outside every allow":               {now: "2026-11-18T20:00:00Z", freezes: []resource.Freeze{office}, reason: "outside", next: "2026-11-19T08:00:00Z"},
		"an allow does not bind the exempt": {now: "2026-11-18T20:00:00Z", freezes: []resource.Freeze{office}, work: resource.WorkRollback, open: true, reason: "no freeze"},
		"a deny wins over an allow":         {now: "2026-11-20T15:30:00Z", freezes: []resource.Freeze{office, weekends}, reason: "weekends", next: "2026-11-23T08:00:00Z"},
		"once, and over":                    {now: "2027-01-04T00:00:00Z", freezes: []resource.Freeze{holidays}, open: true, reason: "no freeze"},
		"halted":                            {now: "2026-11-18T12:00:00Z", halts: []gate.Halt{halt}, reason: "halted by ann"},
		"halted, but not the way back":      {now: "2026-11-18T12:00:00Z", halts: []gate.Halt{halt}, work: resource.WorkRollback, open: true},
		"halted for a while":                {now: "2026-11-18T12:00:00Z", halts: []gate.Halt{short}, reason: "an incident", next: "2026-11-18T13:00:00Z"},
		"a halt that has ended":             {now: "2026-11-18T13:00:00Z", halts: []gate.Halt{short}, open: true},
	} {
		if c.work == "" {
			c.work = resource.WorkRelease
		}
		got := gate.Open(at(c.now), c.freezes, c.halts, c.work)
		next := ""
		if got.Next != nil {
			next = got.Next.UTC().Format(time.RFC3339)
		}
		if got.Open != c.open || !strings.Contains(got.Reason, c.reason) || next != c.next {
			t.Errorf("%s: open %t until %s, as %s", name, got.Open, next, got.Reason)
		}
	}
	for spec, want := range map[*link.ReleaseSpec]string{{Type: link.ReleaseSecurity}: resource.WorkSecurity, {Type: link.ReleaseMixed}: resource.WorkRelease, {}: resource.WorkRelease} {
		if got := gate.WorkOf(link.Release{Spec: *spec}, false); got != want {
			t.Errorf("%s is %s, not %s", spec.Type, got, want)
		}
	}
	if gate.WorkOf(link.Release{Spec: link.ReleaseSpec{Type: link.ReleaseSecurity}}, true) != resource.WorkRollback {
		t.Error("the way back is a rollback, whatever the release is")
	}
}

// TestOpenHoldsItsWord takes calendars at random: until the next moment that
// is told, nothing changes, and then it does.
func TestOpenHoldsItsWord(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var freezes []resource.Freeze
		for i := range rapid.IntRange(0, 4).Draw(t, "freezes") {
			f := resource.Freeze{
				Name: fmt.Sprintf("f%d", i), Reason: "r", Allow: rapid.Bool().Draw(t, "allow"),
				Start:    fmt.Sprintf("20%02d-%02d-%02dT%02d:30:00", rapid.IntRange(20, 27).Draw(t, "year"), rapid.IntRange(1, 12).Draw(t, "month"), rapid.IntRange(1, 28).Draw(t, "day"), rapid.IntRange(0, 23).Draw(t, "hour")),
				Duration: resource.Span(fmt.Sprintf("%dh", rapid.IntRange(1, 200).Draw(t, "hours"))),
				RRule:    rapid.SampledFrom([]string{"", "FREQ=DAILY", "FREQ=DAILY;INTERVAL=3", "FREQ=WEEKLY;BYDAY=MO,FR", "FREQ=MONTHLY;BYMONTHDAY=-1", "FREQ=YEARLY;COUNT=3"}).Draw(t, "rule"),
				Timezone: rapid.SampledFrom([]string{"", "Europe/Berlin", "America/New_York", "Asia/Kolkata"}).Draw(t, "zone"),
			}
			if err := f.Check(); err != nil {
				t.Fatal(err)
			}
			freezes = append(freezes, f)
		}
		now := at("2026-03-28T12:00:00Z").Add(time.Duration(rapid.IntRange(0, 300*24*60).Draw(t, "minutes")) * time.Minute)
		here := gate.Open(now, freezes, nil, resource.WorkRelease)
		horizon := now.Add(30 * 24 * time.Hour)
		if here.Next != nil {
			if then := gate.Open(*here.Next, freezes, nil, resource.WorkRelease); then.Open == here.Open || !here.Next.After(now) {
				t.Fatalf("at %s it should change: %+v", here.Next, then)
			}
			horizon = here.Next.Add(-time.Second)
		}
		between := now.Add(time.Duration(rapid.Float64Range(0, 1).Draw(t, "between") * float64(horizon.Sub(now))))
		if then := gate.Open(between, freezes, nil, resource.WorkRelease); then.Open != here.Open {
			t.Fatalf("at %s it should be as at %s: %+v", between, now, then)
		}
	})
}

func TestFreezeCheck(t *testing.T) {
	for want, change := range map[string]func(*resource.Freeze){
		"daily or less":    func(f *resource.Freeze) { f.RRule = "FREQ=MINUTELY" },
		"rule alone":       func(f *resource.Freeze) { f.RRule = "DTSTART:20260101T000000Z\nRRULE:FREQ=DAILY" },
		"never comes":      func(f *resource.Freeze) { f.RRule = "FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=30" },
		"no time zone":     func(f *resource.Freeze) { f.Timezone = "Mars/Olympus" },
		"must read like":   func(f *resource.Freeze) { f.Start = "tomorrow" },
		"length of time":   func(f *resource.Freeze) { f.Duration = "-3h" },
		"say why":          func(f *resource.Freeze) { f.Reason = " " },
		"can be exempt":    func(f *resource.Freeze) { f.Exempt = []string{"friday"} },
		"recurrence rule":  func(f *resource.Freeze) { f.RRule = "FREQ=SOMETIMES" },
		"how long it last": func(f *resource.Freeze) { f.Duration = "" },
	} {
		f := weekends
		change(&f)
		if err := f.Check(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
	if err := weekends.Check(); err != nil {
		t.Error(err)
	}
}

func FuzzFreeze(f *testing.F) {
	f.Add("FREQ=WEEKLY;BYDAY=FR", "2026-01-02T16:00:00", "Europe/Berlin")
	f.Add("FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=30;BYSETPOS=-1", "2000-02-29T16:00:00", "")
	f.Fuzz(func(t *testing.T, rule, start, zone string) {
		freeze := resource.Freeze{Name: "f", Reason: "r", Start: start, Duration: "8h", RRule: rule, Timezone: zone}
		if freeze.Check() != nil {
			return
		}
		began := time.Now()
		gate.Open(at("2026-11-18T12:00:00Z"), []resource.Freeze{freeze}, nil, resource.WorkRelease)
		if took := time.Since(began); took > 2*time.Second {
			t.Errorf("%q from %s took %s", rule, start, took)
		}
	})
}

func BenchmarkOpen(b *testing.B) {
	for b.Loop() {
		gate.Open(at("2026-11-18T12:00:00Z"), []resource.Freeze{weekends, holidays, office}, nil, resource.WorkRelease)
	}
}
