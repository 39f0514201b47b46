package resource

import (
	"math"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/slipway/slipway/internal/problem"
)

// Gate is a condition that a release must meet before it enters an
// environment: a name, and exactly one of the kinds.
type Gate struct {
	Name string `json:"name" maxLength:"63" doc:"Unique among the environment's gates"`
	// Key gates must each pass; the others warn. Where none is key, all are.
	Key       bool           `json:"key,omitempty" doc:"It must pass; a gate that is not key only warns. Where none is key, all are"`
	Tests     *TestsGate     `json:"tests,omitempty" doc:"Test results that CI has uploaded"`
	PromQL    *PromQLGate    `json:"promql,omitempty" doc:"A query of a Prometheus"`
	SLO       *SLOGate       `json:"slo,omitempty" doc:"How fast an error budget is being used up"`
	Approvals *ApprovalsGate `json:"approvals,omitempty" doc:"People who agree"`
	Soak      *SoakGate      `json:"soak,omitempty" doc:"How long it ran well in the environment before"`
	Devices   *DevicesGate   `json:"devices,omitempty" doc:"What devices say of themselves"`
	SBOM      *SBOMGate      `json:"sbom,omitempty" doc:"No component with a known vulnerability beyond its deadline"`
	Webhook   *WebhookGate   `json:"webhook,omitempty" doc:"A program of yours that decides"`
	Flags     *FlagsGate     `json:"flags,omitempty" doc:"The release's feature flags, each exercised with every variant"`
	Parity    *ParityGate    `json:"parity,omitempty" doc:"How alike two environments are"`
	Drift     *DriftGate     `json:"drift,omitempty" doc:"Nothing is other than declared"`
	Rehearsal *RehearsalGate `json:"rehearsal,omitempty" doc:"Its migrations, rehearsed on a masked copy of the environment's data"`
	Readiness *ReadinessGate `json:"readiness,omitempty" doc:"An environment that is ready for production"`
}

// The kinds of gates.
const (
	GateTests     = "tests"
	GatePromQL    = "promql"
	GateSLO       = "slo"
	GateApprovals = "approvals"
	GateSoak      = "soak"
	GateDevices   = "devices"
	GateSBOM      = "sbom"
	GateWebhook   = "webhook"
	GateFlags     = "flags"
	GateParity    = "parity"
	GateDrift     = "drift"
	GateRehearsal = "rehearsal"
	GateReadiness = "readiness"
)

// Span is a length of time as people write it: 90s, 30m, 24h, 14d.
type Span string

var days = regexp.MustCompile(`^([0-9]{1,5})d$`)

// Duration is the span, or other where it is empty. Check has seen it before.
func (s Span) Duration(other time.Duration) time.Duration {
	d, err := s.parse()
	if s == "" || err != nil {
		return other
	}
	return d
}

func (s Span) parse() (time.Duration, error) {
	if found := days.FindStringSubmatch(string(s)); found != nil {
		n, err := strconv.Atoi(found[1])
		return time.Duration(n) * 24 * time.Hour, err
	}
	return time.ParseDuration(string(s))
}

// check refuses what is no length of time between least and most; empty is
// the default.
func (s Span) check(field string, least, most time.Duration) error {
	if s == "" {
		return nil
	}
	if d, err := s.parse(); err != nil || d < least || d > most {
		return problem.New(problem.Invalid, "must be a length of time from %s to %s, such as 90s, 30m, 24h or 14d, not %q", least, most, string(s)).At(field)
	}
	return nil
}

// TestsGate wants uploaded test results.
type TestsGate struct {
	Suites      []string `json:"suites,omitempty" maxItems:"20" doc:"Suites that must each have results, such as unit; none means at least one of any"`
	Environment string   `json:"environment,omitempty" doc:"Where they must have run; default anywhere"`
	MaxFailures int      `json:"maxFailures,omitempty" doc:"Failed tests of a suite that are let pass; default 0"`
	MinTests    int      `json:"minTests,omitempty" doc:"Tests of a suite that must have run; default 1"`
	MaxAge      Span     `json:"maxAge,omitempty" doc:"How old results may be; default any age"`
}

// NoData says what a gate makes of no data at all.
type NoData string

// What a gate makes of no data.
const (
	NoDataInconclusive NoData = "inconclusive"
	NoDataFail         NoData = "fail"
	NoDataPass         NoData = "pass-with-reason" // a warning that says so, and lets through
)

