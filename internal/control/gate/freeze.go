package gate

import (
	"fmt"
	"slices"
	"time"

	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/resource"
)

// Halt stops releases at once, in one environment or in all.
type Halt struct {
	ID          string     `json:"id"`
	Environment string     `json:"environment,omitempty" doc:"Empty is every environment"`
	Reason      string     `json:"reason"`
	Exempt      []string   `json:"exempt,omitempty" doc:"What it does not stop: security, rollback"`
	Actor       string     `json:"actor"`
	At          time.Time  `json:"at"`
	Until       *time.Time `json:"until,omitempty" doc:"When it ends by itself"`
	LiftedBy    string     `json:"liftedBy,omitempty"`
	LiftedAt    *time.Time `json:"liftedAt,omitempty"`
}

// ended reports whether a halt stops nothing any more.
func (h Halt) ended(now time.Time) bool {
	return h.LiftedAt != nil || h.Until != nil && !now.Before(*h.Until)
}

// Opening says whether an environment takes releases.
type Opening struct {
	Open   bool       `json:"open"`
	Reason string     `json:"reason" doc:"Which freeze or halt decides, and why"`
	Next   *time.Time `json:"next,omitempty" doc:"When that changes by the calendar; absent where a person decides, or nothing will"`
}

// WorkOf is what freezes and halts take a release for.
func WorkOf(release link.Release, rollback bool) string {
	switch {
	case rollback:
		return resource.WorkRollback
	case release.Spec.Type == link.ReleaseSecurity:
		return resource.WorkSecurity
	}
	return resource.WorkRelease
}

// Open says whether an environment takes some work now: no halt is on, no
// window forbids it, and where there are windows that allow, one does. A window
// that forbids wins over one that allows, and what a halt or a window exempts
// it does not stop. Halts are those of the environment and of all.
func Open(now time.Time, freezes []resource.Freeze, halts []Halt, work string) Opening {
	for _, h := range halts {
		if !h.ended(now) && !slices.Contains(h.Exempt, work) {
			return Opening{Reason: fmt.Sprintf("halted by %s since %s: %s", h.Actor, h.At.UTC().Format(time.RFC3339), h.Reason), Next: h.Until}
		}
	}
	calendar, err := calendarOf(now, freezes, work)
	if err != nil {
		// A declaration is checked before it is stored, so this is one of a
		// later version, or damaged. It opens nothing.
		return Opening{Reason: fmt.Sprintf("a freeze cannot be read: %s", err)}
	}
	opening := calendar.at(now)
	for _, edge := range calendar.edges(now) {
		if calendar.at(edge).Open != opening.Open {
			opening.Next = &edge
			break
		}
	}
	return opening
}

// horizon is how far ahead the next change is looked for.
const horizon = 400 * 24 * time.Hour

// calendar is every window that touches the time from now to the horizon.
type calendar struct {
	windows []window
	allowed bool // there are windows that allow, and they bind the work
}

// window is one occurrence of a freeze.
type window struct {
	from, to time.Time
	freeze   resource.Freeze
}

func calendarOf(now time.Time, freezes []resource.Freeze, work string) (c calendar, err error) {
	for _, f := range freezes {
		exempt := slices.Contains(f.Exempt, work)
		if exempt && !f.Allow {
			continue
		}
		c.allowed = c.allowed || f.Allow && !exempt
		rule, err := f.Rule()
		if err != nil {
			return c, fmt.Errorf("%s: %w", f.Name, err)
		}
		lasts := f.Duration.Duration(0)
		for _, from := range rule.Between(now.Add(-lasts), now.Add(horizon), true) {
			c.windows = append(c.windows, window{from, from.Add(lasts), f})
		}
	}
	return c, nil
}

// at is what the calendar says of one moment.
func (c calendar) at(t time.Time) Opening {
	reason, inside := "", false
	for _, w := range c.windows {
		if t.Before(w.from) || !t.Before(w.to) {
			continue
		}
		if !w.freeze.Allow {
			return Opening{Reason: fmt.Sprintf("frozen by %s until %s: %s", w.freeze.Name, w.to.UTC().Format(time.RFC3339), w.freeze.Reason)}
		}
		inside, reason = true, fmt.Sprintf("inside the window %s: %s", w.freeze.Name, w.freeze.Reason)
	}
	switch {
	case inside:
		return Opening{Open: true, Reason: reason}
	case c.allowed:
		return Opening{Reason: "outside every window in which releases may enter"}
	}
	return Opening{Open: true, Reason: "no freeze is on"}
}

// edges are the moments after t at which the calendar may change, in order, as
// far as it is known.
func (c calendar) edges(t time.Time) (all []time.Time) {
	for _, w := range c.windows {
		for _, edge := range []time.Time{w.from, w.to} {
			if edge.After(t) && edge.Before(t.Add(horizon)) {
				all = append(all, edge)
			}
		}
	}
	slices.SortFunc(all, time.Time.Compare)
	return slices.CompactFunc(all, time.Time.Equal)
}

// Calendar is when an environment takes releases.
type Calendar struct {
	Environment string `json:"environment"`
	Opening
	Freezes []resource.Freeze `json:"freezes"`
	Halts   []Halt            `json:"halts"`
	Windows []Window          `json:"windows" doc:"When freezes are on, from now on"`
}

// Window is one time that a freeze is on.
type Window struct {
	Freeze string    `json:"freeze"`
	Allow  bool      `json:"allow,omitempty"`
	Reason string    `json:"reason"`
	From   time.Time `json:"from"`
	To     time.Time `json:"to"`
}

const maxWindows = 100

// Windows are the times from now to a moment at which freezes are on, the
// first of them, in order.
func Windows(now, to time.Time, freezes []resource.Freeze) ([]Window, error) {
	c, err := calendarOf(now, freezes, resource.WorkRelease)
	if err != nil {
		return nil, err
	}
	all := []Window{}
	for _, w := range c.windows {
		if w.to.After(now) && w.from.Before(to) {
			all = append(all, Window{Freeze: w.freeze.Name, Allow: w.freeze.Allow, Reason: w.freeze.Reason, From: w.from.UTC(), To: w.to.UTC()})
		}
	}
	slices.SortStableFunc(all, func(a, b Window) int { return a.From.Compare(b.From) })
	return all[:min(len(all), maxWindows)], nil
}
