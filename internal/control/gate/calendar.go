package gate

import (
	"time"

	"github.com/slipway/slipway/internal/resource"
)

// Opened is a stretch of time in which an environment takes releases, or not.
type Opened struct {
	From   time.Time `json:"from"`
	To     time.Time `json:"to"`
	Open   bool      `json:"open"`
	Reason string    `json:"reason"`
}

// OpenedBetween tells when, between two moments, the calendar alone lets an
// ordinary release in, without halts.
func OpenedBetween(freezes []resource.Freeze, from, to time.Time) ([]Opened, error) {
	c, err := calendarOf(from, freezes, resource.WorkRelease)
	if err != nil {
		return nil, err
	}
	var all []Opened
	for _, edge := range append([]time.Time{from}, c.edges(from)...) {
		if !edge.Before(to) {
			break
		}
		now := c.at(edge)
		if n := len(all); n > 0 {
			if all[n-1].Open == now.Open {
				continue
			}
			all[n-1].To = edge
		}
		all = append(all, Opened{From: edge, To: to, Open: now.Open, Reason: now.Reason})
	}
	return all, nil
}