// PromQLGate wants a query's values between bounds.
type PromQLGate struct {
	Prometheus  string   `json:"prometheus,omitempty" doc:"Its URL; default the installation's"`
	Query       string   `json:"query" maxLength:"8192" doc:"In PromQL; {{environment}}, {{upstream}}, {{stamp}}, {{release}} stand for quoted names"`
	Window      Span     `json:"window,omitempty" doc:"How far back it looks; default 10m"`
	Min         *float64 `json:"min,omitempty" doc:"The least value that is well"`
	Max         *float64 `json:"max,omitempty" doc:"The greatest value that is well"`
	MinSamples  int      `json:"minSamples,omitempty" doc:"Values in the window that a verdict needs; default 1"`
	Consecutive int      `json:"consecutive,omitempty" doc:"How many values, the last ones, must be well; default all of the window"`
	OnNoData    NoData   `json:"onNoData,omitempty" enum:"inconclusive,fail,pass-with-reason" doc:"What no data means; default inconclusive"`
}

// SLOGate wants that the error budget of an objective lasts.
type SLOGate struct {
	Prometheus string  `json:"prometheus,omitempty" doc:"Its URL; default the installation's"`
	Name       string  `json:"name,omitempty" maxLength:"63" doc:"Of an SLO that is declared or shipped, which says objective, good and total"`
	In         string  `json:"environment,omitempty" maxLength:"63" doc:"Where the named SLO is to be met; default where the release goes"`
	Objective  float64 `json:"objective,omitempty" doc:"The share that must succeed, such as 0.999"`
	Good       string  `json:"good,omitempty" maxLength:"8192" doc:"How many succeeded in a window: sum(increase(ok_total{environment={{environment}}}[{{window}}]))"`
	Total      string  `json:"total,omitempty" maxLength:"8192" doc:"How many there were in a window"`
	Short      Span    `json:"short,omitempty" doc:"The short window; default 5m"`
	Long       Span    `json:"long,omitempty" doc:"The long window; default 1h"`
	MaxBurn    float64 `json:"maxBurn,omitempty" doc:"How many times faster than it lasts the budget may be used up; default 1"`
	MinSamples int     `json:"minSamples,omitempty" doc:"How many there must have been in the long window; default 1"`
	OnNoData   NoData  `json:"onNoData,omitempty" enum:"inconclusive,fail,pass-with-reason" doc:"What no data means; default inconclusive"`
}

// ApprovalsGate wants people to agree. Who asks for the promotion never counts.
type ApprovalsGate struct {
	Count int      `json:"count,omitempty" doc:"How many people; default 1"`
	From  []string `json:"from,omitempty" maxItems:"100" doc:"The only ones whose word counts; none means all"`
}

// SoakGate wants a release to have run well in the environment before.
type SoakGate struct {
	For Span `json:"for" doc:"How long, counting healthy time after its verification alone"`
}

// FlagsGate wants that the feature flags of a release were exercised: each with
// every variant, while the environment had the release's flags.
type FlagsGate struct {
	Environment string   `json:"environment,omitempty" doc:"Where; default the environment the release comes from"`
	Except      []string `json:"except,omitempty" maxItems:"1000" doc:"Flags that need not be"`
	MinSamples  int      `json:"minSamples,omitempty" doc:"How often each variant must have been given out; default 1"`
	Required    bool     `json:"required,omitempty" doc:"A feature release without any flag fails"`
}

// ParityGate wants two environments to be alike.
type ParityGate struct {
	From    string  `json:"from,omitempty" doc:"Where the release was tried; default the environment it comes from"`
	AtLeast float64 `json:"atLeast,omitempty" doc:"The least score, 0 to 1; default 0.95"`
	MaxAge  Span    `json:"maxAge,omitempty" doc:"How long ago they may have been looked at; default 5m"`
}

// DriftGate wants nothing in an environment to be other than declared, but for
// what somebody answers for.
type DriftGate struct {
	Environment string   `json:"environment,omitempty" doc:"Where; default the environment the release enters"`
	Classes     []string `json:"classes,omitempty" maxItems:"4" doc:"Which differences count: changed, missing, unmanaged, stale; default changed, missing and stale"`
	MaxAge      Span     `json:"maxAge,omitempty" doc:"How long ago it may have been looked at; default 5m"`
}

// DriftClasses are the classes of differences that a gate can count.
var DriftClasses = []string{"changed", "missing", "unmanaged", "stale"}

func (p ParityGate) check() error {
	if !(p.AtLeast >= 0 && p.AtLeast <= 1) {
		return problem.New(problem.Invalid, "a score is from 0 to 1, not %g", p.AtLeast).At("parity.atLeast")
	}
	return p.MaxAge.check("parity.maxAge", time.Minute, maxSpan)
}

