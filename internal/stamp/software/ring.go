package software

import (
	"crypto/sha256"
	"encoding/binary"
	"math"
)

// Place is where something stands on the ring, as its id decides.
func Place(id string) uint32 {
	sum := sha256.Sum256([]byte(id))
	return binary.BigEndian.Uint32(sum[:])
}

// Spot is where a device stands: devices at one place stand in order of id.
type Spot struct {
	Place    uint32 `json:"place"`
	DeviceID string `json:"deviceId"`
}

// Stretch is the part of the ring that a rollout reaches: from its start
// clockwise to the last device it was made for, that one too.
type Stretch struct {
	Start uint32 `json:"start"`
	Whole bool   `json:"whole,omitempty"` // all of the ring
	Last  *Spot  `json:"last,omitempty"`  // nil reaches nobody
}

// Holds reports whether a spot lies in the stretch.
func (s Stretch) Holds(at Spot) bool {
	switch {
	case s.Whole:
		return true
	case s.Last == nil:
		return false
	}
	return s.compare(at, *s.Last) <= 0
}

// compare says which of two spots comes first on the way from the start.
func (s Stretch) compare(a, b Spot) int {
	switch x, y := a.Place-s.Start, b.Place-s.Start; { // modulo 2^32, as the ring is
	case x < y:
		return -1
	case x > y:
		return 1
	case a.DeviceID < b.DeviceID:
		return -1
	case a.DeviceID > b.DeviceID:
		return 1
	}
	return 0
}

// Extended is the stretch that reaches as far as another one from the same
// start, and no less far than before.
func (s Stretch) Extended(to Stretch) Stretch {
	if s.Whole || to.Last == nil && !to.Whole {
		return s
	}
	if to.Whole || s.Last == nil || s.compare(*to.Last, *s.Last) > 0 {
		return Stretch{Start: s.Start, Whole: to.Whole, Last: to.Last}
	}
	return s
}

// section is a run of spots in order of place and id: from a place to below
// another, and no further than a spot where there is one.
type section struct {
	from, below int64
	upTo        *Spot
}

const ring = int64(1) << 32

// sections are the stretch as runs in order of place, the first reached first.
func (s Stretch) sections() []section {
	head, tail := section{from: int64(s.Start), below: ring}, section{below: int64(s.Start)}
	switch {
	case s.Whole:
		return []section{head, tail}
	case s.Last == nil:
		return nil
	case s.Last.Place >= s.Start:
		head.upTo = s.Last
		return []section{head}
	}
	tail.upTo = s.Last
	return []section{head, tail}
}

// Wanted is how many of a number of devices are reached by share and count.
func Wanted(share float64, count, devices int64) int64 {
	if !(share > 0) { // nor is it a number
		share = 0
	}
	exact := share * float64(devices)
	// A product such as 0.07 * 100 is a little above the number that is meant.
	if near := math.Round(exact); math.Abs(exact-near) < 1e-9*max(1, near) {
		exact = near
	}
	wanted := int64(math.Ceil(min(exact, float64(devices))))
	return min(max(wanted, count, 0), devices)
}
