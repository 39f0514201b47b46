package cli

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/slipway/slipway/internal/simfleet"
)

// runView is a simulation as a terminal shows it while it runs: how far it is,
// and the course of the last minute.
type runView struct {
	scenario string
	devices  int
	length   time.Duration
	course   []simfleet.Moment
	drawn    int // lines on the terminal
}

// viewWidth is how many seconds of the course are shown.
const viewWidth = 60

// add takes in the next moment.
func (v *runView) add(m simfleet.Moment) {
	if len(v.course) == viewWidth {
		v.course = slices.Delete(v.course, 0, 1)
	}
	v.course = append(v.course, m)
}

// lines is the view.
func (v *runView) lines(all simfleet.Stats) []string {
	now := v.course[len(v.course)-1]
	row := func(what, figure string, most float64, of func(simfleet.Moment) float64) string {
		values := make([]float64, len(v.course))
		for i, m := range v.course {
			values[i] = of(m)
		}
		return fmt.Sprintf("  %-11s %16s  %s", what, figure, sparks(values, most))
	}
	rate := func(what string, of func(simfleet.Moment) float64) string {
		return row(what, fmt.Sprintf("%.0f", of(now)), 0, of)
	}
	share := min(now.Second/v.length.Seconds(), 1)
	done := int(share * viewWidth)
	return []string{
		fmt.Sprintf("%s, %.0f s of %s", v.scenario, now.Second, v.length),
		fmt.Sprintf("  %-11s %16s  %s", "time", fmt.Sprintf("%.0f %%", share*100), strings.Repeat("━", done)+strings.Repeat("─", viewWidth-done)),
		row("connected", fmt.Sprintf("%d of %d", now.Connected, v.devices), float64(v.devices), func(m simfleet.Moment) float64 { return float64(m.Connected) }),
		rate("acked/s", func(m simfleet.Moment) float64 { return m.Acked }),
		rate("connects/s", func(m simfleet.Moment) float64 { return m.Connects }),
		rate("refused/s", func(m simfleet.Moment) float64 { return m.Refused }),
		fmt.Sprintf("  in all: %d registrations, %d connects, %d refusals, %d messages sent, %d acknowledged, %d dropped, %d errors",
			all.Provisioned, all.Connects, all.Refusals, all.Sent, all.Acked, all.Dropped, all.Errors),
	}
}

// frame is what a terminal is sent to show the view where it showed the last one.
func (v *runView) frame(all simfleet.Stats) string {
	var b strings.Builder
	if v.drawn > 0 {
		fmt.Fprintf(&b, "\x1b[%dA", v.drawn)
	}
	lines := v.lines(all)
	for _, line := range lines {
		b.WriteString("\r\x1b[K" + line + "\n")
	}
	v.drawn = len(lines)
	return b.String()
}

// sparks draws values as bars of one character each; most is the height of the
// highest, and 0 the highest there is.
func sparks(values []float64, most float64) string {
	const bars = "▁▂▃▄▅▆▇█"
	heights := []rune(bars)
	if most <= 0 {
		most = slices.Max(values)
	}
	var b strings.Builder
	for _, value := range values {
		at := 0
		if most > 0 {
			at = min(max(int(value/most*float64(len(heights)-1)+0.5), 0), len(heights)-1)
		}
		b.WriteRune(heights[at])
	}
	return b.String()
}
