package gate

import (
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/slipway/slipway/internal/resource"
)

// soak wants that a release ran well upstream for a time: only healthy time
// counts, and only what came after its verification.
func soak(now time.Time, gate resource.SoakGate, s Subject) Result {
	wanted := gate.For.Duration(0)
	r := Result{Threshold: ">= " + wanted.String(), Window: "since its verification"}
	if s.Upstream == "" {
		r.Verdict, r.Reason = Fail, fmt.Sprintf("%s promotes from no environment in which a release could have run", s.Environment)
		return r
	}
	if s.VerifiedAt == nil {
		r.Verdict, r.Reason = Pending, fmt.Sprintf("%s is not verified in %s", s.Release.Name, s.Upstream)
		return r
	}
	healthy, lasts, counted := healthyTime(now, *s.VerifiedAt, s.Ran)
	seconds := healthy.Seconds()
	r.Samples, r.Value, r.Evidence = int64(len(counted)), &seconds, evidenceOf(counted)
	switch {
	case healthy >= wanted && len(counted) > 0:
		r.Verdict, r.Reason = Pass, fmt.Sprintf("it ran well in %s for %s since its verification", s.Upstream, healthy.Round(time.Second))
	case lasts:
		done := now.Add(wanted - healthy)
		r.Verdict, r.Next = Pending, &done
		r.Reason = fmt.Sprintf("it has run well in %s for %s of %s since its verification; it may be enough at %s", s.Upstream, healthy.Round(time.Second), wanted, done.UTC().Format(time.RFC3339))
	default:
		r.Verdict, r.Reason = Pending, fmt.Sprintf("it ran well in %s for %s of %s since its verification, and was not seen to run well there lately", s.Upstream, healthy.Round(time.Second), wanted)
	}
	return r
}

// lately is how long ago a stretch may have ended that still lasts: its end is
// when somebody last looked.
const lately = 30 * time.Second

// healthyTime adds up the healthy stretches after a moment, none twice; lasts
// reports whether one goes on.
func healthyTime(now, from time.Time, ran []Stretch) (sum time.Duration, lasts bool, counted []Stretch) {
	ran = slices.Clone(ran)
	slices.SortFunc(ran, func(a, b Stretch) int { return a.From.Compare(b.From) })
	for _, one := range ran {
		end := one.To
		if end.IsZero() || end.After(now) {
			end = now
		}
		if now.Sub(end) <= lately {
			lasts = one.Healthy // of several the one that began last
		}
		begin := later(one.From, from)
		if !one.Healthy || !begin.Before(end) {
			continue
		}
		sum, from = sum+end.Sub(begin), end
		counted = append(counted, Stretch{From: begin, To: end, Healthy: true})
	}
	return sum, lasts, counted
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// evidenceOf is what a result rests on, as it is kept.
func evidenceOf(found any) json.RawMessage {
	text, err := json.Marshal(found)
	if err != nil {
		return nil
	}
	return text
}
