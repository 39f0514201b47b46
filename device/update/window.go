package update

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// Window is a stretch of the week, by the clock on the wall, in which the
// device may install.
type Window struct {
	days     [7]bool // on which it begins
	from, to int     // minutes since midnight; it ends on the next day where to is not later
}

var weekdays = []string{"sun", "mon", "tue", "wed", "thu", "fri", "sat"}

// ParseWindow reads a window such as "mon-fri 22:00-04:00", "sat,sun
// 00:00-24:00" or "daily 01:30-05:00".
func ParseWindow(text string) (Window, error) {
	days, hours, found := strings.Cut(strings.TrimSpace(text), " ")
	from, to, dashed := strings.Cut(strings.TrimSpace(hours), "-")
	if !found || !dashed {
		return Window{}, fmt.Errorf("window %q is not like \"mon-fri 22:00-04:00\" or \"daily 01:30-05:00\"", clip(text))
	}
	var w Window
	var err error
	if w.days, err = parseDays(days); err == nil {
		w.from, err = parseMinute(from)
	}
	if err == nil {
		w.to, err = parseMinute(to)
	}
	if err == nil && (w.from == w.to || w.from == 24*60) {
		err = fmt.Errorf("it has no length")
	}
	if err != nil {
		return Window{}, fmt.Errorf("window %q: %w", clip(text), err)
	}
	return w, nil
}

func parseDays(text string) (days [7]bool, err error) {
	if text == "daily" {
		text = "sun-sat"
	}
	for part := range strings.SplitSeq(text, ",") {
		first, last, ranged := strings.Cut(part, "-")
		if !ranged {
			last = first
		}
		from, to := slices.Index(weekdays, first), slices.Index(weekdays, last)
		if from < 0 || to < 0 {
			return days, fmt.Errorf("%q is none of daily, %s", clip(part), strings.Join(weekdays, ", "))
		}
		for day := from; ; day = (day + 1) % 7 {
			days[day] = true
			if day == to {
				break
			}
		}
	}
	return days, nil
}

func parseMinute(text string) (int, error) {
	if text == "24:00" {
		return 24 * 60, nil
	}
	t, err := time.Parse("15:04", text)
	if err != nil {
		return 0, fmt.Errorf("%q is no time of day", clip(text))
	}
	return t.Hour()*60 + t.Minute(), nil
}

// Open reports whether a moment, in the device's time zone, is inside.
func (w Window) Open(t time.Time) bool {
	today, minute := int(t.Weekday()), t.Hour()*60+t.Minute()
	if w.from < w.to {
		return w.days[today] && minute >= w.from && minute < w.to
	}
	return w.days[today] && minute >= w.from || w.days[(today+6)%7] && minute < w.to
}

// open reports whether one of the windows is; without any it always is.
func open(windows []Window, t time.Time) bool {
	return len(windows) == 0 || slices.ContainsFunc(windows, func(w Window) bool { return w.Open(t) })
}