func (d DriftGate) check() error {
	for _, class := range d.Classes {
		if !slices.Contains(DriftClasses, class) {
			return problem.New(problem.Invalid, "a class is one of %s, not %q", strings.Join(DriftClasses, ", "), class).At("drift.classes")
		}
	}
	return d.MaxAge.check("drift.maxAge", time.Minute, maxSpan)
}

// ReadinessGate wants an environment to be ready: every check that blocks passes.
type ReadinessGate struct {
	Environment string   `json:"environment,omitempty" maxLength:"63" doc:"Which; default the one the release is to enter"`
	Minimum     int      `json:"minimum,omitempty" minimum:"0" maximum:"100" doc:"The least score of the checks that count"`
	Topics      []string `json:"topics,omitempty" maxItems:"20" doc:"Only the checks of these topics; default all"`
	Except      []string `json:"except,omitempty" maxItems:"60" doc:"Checks that do not count here, such as E3 where another gate asks the same of the release that enters"`
	MaxAge      Span     `json:"maxAge,omitempty" doc:"How old the facts may be; default 5m"`
	OnNoData    NoData   `json:"onNoData,omitempty" enum:"inconclusive,fail,pass-with-reason" doc:"What it means where there is no evidence, or only old; default inconclusive"`
}

// DevicesGate wants a condition to hold for devices.
type DevicesGate struct {
	Environment string  `json:"environment,omitempty" doc:"Whose devices; default the environment the release comes from"`
	Where       string  `json:"where,omitempty" maxLength:"4000" doc:"Which devices are asked about; default all"`
	Must        string  `json:"must" maxLength:"4000" doc:"What must hold, such as properties.reported.selfTest = 'ok'"`
	AtLeast     int     `json:"atLeast,omitempty" doc:"For so many devices; default 1"`
	Share       float64 `json:"share,omitempty" doc:"And for this share of those asked about; default 1"`
}

// SBOMGate wants a software bill of materials without known vulnerabilities.
type SBOMGate struct {
	Severity string `json:"severity,omitempty" enum:"low,medium,high,critical" doc:"The least severity that counts; default high"`
	Deadline Span   `json:"deadline,omitempty" doc:"How long after it became known one may stay; default 0s"`
	MaxAge   Span   `json:"maxAge,omitempty" doc:"How long ago the list of vulnerabilities may have been uploaded; default 7d"`
}

// WebhookGate asks a program. It is sent the release, and answers with a verdict.
type WebhookGate struct {
	URL     string `json:"url" maxLength:"2000"`
	Timeout Span   `json:"timeout,omitempty" doc:"Default 10s"`
}

// Kind is the gate's kind; empty where it has none, or several.
func (g Gate) Kind() string {
	kinds := g.kinds()
	if len(kinds) != 1 {
		return ""
	}
	return kinds[0]
}

func (g Gate) kinds() (all []string) {
	for _, one := range []struct {
		kind string
		set  bool
	}{
		{GateTests, g.Tests != nil}, {GatePromQL, g.PromQL != nil}, {GateSLO, g.SLO != nil}, {GateApprovals, g.Approvals != nil},
		{GateSoak, g.Soak != nil}, {GateDevices, g.Devices != nil}, {GateSBOM, g.SBOM != nil}, {GateWebhook, g.Webhook != nil}, {GateFlags, g.Flags != nil},
		{GateParity, g.Parity != nil}, {GateDrift, g.Drift != nil},
		{GateRehearsal, g.Rehearsal != nil}, {GateReadiness, g.Readiness != nil},
	} {
		if one.set {
			all = append(all, one.kind)
		}
	}
	return all
}

// Check holds a gate against the rules that need nothing else. The field of
// what it finds is below the gate.
func (g Gate) Check() error {
	switch kinds := g.kinds(); {
	case len(kinds) == 0:
		return problem.New(problem.Invalid, "a gate has one of tests, promql, slo, approvals, soak, devices, sbom, webhook, flags, parity, drift, rehearsal and readiness").At("name")
	case len(kinds) > 1:
		return problem.New(problem.Invalid, "a gate has one kind, not %s; make several gates", strings.Join(kinds, " and ")).At(kinds[1])
	}
	switch {
	case g.Tests != nil:
		return g.Tests.check()
	case g.PromQL != nil:
		return g.PromQL.check()
	case g.SLO != nil:
		return g.SLO.check()
	case g.Approvals != nil:
		return g.Approvals.check()
	case g.Soak != nil:
		return g.Soak.check()
	case g.Devices != nil:
		return g.Devices.check()
	case g.SBOM != nil:
		return g.SBOM.check()
	case g.Flags != nil:
		return g.Flags.check()
	case g.Parity != nil:
		return g.Parity.check()
	case g.Drift != nil:
		return g.Drift.check()
	case g.Rehearsal != nil:
		return g.Rehearsal.check()
	case g.Readiness != nil:
		return g.Readiness.check()
	}
	return g.Webhook.check()
}

