package resource

import (
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/slipway/slipway/internal/problem"
)

// SLOSpec declares how well something must go: of so many, such a share.
type SLOSpec struct {
	Description string  `json:"description,omitempty" maxLength:"1000"`
	Indicator   string  `json:"indicator,omitempty" doc:"availability, provisioning, ingest-latency, commands or updates; or say good and total"`
	Good        string  `json:"good,omitempty" maxLength:"16384" doc:"PromQL that counts what went well over {{window}}"`
	Total       string  `json:"total,omitempty" maxLength:"16384" doc:"PromQL that counts all over {{window}}"`
	Objective   float64 `json:"objective" minimum:"0" maximum:"1" doc:"The share that must go well, such as 0.999"`
	Window      Span    `json:"window,omitempty" doc:"Over how long; default 28d"`
	Owner       string  `json:"owner,omitempty" maxLength:"200" doc:"Who answers for it"`
	Quiet       bool    `json:"quiet,omitempty" doc:"Nobody is told when its budget burns"`
}

// SLOStatus is how an SLO stands, in each environment that has it.
type SLOStatus struct {
	Items []Standing `json:"items"`
}

// Standing is how an SLO stands.
type Standing struct {
	Environment string   `json:"environment,omitempty"`
	Share       *float64 `json:"share,omitempty" doc:"Of all, what went well over the window; none when nothing happened"`
	Budget      *float64 `json:"budget,omitempty" doc:"What is left of what may go wrong: 1 is all, 0 none, less is too much"`
	BurnShort   *float64 `json:"burnShort,omitempty" doc:"How many times faster than it lasts it was used up over the last hour"`
	BurnLong    *float64 `json:"burnLong,omitempty" doc:"The same over the last six hours"`
	State       string   `json:"state" doc:"met, burning, missed or unknown"`
}

// SLO is one as the API serves it.
type SLO = Object[SLOSpec, SLOStatus]

// WindowPlaceholder stands for a length of time in the queries of an SLO.
const WindowPlaceholder = "{{window}}"

// Indicators are what an SLO may be about without saying how it is counted: each
// counts by environment what went well, and all. What devices were refused as
// they may not is no fault of the installation.
var Indicators = map[string][2]string{
	"availability": {
		`sum by (environment) (increase(slipway_hub_connects_total{result="ok"}[{{window}}])) + sum by (environment) (increase(slipway_hub_messages_total{result="ok"}[{{window}}])) + sum by (environment) (increase(slipway_hub_twin_requests_total{result="ok",operation!="desire"}[{{window}}]))`,
		`sum by (environment) (increase(slipway_hub_connects_total{result!="refused"}[{{window}}])) + sum by (environment) (increase(slipway_hub_messages_total{result!="refused"}[{{window}}])) + sum by (environment) (increase(slipway_hub_twin_requests_total{result!="refused",operation!="desire"}[{{window}}]))`,
	},
	"provisioning": {
		`sum(increase(slipway_provisioning_steps_total{result="ok"}[{{window}}]))`,
		`sum(increase(slipway_provisioning_steps_total[{{window}}])) + sum(increase(slipway_provisioning_requests_total{result=~"throttled|failed"}[{{window}}]))`,
	},
	"ingest-latency": {
		`sum by (environment) (increase(slipway_hub_ack_seconds_bucket{le="0.25"}[{{window}}]))`,
		`sum by (environment) (increase(slipway_hub_ack_seconds_count[{{window}}]))`,
	},
	"commands": {
		`sum by (environment) (increase(slipway_hub_methods_total{result="ok"}[{{window}}])) + sum by (environment) (increase(slipway_hub_commands_total{outcome="Success"}[{{window}}]))`,
		`sum by (environment) (increase(slipway_hub_methods_total{result!="refused"}[{{window}}])) + sum by (environment) (increase(slipway_hub_commands_total{outcome!~"Queued|Purged"}[{{window}}]))`,
	},
	"updates": {
		`sum by (environment) (avg_over_time(slipway_update_devices{group="all",state="updated"}[{{window}}]))`,
		`sum by (environment) (avg_over_time(slipway_update_devices{group="all",state=~"updated|failed|rolledBack"}[{{window}}]))`,
	},
}

// Templates are what counts what went well, and all, over WindowPlaceholder.
func (s SLOSpec) Templates() (good, total string) {
	if of, known := Indicators[s.Indicator]; known {
		return of[0], of[1]
	}
	return s.Good, s.Total
}

// Whole reports whether it counts for the installation, and not by environment.
func (s SLOSpec) Whole() bool { return s.Indicator == "provisioning" }

// Queries are the same over a length of time.
func (s SLOSpec) Queries(window time.Duration) (good, total string) {
	good, total = s.Templates()
	text := promDuration(window)
	return strings.ReplaceAll(good, WindowPlaceholder, text), strings.ReplaceAll(total, WindowPlaceholder, text)
}

// Over is the length of time an SLO is about.
func (s SLOSpec) Over() time.Duration { return s.Window.Duration(28 * 24 * time.Hour) }

// Check holds an SLO against what needs no PromQL.
func (s SLOSpec) Check() error {
	names := []string{"availability", "provisioning", "ingest-latency", "commands", "updates"}
	switch {
	case s.Indicator != "" && !slices.Contains(names, s.Indicator):
		return problem.New(problem.Invalid, "an indicator is one of %s, not %q", strings.Join(names, ", "), s.Indicator).At("spec.indicator")
	case s.Indicator != "" && (s.Good != "" || s.Total != ""):
		return problem.New(problem.Invalid, "an indicator says itself what is good and what is all").At("spec.indicator")
	case s.Indicator == "" && (!strings.Contains(s.Good, WindowPlaceholder) || !strings.Contains(s.Total, WindowPlaceholder)):
		return problem.New(problem.Invalid, "good and total count over %s, which each must have; or name an indicator", WindowPlaceholder).At("spec.good")
	case s.Objective < 0.5 || s.Objective >= 1:
		return problem.New(problem.Invalid, "an objective is a share from 0.5 to below 1, such as 0.999, not %g", s.Objective).At("spec.objective")
	}
	return s.Window.check("spec.window", 24*time.Hour, maxYear)
}

// promDuration is a length of time as PromQL reads it.
func promDuration(d time.Duration) string { return strconv.FormatInt(d.Milliseconds(), 10) + "ms" }
