package backup

import (
	"strings"
	"testing"
	"time"

	"github.com/slipway/slipway/internal/link"
)

var noon = time.Date(2026, 12, 20, 12, 0, 0, 0, time.UTC)

func ago(d time.Duration) *time.Time {
	at := noon.Add(-d)
	return &at
}

func TestWhenABackupIsDue(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		h      history
		paused bool
		want   bool
	}{
		"never":                          {h: history{}, want: true},
		"just now":                       {h: history{Kept: ago(time.Minute), Tried: ago(time.Minute)}},
		"long ago":                       {h: history{Kept: ago(15 * time.Minute), Tried: ago(15 * time.Minute)}, want: true},
		"long ago, paused":               {h: history{Kept: ago(time.Hour), Tried: ago(time.Hour)}, paused: true},
		"being taken":                    {h: history{Kept: ago(time.Hour), Tried: ago(time.Second), Taking: true}},
		"failed just now":                {h: history{Kept: ago(time.Hour), Tried: ago(30 * time.Second), Failures: 1}},
		"failed a minute ago":            {h: history{Kept: ago(time.Hour), Tried: ago(time.Minute), Failures: 1}, want: true},
		"failed three times, a bit ago":  {h: history{Kept: ago(time.Hour), Tried: ago(3 * time.Minute), Failures: 3}},
		"failed for days, a quarter ago": {h: history{Tried: ago(15 * time.Minute), Failures: 500}, want: true},
	} {
		s := defaultPlan
		s.Paused = c.paused
		if got := s.due(noon, c.h); got != c.want {
			t.Errorf("%s: due is %v", name, got)
		}
	}
}

func TestSchedulesThatPromiseTooMuchAreRefused(t *testing.T) {
	t.Parallel()
	for field, change := range map[string]func(*Schedule){
		"everySeconds":          func(s *Schedule) { s.EverySeconds = 59 },
		"drillSeconds":          func(s *Schedule) { s.DrillSeconds = 0 },
		"objectives.rtoSeconds": func(s *Schedule) { s.Objectives.RTOSeconds = 0 },
		"keep":                  func(s *Schedule) { s.Keep.Last = 0 },
		"cannot keep":           func(s *Schedule) { s.Objectives.RPOSeconds = 600 },
	} {
		s := defaultPlan
		if s.Check() != nil {
			t.Fatal("the usual schedule is refused")
		}
		if change(&s); s.Check() == nil {
			t.Errorf("%s: it is taken", field)
		}
	}
}

func TestDrillsBecomeDueAndEnd(t *testing.T) {
	t.Parallel()
	s := defaultPlan
	for name, c := range map[string]struct {
		newest *Drill
		want   bool
	}{
		"none":        {nil, true},
		"waits":       {&Drill{State: Due, CreatedAt: noon.Add(-48 * time.Hour)}, false},
		"runs":        {&Drill{State: Running, CreatedAt: noon.Add(-48 * time.Hour)}, false},
		"a day ago":   {&Drill{State: Ended, CreatedAt: noon.Add(-24 * time.Hour)}, true},
		"an hour ago": {&Drill{State: Ended, CreatedAt: noon.Add(-time.Hour)}, false},
	} {
		if got := s.drillDue(noon, c.newest); got != c.want {
			t.Errorf("%s: due is %v", name, got)
		}
	}
	for name, c := range map[string]struct {
		d     Drill
		ended bool
	}{
		"waits":              {Drill{State: Due, CreatedAt: *ago(time.Hour)}, false},
		"nobody came":        {Drill{State: Due, CreatedAt: *ago(24 * time.Hour)}, true},
		"runs":               {Drill{State: Running, HeardAt: ago(time.Minute)}, false},
		"fell silent":        {Drill{State: Running, HeardAt: ago(2 * time.Minute)}, true},
		"has ended long ago": {Drill{State: Ended, CreatedAt: *ago(1000 * time.Hour)}, false},
	} {
		next, changed := stepDrill(noon, c.d)
		if changed != c.ended || c.ended && (next.State != Ended || next.Verdict != link.Inconclusive || len(next.Reasons) == 0) {
			t.Errorf("%s: %v %+v", name, changed, next)
		}
	}
}

func shown() link.DrillEvidence {
	trial := link.Trial{Of: "newest", RTOSeconds: 40, RPOSeconds: 500, Destroyed: true}
	for _, name := range essential {
		trial.Checks = append(trial.Checks, link.DrillCheck{Name: name, Verdict: link.Pass})
	}
	return link.DrillEvidence{Trials: []link.Trial{trial}, Negative: link.DrillCheck{Verdict: link.Pass}}
}

func TestEvidenceIsJudged(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		change  func(*link.DrillEvidence)
		verdict string
		because string
	}{
		"all is well":            {func(*link.DrillEvidence) {}, link.Pass, ""},
		"nothing":                {func(e *link.DrillEvidence) { *e = link.DrillEvidence{} }, link.Inconclusive, "flipped"},
		"a check failed":         {func(e *link.DrillEvidence) { e.Trials[0].Checks[2].Verdict = link.Fail }, link.Fail, "rows"},
		"a check is missing":     {func(e *link.DrillEvidence) { e.Trials[0].Checks = e.Trials[0].Checks[1:] }, link.Inconclusive, "storage"},
		"a verdict is unknown":   {func(e *link.DrillEvidence) { e.Trials[0].Checks[0].Verdict = "fine" }, link.Inconclusive, "storage"},
		"a flipped bit passed":   {func(e *link.DrillEvidence) { e.Negative.Verdict = link.Fail }, link.Fail, "flipped"},
		"no flipped bit":         {func(e *link.DrillEvidence) { e.Negative = link.DrillCheck{} }, link.Inconclusive, "flipped"},
		"too slow":               {func(e *link.DrillEvidence) { e.Trials[0].RTOSeconds = 3601 }, link.Fail, "promised"},
		"too old":                {func(e *link.DrillEvidence) { e.Trials[0].RPOSeconds = 3601 }, link.Fail, "promised"},
		"the target is there":    {func(e *link.DrillEvidence) { e.Trials[0].Destroyed = false }, link.Fail, "still there"},
		"only an older moment":   {func(e *link.DrillEvidence) { e.Trials[0].Of = "older" }, link.Inconclusive, "newest"},
		"it broke off":           {func(e *link.DrillEvidence) { e.Failure = "no room" }, link.Inconclusive, "no room"},
		"failed and broke off":   {func(e *link.DrillEvidence) { e.Failure, e.Negative.Verdict = "no room", link.Fail }, link.Fail, "flipped"},
		"there is no device yet": {func(e *link.DrillEvidence) { e.Trials[0].Checks[6].Verdict = link.NothingToDo }, link.Pass, ""},
	} {
		e := shown()
		c.change(&e)
		verdict, reasons := judge(e, defaultPlan.Objectives)
		if verdict != c.verdict || !strings.Contains(strings.Join(reasons, "; "), c.because) || (verdict == link.Pass) != (len(reasons) == 0) {
			t.Errorf("%s: %s %v", name, verdict, reasons)
		}
	}
}
