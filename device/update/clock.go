package update

import (
	"runtime/debug"
	"sync"
	"time"
)

// clock is what the device takes for the time when it asks whether signed
// metadata has expired: the latest of what it knows. Its own clock may have
// stood still, so a time at which signed metadata was valid, the time the
// program was built, and the time its hub told over TLS count as well. What a
// hub tells is forgotten with the process: it may make a device refuse, not
// accept, and not for good.
type clock struct {
	system func() time.Time
	built  time.Time

	mu     sync.Mutex
	told   time.Time // by the hub
	toldAt time.Time // by a clock that only goes on
}

func newClock(system func() time.Time) *clock { return &clock{system: system, built: buildTime()} }

// now is the latest of the times, and of one that has been.
func (c *clock) now(been time.Time) time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	latest := c.system()
	for _, t := range []time.Time{been, c.built} {
		if t.After(latest) {
			latest = t
		}
	}
	if !c.told.IsZero() {
		if t := c.told.Add(time.Since(c.toldAt)); t.After(latest) {
			latest = t
		}
	}
	return latest
}

func (c *clock) hear(t time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.told, c.toldAt = t, time.Now()
}

// buildTime is that of the commit the program is made of; zero: not known.
func buildTime() time.Time {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return time.Time{}
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.time" {
			if t, err := time.Parse(time.RFC3339, s.Value); err == nil {
				return t
			}
		}
	}
	return time.Time{}
}
