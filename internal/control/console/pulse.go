package console

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/slipway/slipway/internal/control/fleet"
)

const (
	pulseEvery = time.Second
	pulseSpan  = time.Minute // what a sparkline shows
	pulseFresh = 900 * time.Millisecond
)

// pulse is the overview as everybody who looks at it shares it: asked for at
// most once a second, however many look, and not at all when nobody does. It
// remembers the last minute of each stamp's message rate.
type pulse struct {
	ask func(ctx context.Context) ([]fleet.Level, error)

	mu     sync.Mutex
	at     time.Time
	levels []fleet.Level
	rates  map[string][]sample
}

type sample struct {
	at   time.Time
	rate float64
}

func newPulse(ask func(ctx context.Context) ([]fleet.Level, error)) *pulse {
	return &pulse{ask: ask, rates: map[string][]sample{}}
}

// beat returns the overview, at most a second old, and a sparkline for each
// stamp.
func (p *pulse) beat(ctx context.Context, now time.Time) ([]fleet.Level, map[string]spark, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if now.Sub(p.at) >= pulseFresh {
		levels, err := p.ask(ctx)
		if err != nil {
			return nil, nil, err
		}
		p.at, p.levels = now, levels
		p.remember(now)
	}
	sparks := make(map[string]spark, len(p.rates))
	for stamp, samples := range p.rates {
		sparks[stamp] = drawSpark(samples, now)
	}
	return p.levels, sparks, nil
}

func (p *pulse) remember(now time.Time) {
	known := map[string][]sample{}
	for _, level := range p.levels {
		for _, place := range level.Stamps {
			name := place.Metadata.Name
			kept := p.rates[name]
			for len(kept) > 0 && now.Sub(kept[0].at) > pulseSpan+pulseEvery {
				kept = kept[1:]
			}
			if place.Status != nil {
				kept = append(kept, sample{now, place.Status.Rate})
			}
			known[name] = kept
		}
	}
	p.rates = known
}

// spark is a sparkline: the points of a line and of the area under it, in a
// box of sparkWidth by sparkHeight.
type spark struct{ Line, Area string }

const (
	sparkWidth  = 120.0
	sparkHeight = 28.0
)

// drawSpark puts the last minute from left to right, now at the right edge,
// and the highest rate at the top.
func drawSpark(samples []sample, now time.Time) spark {
	if len(samples) < 2 {
		return spark{}
	}
	top := 1.0
	for _, s := range samples {
		top = max(top, s.rate)
	}
	var line strings.Builder
	first, last := 0.0, 0.0
	for i, s := range samples {
		x := sparkWidth - now.Sub(s.at).Seconds()/pulseSpan.Seconds()*sparkWidth
		y := sparkHeight - 2 - s.rate/top*(sparkHeight-4)
		fmt.Fprintf(&line, "%.1f,%.1f ", x, y)
		if i == 0 {
			first = x
		}
		last = x
	}
	points := strings.TrimSpace(line.String())
	return spark{Line: points, Area: fmt.Sprintf("%.1f,%.0f %s %.1f,%.0f", first, sparkHeight, points, last, sparkHeight)}
}
