package retry

import "time"

// Phase spreads periodic work: the part of a period by which this device's
// work is shifted against all others'.
func Phase(device string, period time.Duration) time.Duration {
	if period <= 0 {
		return 0
	}
	return time.Duration(Seed(device, 0).Int64N(int64(period)))
}

// Next is how long after now the device's periodic work is due: more than
// nothing and at most a period. It depends on the clock and the device alone,
// so neither a reboot nor an outage nor a new period makes devices fall in step.
func Next(device string, period time.Duration, now time.Time) time.Duration {
	if period <= 0 {
		return 0
	}
	ahead := (Phase(device, period) - time.Duration(now.UnixNano())) % period
	if ahead <= 0 {
		ahead += period
	}
	return ahead
}