const maxSpan = 366 * 24 * time.Hour

func (t TestsGate) check() error {
	for _, suite := range t.Suites {
		if err := CheckSuite(suite); err != nil {
			return problem.Of(err).At("tests.suites")
		}
	}
	if t.MaxFailures < 0 || t.MinTests < 0 {
		return problem.New(problem.Invalid, "the numbers of failures and of tests must not be negative").At("tests.minTests")
	}
	return t.MaxAge.check("tests.maxAge", time.Minute, maxSpan)
}

// CheckSuite holds the name of a test suite against its rule.
func CheckSuite(suite string) error {
	if !name.MatchString(suite) {
		return problem.New(problem.Invalid, "a suite is named by 1 to 63 of a-z, 0-9 and '-', such as unit, integration or performance, which %q is not", suite).At("suite")
	}
	return nil
}

func (p PromQLGate) check() error {
	finite := func(v *float64) bool { return v == nil || !math.IsNaN(*v) && !math.IsInf(*v, 0) }
	switch {
	case p.Min == nil && p.Max == nil:
		return problem.New(problem.Invalid, "needs min or max, or there is nothing to hold the values against").At("promql")
	case !finite(p.Min) || !finite(p.Max):
		return problem.New(problem.Invalid, "min and max are numbers").At("promql")
	case p.Min != nil && p.Max != nil && *p.Min > *p.Max:
		return problem.New(problem.Invalid, "min is above max, so no value is well").At("promql.min")
	case p.MinSamples < 0 || p.MinSamples > 1000:
		return problem.New(problem.Invalid, "minSamples is 1 to 1000, not %d", p.MinSamples).At("promql.minSamples")
	case p.Consecutive < 0 || p.Consecutive > 1000:
		return problem.New(problem.Invalid, "consecutive is 1 to 1000, not %d", p.Consecutive).At("promql.consecutive")
	}
	if err := checkQuery("promql.query", p.Query, false); err != nil {
		return err
	}
	if err := checkSource("promql", p.Prometheus, p.OnNoData); err != nil {
		return err
	}
	return p.Window.check("promql.window", 10*time.Second, 31*24*time.Hour)
}

func (s SLOGate) check() error {
	switch {
	case s.Name != "" && (s.Objective != 0 || s.Good != "" || s.Total != ""):
		return problem.New(problem.Invalid, "the SLO %s says itself what objective, good and total are", s.Name).At("slo.name")
	case s.Name == "" && s.In != "":
		return problem.New(problem.Invalid, "environment is for an SLO that is named; good and total say theirs").At("slo.environment")
	case s.Name == "" && !(s.Objective > 0 && s.Objective < 1):
		return problem.New(problem.Invalid, "an objective is above 0 and below 1, such as 0.999, not %g", s.Objective).At("slo.objective")
	case !(s.MaxBurn >= 0 && s.MaxBurn <= 1000):
		return problem.New(problem.Invalid, "maxBurn is above 0 and up to 1000, not %g", s.MaxBurn).At("slo.maxBurn")
	case s.MinSamples < 0:
		return problem.New(problem.Invalid, "minSamples must not be negative").At("slo.minSamples")
	case s.Short.Duration(5*time.Minute) >= s.Long.Duration(time.Hour):
		return problem.New(problem.Invalid, "the short window must be shorter than the long one").At("slo.short")
	}
	queries := map[string]string{"slo.good": s.Good, "slo.total": s.Total}
	if s.Name != "" {
		queries = nil
	}
	for field, query := range queries {
		if err := checkQuery(field, query, true); err != nil {
			return err
		}
		if !strings.Contains(query, "{{window}}") {
			return problem.New(problem.Invalid, "must say over which window, such as [{{window}}]").At(field)
		}
	}
	if err := checkSource("slo", s.Prometheus, s.OnNoData); err != nil {
		return err
	}
	if err := s.Short.check("slo.short", 10*time.Second, 31*24*time.Hour); err != nil {
		return err
	}
	return s.Long.check("slo.long", 10*time.Second, 31*24*time.Hour)
}

func checkSource(field, prometheus string, onNoData NoData) error {
	if prometheus != "" {
		if err := CheckURL(prometheus); err != nil {
			return problem.Of(err).At(field + ".prometheus")
		}
	}
	if onNoData != "" && !slices.Contains([]NoData{NoDataInconclusive, NoDataFail, NoDataPass}, onNoData) {
		return problem.New(problem.Invalid, "must be inconclusive, fail or pass-with-reason, not %q", onNoData).At(field + ".onNoData")
	}
	return nil
}

