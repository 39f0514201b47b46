package tasks

import (
	"context"
	"time"
)

// Every calls fn on every tick until ctx ends. A call that takes longer than a
// tick leaves out those that came meanwhile.
func Every(ctx context.Context, every time.Duration, fn func()) error {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			fn()
		}
	}
}
