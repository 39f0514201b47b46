package fleet

import (
	"context"
	"fmt"
	"math"

	"github.com/slipway/slipway/internal/link"
)

// Capacity is how much room an environment has, and how long that lasts.
type Capacity struct {
	Environment string   `json:"environment"`
	Stamps      int      `json:"stamps" doc:"Stamps that take devices"`
	Places      int      `json:"places" doc:"Places on them"`
	Taken       int      `json:"taken" doc:"Places on them that are taken"`
	Waiting     int      `json:"waiting" doc:"Devices without a place"`
	Free        float64  `json:"free" doc:"Share of the places that is free, 0 to 1"`
	PerDay      float64  `json:"perDay" doc:"Devices that came each day, over the last seven"`
	FullIn      *float64 `json:"fullInDays,omitempty" doc:"Days until every place is taken, at that growth; absent: it does not grow"`
	Advice      []Advice `json:"advice"`
}

// Lasts is how long the room lasts, in words; empty where it does not shrink.
func (c Capacity) Lasts() string {
	const year = 365
	switch {
	case c.FullIn == nil:
		return ""
	case *c.FullIn >= 2*year:
		return fmt.Sprintf("%.0f years", *c.FullIn/year)
	}
	return fmt.Sprintf("%.0f days", *c.FullIn)
}

// Advice is something to do about an environment's room.
type Advice struct {
	Severity string `json:"severity" enum:"note,warn,bad"`
	Says     string `json:"says"`
	Remedy   string `json:"remedy"`
}

// When room is scarce: shares of the places, and days.
const (
	scarce   = 0.2
	soonFull = 30.0
)

// Capacity returns every environment's room, in order of promotion.
func (f *Fleet) Capacity(ctx context.Context) ([]Capacity, error) {
	levels, err := f.Overview(ctx)
	if err != nil {
		return nil, err
	}
	environments, err := f.environments.List(ctx)
	if err != nil {
		return nil, err
	}
	counts, err := provisioningAsk(ctx, f, link.RegistrationCount, link.None{})
	if err != nil {
		return nil, err
	}
	growth := map[string]int{}
	for _, c := range counts.LastWeek {
		growth[c.Environment] = c.Count
	}
	all := make([]Capacity, len(levels))
	for i, level := range levels {
		// What nothing promotes to is where things are tried, and may stand still.
		all[i] = assess(level, float64(growth[level.Name])/7, environments[i].Spec.PromotesFrom != "")
	}
	return all, nil
}

// assess works out an environment's room; serious says that its loss matters.
func assess(level Level, perDay float64, serious bool) Capacity {
	c := Capacity{Environment: level.Name, Waiting: level.Waiting, PerDay: perDay, Advice: []Advice{}}
	for _, s := range level.Stamps {
		if s.Spec.State == link.StampOpen {
			c.Stamps++
			c.Places += s.Spec.Capacity
			c.Taken += s.Status.Assigned
		}
	}
	left := max(c.Places-c.Taken, 0)
	if c.Places > 0 {
		c.Free = float64(left) / float64(c.Places)
	}
	if perDay > 0 {
		days := math.Round(float64(left)/perDay*10) / 10
		c.FullIn = &days
	}
	advise := func(severity, remedy, format string, args ...any) {
		c.Advice = append(c.Advice, Advice{severity, fmt.Sprintf(format, args...), remedy})
	}
	const add = "declare another stamp with slipway apply, raise spec.capacity where the machine carries more, or let the environment grow by itself (spec.growth)"
	switch {
	case c.Stamps == 0:
		advise("bad", add, "no stamp takes devices")
	case left == 0:
		advise("bad", add, "every place is taken, and %d devices wait", c.Waiting)
	case c.FullIn != nil && *c.FullIn < soonFull:
		advise("warn", add, "full in %.0f days at %.1f new devices a day", *c.FullIn, perDay)
	case c.Free < scarce:
		advise("warn", add, "%.0f %% of the places are free", c.Free*100)
	}
	if serious && c.Stamps == 1 {
		advise("warn", "declare a second stamp, so that half of the devices go on when one is lost and one can be upgraded before the other", "all devices are on one stamp")
	}
	return c
}
