package ddi

import (
	"strings"
	"time"

	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/problem"
)

// window is when a software may be installed, each day from one time to
// another, which may be on the next day.
type window struct {
	from, to time.Duration // since midnight
	zone     *time.Location
}

// parseWindow reads "22:00-04:00 Europe/Berlin"; without a place it is UTC.
func parseWindow(text string) (w window, err error) {
	hours, place, _ := strings.Cut(strings.TrimSpace(text), " ")
	from, to, found := strings.Cut(hours, "-")
	w.from, err = timeOfDay(from)
	if err == nil {
		w.to, err = timeOfDay(to)
	}
	if err != nil || !found {
		return w, problem.New(problem.Invalid, `a window reads "22:00-04:00 Europe/Berlin", not %q`, text)
	}
	if w.zone, err = time.LoadLocation(strings.TrimSpace(place)); err != nil {
		return w, problem.New(problem.Invalid, "no time zone is known as %q", place)
	}
	return w, nil
}

func timeOfDay(text string) (time.Duration, error) {
	t, err := time.Parse("15:04", text)
	return time.Duration(t.Hour())*time.Hour + time.Duration(t.Minute())*time.Minute, err
}

// open reports whether a moment is in the window.
func (w window) open(now time.Time) bool {
	at, err := timeOfDay(now.In(w.zone).Format("15:04"))
	if err != nil {
		return false
	}
	if w.from <= w.to {
		return w.from <= at && at < w.to
	}
	return w.from <= at || at < w.to
}

// openFor reports whether all of an order may be installed now. A window that
// cannot be read is closed, and the failure says why.
func openFor(o link.UpdateOrder, now time.Time) (bool, error) {
	for _, s := range o.Software {
		text := s.Metadata[metaWindow]
		if text == "" {
			continue
		}
		w, err := parseWindow(text)
		if err != nil || !w.open(now) {
			return false, err
		}
	}
	return true, nil
}
