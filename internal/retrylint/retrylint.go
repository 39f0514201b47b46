// Package retrylint judges how clients retry: it names the ways that keep a
// herd of devices from dispersing, and works out what a herd of clients with
// the policy does to a server that comes back. It is pure; chance comes in as a
// seed.
package retrylint

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/slipway/slipway/internal/problem"
)

// Plan is what one client does to get back what it lost: its layers of
// retrying, the outermost first.
type Plan struct {
	Name   string  `json:"name,omitempty"`
	Layers []Layer `json:"layers"`
}

// Layer is one place where attempts are repeated.
type Layer struct {
	Name      string   `json:"name,omitempty"`
	Preset    string   `json:"preset,omitempty"`    // a known client, instead of the rest
	Interval  string   `json:"interval,omitempty"`  // exponential, decorrelated or regular
	Base      Duration `json:"base,omitempty"`      // the first interval
	Cap       Duration `json:"cap,omitempty"`       // no interval is longer
	Jitter    string   `json:"jitter,omitempty"`    // full, equal, none, or a part such as 5%
	Immediate int      `json:"immediate,omitempty"` // retries without any wait
	Attempts  int      `json:"attempts,omitempty"`  // at most, in a row; 0 is no bound
	Elapsed   Duration `json:"elapsed,omitempty"`   // at most, in a row; 0 is no bound
	Dormant   Duration `json:"dormant,omitempty"`   // quiet before it begins anew; 0: it gives up
	// RetryAfter says that the server's wish is a lower bound.
	RetryAfter bool `json:"retryAfter,omitempty"`
}

// Duration is a time.Duration that reads "3s".
type Duration time.Duration

// UnmarshalText reads "3s".
func (d *Duration) UnmarshalText(text []byte) error {
	parsed, err := time.ParseDuration(string(text))
	*d = Duration(parsed)
	return err
}

// MarshalText writes "3s".
func (d Duration) MarshalText() ([]byte, error) { return []byte(time.Duration(d).String()), nil }

// endless is how many attempts are as good as no bound.
const endless = 1000

// Presets are clients as they come. The numbers of the SDKs are their
// documented defaults.
var Presets = map[string]Layer{
	"slipway": {
		Interval: "exponential", Base: Duration(time.Second), Cap: Duration(5 * time.Minute), Jitter: "full", Attempts: 20, Elapsed: Duration(30 * time.Minute),
		Dormant: Duration(15 * time.Minute), RetryAfter: true,
	},
	"azure-iot-device-net": {Interval: "exponential", Base: Duration(100 * time.Millisecond), Cap: Duration(10 * time.Second), Jitter: "20%", Attempts: 2147483647},
	"aws-iot-embedded":     {Interval: "exponential", Base: Duration(time.Second), Cap: Duration(128 * time.Second), Jitter: "full", Attempts: 4},
}

// maxLayers bounds a plan.
const maxLayers = 10

// Check holds a plan against its form, and puts presets in place.
func (p Plan) Check() (Plan, error) {
	if len(p.Layers) == 0 || len(p.Layers) > maxLayers {
		return p, problem.New(problem.Invalid, "a plan has 1 to %d layers, not %d", maxLayers, len(p.Layers)).At("layers")
	}
	layers := make([]Layer, len(p.Layers))
	for i, l := range p.Layers {
		if l.Preset != "" {
			known, ok := Presets[l.Preset]
			if !ok {
				return p, problem.New(problem.Invalid, "there is no preset %q", l.Preset).At("layers")
			}
			known.Name, known.Preset = l.Name, l.Preset
			l = known
		}
		if l.Name == "" {
			l.Name = fmt.Sprint("layer ", i+1)
			if l.Preset != "" {
				l.Name = l.Preset
			}
		}
		if err := l.check(); err != nil {
			return p, err
		}
		layers[i] = l
	}
	p.Layers = layers
	return p, nil
}

func (l Layer) check() error {
	invalid := func(format string, args ...any) error {
		return problem.New(problem.Invalid, l.Name+": "+format, args...).At("layers")
	}
	_, err := l.spread()
	switch {
	case l.Interval != "exponential" && l.Interval != "decorrelated" && l.Interval != "regular":
		return invalid("interval must be exponential, decorrelated or regular, not %q", l.Interval)
	case l.Base <= 0:
		return invalid("base, the first interval, is missing")
	case l.Cap != 0 && l.Cap < l.Base:
		return invalid("cap is less than base")
	case err != nil:
		return invalid("jitter must be full, equal, none or a part such as 5%%, not %q", l.Jitter)
	case l.Immediate < 0 || l.Attempts < 0 || l.Elapsed < 0 || l.Dormant < 0:
		return invalid("a bound is not negative")
	}
	return nil
}

