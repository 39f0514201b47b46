package console

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/slipway/slipway/internal/control/monitor"
)

// chart is a plot as a page draws it: lines in a box of chartWidth by
// chartHeight, the values beside it, the times below.
type chart struct {
	ID, Title, Unit string
	Curves          []curve
	Ticks           []tick // of values, from the top
	Times           []string
	More            bool // there are more series than are drawn
	Empty           bool
	Problem         string
}

type curve struct {
	Name, Last string
	Hue        int
	Lines      []string // stretches without a gap
}

type tick struct {
	Y     float64
	Label string
}

const (
	chartWidth  = 600.0
	chartHeight = 160.0
)

// draw puts lines from left to right over a stretch of time. Where there was no
// value for several steps there is a gap.
func draw(id, title, unit string, lines []monitor.Line, from, to time.Time, step time.Duration) chart {
	c := chart{ID: id, Title: title, Unit: unit, Empty: true}
	low, high := 0.0, 0.0
	for _, l := range lines {
		for _, p := range l.Points {
			if !math.IsInf(p.Value, 0) {
				low, high, c.Empty = min(low, p.Value), max(high, p.Value), false
			}
		}
	}
	if high == low {
		high = low + 1
	}
	high = low + niceCeil(high-low)
	shared := common(lines)
	for i, l := range lines {
		one := curve{Name: nameOf(l.Labels, shared), Hue: i % 6, Last: "–"}
		var stretch strings.Builder
		var before time.Time
		for _, p := range l.Points {
			if math.IsInf(p.Value, 0) {
				continue
			}
			if !before.IsZero() && p.At.Sub(before) > 3*step {
				one.Lines = append(one.Lines, stretch.String())
				stretch.Reset()
			}
			x := p.At.Sub(from).Seconds() / to.Sub(from).Seconds() * chartWidth
			fmt.Fprintf(&stretch, "%.1f,%.1f ", x, chartHeight-(p.Value-low)/(high-low)*chartHeight)
			before, one.Last = p.At, valueIn(p.Value, unit)
		}
		if stretch.Len() > 0 {
			one.Lines = append(one.Lines, stretch.String())
		}
		c.Curves = append(c.Curves, one)
	}
	for i := range 5 {
		part := float64(i) / 4
		c.Ticks = append(c.Ticks, tick{part * chartHeight, valueIn(high-part*(high-low), unit)})
	}
	for i := range 5 {
		at := from.Add(to.Sub(from) / 4 * time.Duration(i)).UTC()
		layout := "15:04"
		if to.Sub(from) > 36*time.Hour {
			layout = "Jan 2"
		}
		c.Times = append(c.Times, at.Format(layout))
	}
	return c
}

// niceCeil is the next number of 1, 2, 2.5 or 5 times a power of ten.
func niceCeil(v float64) float64 {
	power := math.Pow(10, math.Floor(math.Log10(v)))
	for _, n := range []float64{1, 2, 2.5, 5, 10} {
		if v <= n*power {
			return n * power
		}
	}
	return v
}

// common are the labels that all lines have alike.
func common(lines []monitor.Line) map[string]string {
	if len(lines) < 2 {
		return nil
	}
	alike := maps.Clone(lines[0].Labels)
	for _, l := range lines[1:] {
		maps.DeleteFunc(alike, func(name, value string) bool { return l.Labels[name] != value })
	}
	return alike
}

// nameOf is what tells a line from the others.
func nameOf(labels, shared map[string]string) string {
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(labels)) {
		if _, alike := shared[name]; !alike && name != "job" && name != "instance" && name != "__name__" {
			parts = append(parts, labels[name])
		}
	}
	if len(parts) == 0 {
		parts = append(parts, orElse(labels["instance"], orElse(labels["__name__"], "all")))
	}
	return strings.Join(parts, " · ")
}

func orElse(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}

// valueIn writes a value in a unit.
func valueIn(v float64, unit string) string {
	switch {
	case unit == "s" && math.Abs(v) < 1:
		return figure(v*1000) + " ms"
	case unit == "s":
		return figure(v) + " s"
	case unit == "%":
		return figure(v*100) + " %"
	}
	return figure(v)
}