// Placeholder finds the names in a query that stand for something.
var Placeholder = regexp.MustCompile(`\{\{\s*([A-Za-z]*)\s*\}\}`)

var quoted = regexp.MustCompile("[\"'`]\\{\\{|\\}\\}[\"'`]")

func checkQuery(field, query string, window bool) error {
	known := []string{"environment", "upstream", "stamp", "release"}
	if window {
		known = append(known, "window")
	}
	if strings.TrimSpace(query) == "" || len(query) > 8192 {
		return problem.New(problem.Invalid, "a query has 1 to 8192 characters").At(field)
	}
	for _, found := range Placeholder.FindAllStringSubmatch(query, -1) {
		if !slices.Contains(known, found[1]) {
			return problem.New(problem.Invalid, "there is no {{%s}}; there are %s", found[1], strings.Join(known, ", ")).At(field)
		}
	}
	if quoted.MatchString(query) {
		return problem.New(problem.Invalid, "the quotes around {{…}} are ours to write: environment={{environment}}").At(field)
	}
	return nil
}

// CheckURL holds the address of a server that is asked against its rule.
func CheckURL(text string) error {
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil || u.Fragment != "" || len(text) > 2000 {
		return problem.New(problem.Invalid, "must be a URL such as https://prometheus.example.com, without a password, not %q", text)
	}
	return nil
}

func (a ApprovalsGate) check() error {
	switch {
	case a.Count < 0 || a.Count > 20:
		return problem.New(problem.Invalid, "count is 1 to 20 people, not %d", a.Count).At("approvals.count")
	case len(a.From) > 0 && len(a.From) < max(a.Count, 1):
		return problem.New(problem.Invalid, "%d people are to agree, and only %d may", max(a.Count, 1), len(a.From)).At("approvals.from")
	}
	return nil
}

func (s SoakGate) check() error {
	if s.For == "" {
		return problem.New(problem.Invalid, "must say for how long, such as 24h").At("soak.for")
	}
	return s.For.check("soak.for", time.Second, maxSpan)
}

func (d DevicesGate) check() error {
	switch {
	case strings.TrimSpace(d.Must) == "":
		return problem.New(problem.Invalid, "must say what is to hold, such as properties.reported.selfTest = 'ok'").At("devices.must")
	case len(d.Must)+len(d.Where) > 8000:
		return problem.New(problem.Invalid, "where and must have at most 8000 characters together").At("devices.must")
	case d.AtLeast < 0:
		return problem.New(problem.Invalid, "atLeast must not be negative").At("devices.atLeast")
	case !(d.Share >= 0 && d.Share <= 1):
		return problem.New(problem.Invalid, "share is from 0 to 1, not %g", d.Share).At("devices.share")
	}
	return nil
}

// Severities are those of vulnerabilities, the least first.
var Severities = []string{"low", "medium", "high", "critical"}

func (s SBOMGate) check() error {
	if s.Severity != "" && !slices.Contains(Severities, s.Severity) {
		return problem.New(problem.Invalid, "must be one of %s, not %q", strings.Join(Severities, ", "), s.Severity).At("sbom.severity")
	}
	if err := s.MaxAge.check("sbom.maxAge", time.Minute, maxSpan); err != nil {
		return err
	}
	return s.Deadline.check("sbom.deadline", 0, maxSpan)
}

func (f FlagsGate) check() error {
	if f.MinSamples < 0 {
		return problem.New(problem.Invalid, "a number of evaluations is not negative").At("flags.minSamples")
	}
	return nil
}

func (r ReadinessGate) check() error {
	switch {
	case r.Minimum < 0 || r.Minimum > 100:
		return problem.New(problem.Invalid, "a score is 0 to 100, not %d", r.Minimum).At("readiness.minimum")
	case !slices.Contains([]NoData{"", NoDataInconclusive, NoDataFail, NoDataPass}, r.OnNoData):
		return problem.New(problem.Invalid, "must be %s, %s or %s, not %q", NoDataInconclusive, NoDataFail, NoDataPass, r.OnNoData).At("readiness.onNoData")
	}
	return r.MaxAge.check("readiness.maxAge", time.Second, 24*time.Hour)
}

func (w WebhookGate) check() error {
	if err := CheckURL(w.URL); err != nil {
		return problem.Of(err).At("webhook.url")
	}
	return w.Timeout.check("webhook.timeout", time.Second, time.Minute)
}