// spread is the part of an interval that chance decides.
func (l Layer) spread() (float64, error) {
	switch l.Jitter {
	case "full":
		return 1, nil
	case "equal":
		return 0.5, nil
	case "", "none":
		return 0, nil
	}
	percent, found := strings.CutSuffix(strings.TrimPrefix(l.Jitter, "±"), "%")
	n, err := strconv.ParseFloat(percent, 64)
	if !found || err != nil || n < 0 || n > 100 {
		return 0, fmt.Errorf("jitter %q", l.Jitter)
	}
	return n / 100, nil
}

// bounded reports whether the layer ends by itself.
func (l Layer) bounded() bool { return l.Attempts > 0 && l.Attempts < endless || l.Elapsed > 0 }

// The severities of findings.
const (
	Wrong = "wrong" // one of the ways that must not be
	Doubt = "doubt"
)

// Finding is something about a plan that should change.
type Finding struct {
	Rule     string `json:"rule"`
	Severity string `json:"severity"`
	Layer    string `json:"layer,omitempty"`
	Says     string `json:"says"`
	Remedy   string `json:"remedy"`
}

// Lint names what is wrong with a plan.
func Lint(p Plan) []Finding {
	findings := []Finding{}
	if len(p.Layers) > 1 {
		names, tries := make([]string, len(p.Layers)), 1.0
		for i, l := range p.Layers {
			names[i] = l.Name
			tries *= l.tries()
		}
		says := fmt.Sprintf("%s retry on top of one another: one failure becomes up to %.0f attempts", strings.Join(names, ", "), tries)
		if tries >= endless*endless {
			says = strings.Join(names, ", ") + " retry on top of one another, without end"
		}
		findings = append(findings, Finding{"stacked-layers", Wrong, "", says, "let one layer retry, the one that knows the operation; give the others no attempts beyond the first"})
	}
	for _, l := range p.Layers {
		findings = append(findings, l.lint()...)
	}
	return findings
}

// tries is how many attempts a layer makes of one.
func (l Layer) tries() float64 {
	if l.bounded() && l.Attempts > 0 {
		return float64(1 + l.Immediate + l.Attempts)
	}
	return endless
}

func (l Layer) lint() (findings []Finding) {
	find := func(rule, severity, says, remedy string) {
		findings = append(findings, Finding{rule, severity, l.Name, says, remedy})
	}
	if !l.bounded() {
		find("endless-retry", Wrong, "it retries without end", "bound attempts and time, then be quiet for a quarter of an hour or more (dormant) before another campaign")
	}
	if l.Immediate > 1 {
		find("immediate-more-than-once", Wrong, fmt.Sprintf("it retries %d times without any wait", l.Immediate), "retry at once at most once, then back off")
	}
	if l.Immediate == 1 {
		find("immediate-on-reconnect", Doubt, "it retries once without any wait, which doubles the wave when a whole stamp cuts its connections", "retry single operations at once, lost connections never")
	}
	if l.Interval == "regular" {
		find("regular-interval", Wrong, fmt.Sprintf("it retries every %s", time.Duration(l.Base)), "let intervals grow exponentially up to a cap")
	}
	spread, _ := l.spread()
	switch {
	case spread == 0 && l.Interval != "decorrelated":
		find("synchronised-clients", Wrong, "all clients wait equally long: those cut together come back together, every time", "draw each interval at random, from nothing to its length (full jitter), with a source of chance of each device's own")
	case spread < 0.25 && l.Interval != "decorrelated":
		find("synchronised-clients", Doubt, fmt.Sprintf("chance decides %.0f %% of an interval: a herd hardly disperses", spread*100), "draw each interval at random, from nothing to its length (full jitter)")
	}
	if l.Cap == 0 && l.Interval != "regular" {
		find("no-cap", Doubt, "intervals grow without a cap: after a long outage devices stay away for hours", "cap intervals at a minute to five")
	}
	if l.bounded() && l.Dormant == 0 {
		find("gives-up", Doubt, "it gives up for good: a device in the field stays away until somebody starts it anew", "begin another campaign after a quarter of an hour or more of quiet")
	}
	if !l.RetryAfter {
		find("ignores-retry-after", Doubt, "it does not wait as long as the server asks for", "take Retry-After as a lower bound, with jitter on top")
	}
	return findings
}
