package resource

import "github.com/slipway/slipway/internal/problem"

// WaveHealth is when a wave of a rollout is well, and when it hurts.
type WaveHealth struct {
	MaxFailures    float64     `json:"maxFailures,omitempty" doc:"The share of the devices that tried which may fail; default 0"`
	MinDevices     int64       `json:"minDevices,omitempty" doc:"How many must have tried before that is judged, or all of a smaller wave; default 10"`
	MinPerHardware int64       `json:"minPerHardware,omitempty" doc:"The same for one kind of hardware, if at least two failed; default 3"`
	Compare        *Comparison `json:"compare,omitempty" doc:"Hold updated devices against the others"`
}

// Comparison holds devices that were updated against those that were not, of
// the same stamp at the same time. It may be looked at as often as one likes.
type Comparison struct {
	Alpha            float64 `json:"alpha,omitempty" doc:"The chance that a rollout which hurts nobody is stopped; default 0.01"`
	Reconnects       float64 `json:"reconnects,omitempty" doc:"How many times as often updated devices may reconnect; default 1.1"`
	Messages         float64 `json:"messages,omitempty" doc:"How many times as much, or as little, they may send; default 2"`
	MinDeviceSeconds float64 `json:"minDeviceSeconds,omitempty" doc:"Seconds of connected devices that each side must have been watched; default 600"`
	OnNoData         NoData  `json:"onNoData,omitempty" enum:"inconclusive,fail,pass-with-reason" doc:"What it means if that is not reached; default inconclusive"`
}

// Check holds the policy against its rules and returns it with defaults.
func (h WaveHealth) Check() (WaveHealth, error) {
	if h.MinDevices == 0 {
		h.MinDevices = 10
	}
	if h.MinPerHardware == 0 {
		h.MinPerHardware = 3
	}
	switch {
	case !(h.MaxFailures >= 0 && h.MaxFailures < 1):
		return h, problem.New(problem.Invalid, "the share that may fail is from 0 to below 1, not %g", h.MaxFailures).At("maxFailures")
	case h.MinDevices < 1:
		return h, problem.New(problem.Invalid, "at least 1 device must have tried, not %d", h.MinDevices).At("minDevices")
	case h.MinPerHardware < 1:
		return h, problem.New(problem.Invalid, "at least 1 device must have tried, not %d", h.MinPerHardware).At("minPerHardware")
	}
	if h.Compare == nil {
		return h, nil
	}
	c, err := h.Compare.Check()
	h.Compare = &c
	return h, err
}

// Check holds a comparison against its rules and returns it with defaults.
func (c Comparison) Check() (Comparison, error) {
	if c.Alpha == 0 {
		c.Alpha = 0.01
	}
	if c.Reconnects == 0 {
		c.Reconnects = 1.1
	}
	if c.Messages == 0 {
		c.Messages = 2
	}
	if c.MinDeviceSeconds == 0 {
		c.MinDeviceSeconds = 600
	}
	switch {
	case !(c.Alpha >= 1e-6 && c.Alpha <= 0.2):
		return c, problem.New(problem.Invalid, "alpha is from 0.000001 to 0.2, not %g", c.Alpha).At("compare.alpha")
	case !(c.Reconnects >= 1 && c.Reconnects <= 100):
		return c, problem.New(problem.Invalid, "updated devices may reconnect 1 to 100 times as often, not %g", c.Reconnects).At("compare.reconnects")
	case !(c.Messages >= 1 && c.Messages <= 100):
		return c, problem.New(problem.Invalid, "updated devices may send 1 to 100 times as much, not %g", c.Messages).At("compare.messages")
	case !(c.MinDeviceSeconds > 0 && c.MinDeviceSeconds <= 1e12):
		return c, problem.New(problem.Invalid, "the seconds of devices are above 0, not %g", c.MinDeviceSeconds).At("compare.minDeviceSeconds")
	}
	return c, checkSource("compare", "", c.OnNoData)
}
