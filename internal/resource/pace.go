package resource

import (
	"fmt"
	"time"

	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/problem"
)

// Pace is how often, and when, a stamp or the stamps of a tenant take releases.
// Those for security are not held back by it.
type Pace struct {
	Interval Span          `json:"interval,omitempty" doc:"The least time between one release and the next, such as 7d"`
	Delay    Span          `json:"delay,omitempty" doc:"How long after its rollout began a release may come at the earliest"`
	Limit    Span          `json:"limit,omitempty" doc:"How long a release may be held back at most; default 30d"`
	Windows  []Maintenance `json:"windows,omitempty" maxItems:"20" doc:"When a release may begin there, and its next wave; none is at any time"`
}

// Maintenance is a window, once or again and again, in which releases may come.
type Maintenance struct {
	Start    string `json:"start" maxLength:"19" doc:"When it begins first, in its time zone: 2026-01-03T22:00:00"`
	Duration Span   `json:"duration" doc:"How long it lasts, such as 4h"`
	RRule    string `json:"rrule,omitempty" maxLength:"500" doc:"When it comes again, as RFC 5545 says it: FREQ=WEEKLY;BYDAY=SA; none means once"`
	Timezone string `json:"timezone,omitempty" maxLength:"64" doc:"Such as Europe/Berlin; default UTC"`
}

// maxMaintenance is how many windows a pace has at most.
const maxMaintenance = 20

// Calendar is the windows as those of an environment's calendar, in which alone
// releases may come.
func (p Pace) Calendar() []Freeze {
	all := make([]Freeze, len(p.Windows))
	for i, m := range p.Windows {
		all[i] = Freeze{Name: fmt.Sprintf("window-%d", i+1), Reason: "maintenance", Allow: true, Start: m.Start, Duration: m.Duration, RRule: m.RRule, Timezone: m.Timezone}
	}
	return all
}

// DefaultPaceLimit is how long a release may be held back by a pace that does
// not say.
const DefaultPaceLimit = 30 * 24 * time.Hour

// Check holds a pace against its rules.
func (p *Pace) Check(field string) error {
	if p == nil {
		return nil
	}
	for _, one := range []struct {
		name string
		span Span
	}{{"interval", p.Interval}, {"delay", p.Delay}, {"limit", p.Limit}} {
		if err := one.span.check(field+"."+one.name, 0, maxSpan); err != nil {
			return err
		}
	}
	if len(p.Windows) > maxMaintenance {
		return problem.New(problem.Invalid, "at most %d windows, not %d", maxMaintenance, len(p.Windows)).At(field + ".windows")
	}
	return each(field+".windows", p.Calendar(), func(f Freeze) string { return f.Name }, Freeze.Check)
}

// Latest is until when a release may be held back.
func (p Pace) Latest(begun time.Time) time.Time {
	return begun.Add(p.Limit.Duration(DefaultPaceLimit))
}

// Binds reports whether releases of a kind keep to a pace.
func (p Pace) Binds(kind string) bool {
	return kind != link.ReleaseSecurity && kind != link.ReleaseMixed
}

// Earliest is when a release may come to a stamp at the earliest: last is when
// the one before came there, begun when the rollout began.
func (p Pace) Earliest(kind string, last, begun time.Time) time.Time {
	if !p.Binds(kind) {
		return begun
	}
	at := begun.Add(p.Delay.Duration(0))
	if next := last.Add(p.Interval.Duration(0)); !last.IsZero() && next.After(at) {
		at = next
	}
	if latest := p.Latest(begun); at.After(latest) {
		return latest
	}
	return at
}
