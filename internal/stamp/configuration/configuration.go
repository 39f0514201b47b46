// Package configuration keeps desired properties of many devices as one
// document: a configuration names the devices it targets by a condition, and
// what their twins shall hold. Where several target a device the one with the
// highest priority wins, of equals the newest; a device that leaves its target
// loses what it was given.
package configuration

import (
	"encoding/base64"
	"encoding/json"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/stamp/query"
)

// The limits of configurations.
const (
	Max           = 100
	maxMetrics    = 5
	maxID         = 128
	maxLabels     = 32
	desiredPrefix = "properties.desired"
)

// Document is a configuration as back ends write it.
type Document struct {
	ID              string            `json:"id"`
	SchemaVersion   string            `json:"schemaVersion"`
	Labels          map[string]string `json:"labels"`
	Content         Content           `json:"content"`
	TargetCondition string            `json:"targetCondition"`
	Priority        int64             `json:"priority"`
	Metrics         Metrics           `json:"metrics"`
}

// Content is what twins shall hold: for devices or for modules, by the path of
// the property, and for the modules of gateways by their names.
type Content struct {
	Device  map[string]any            `json:"deviceContent,omitempty"`
	Module  map[string]any            `json:"moduleContent,omitempty"`
	Modules map[string]map[string]any `json:"modulesContent,omitempty"`
}

// Metrics are queries by name, each of which counts the devices it selects.
type Metrics struct {
	Queries map[string]string `json:"queries"`
}

// Configuration is a stored one.
type Configuration struct {
	Document
	Edition   int64
	CreatedAt time.Time
	UpdatedAt time.Time

	condition *query.Condition // nil: everything
	source    query.Source
}

// ETag names the edition.
func (c Configuration) ETag() string {
	return base64.StdEncoding.EncodeToString([]byte(strconv.FormatInt(c.Edition, 10)))
}

func (c Configuration) matches(ifMatch string) bool {
	text := strings.Trim(strings.TrimPrefix(strings.TrimSpace(ifMatch), "W/"), `"`)
	return text == "" || text == "*" || text == c.ETag()
}

// check refuses what does not make sense and reads the target.
func (d Document) check() (c Configuration, err error) {
	c.Document = d
	if d.ID == "" || len(d.ID) > maxID || strings.ContainsFunc(d.ID, func(r rune) bool {
		return !('a' <= r && r <= 'z' || '0' <= r && r <= '9' || strings.ContainsRune("-+%_*!'", r))
	}) {
		return c, problem.New(problem.Invalid, "an id has 1 to %d lower-case letters, digits and -+%%_*!', unlike %q", maxID, d.ID).At("id")
	}
	if len(d.Labels) > maxLabels {
		return c, problem.New(problem.Invalid, "a configuration has at most %d labels, not %d", maxLabels, len(d.Labels)).At("labels")
	}
	if c.condition, c.source, err = ParseTarget(d.TargetCondition); err != nil {
		return c, problem.Of(err).At("targetCondition")
	}
	if err := d.Content.Check(); err != nil {
		return c, err
	}
	if len(d.Metrics.Queries) > maxMetrics {
		return c, problem.New(problem.Invalid, "a configuration has at most %d metrics, not %d", maxMetrics, len(d.Metrics.Queries)).At("metrics.queries")
	}
	for name, text := range d.Metrics.Queries {
		if _, err := ParseMetric(text); err != nil {
			return c, problem.Of(err).At("metrics.queries." + name)
		}
	}
	return c, nil
}

// modulesTarget begins a target that is over modules.
const modulesTarget = "FROM devices.modules WHERE "

// ParseTarget reads a target condition: "*" targets everything, and modules
// are targeted by "FROM devices.modules WHERE …".
func ParseTarget(text string) (*query.Condition, query.Source, error) {
	trimmed, source := strings.TrimSpace(text), query.FromDevices
	if len(trimmed) >= len(modulesTarget) && strings.EqualFold(trimmed[:len(modulesTarget)], modulesTarget) {
		trimmed, source = trimmed[len(modulesTarget):], query.FromModules
	}
	switch trimmed {
	case "*":
		return nil, source, nil
	case "":
		return nil, source, problem.New(problem.Invalid, "a target is a condition such as tags.site = 'north', or * for every device")
	}
	condition, err := query.Parse(trimmed)
	return condition, source, err
}

// ParseMetric reads the query of a metric.
func ParseMetric(text string) (*query.Statement, error) {
	s, err := query.ParseStatement(text)
	if err == nil && s.From == query.FromJobs {
		err = problem.New(problem.Invalid, "a metric counts devices or modules, not jobs")
	}
	return s, err
}

// Check refuses content that sets what a back end may not set.
func (c Content) Check() error {
	if err := checkContent("content.deviceContent", c.Device); err != nil {
		return err
	}
	if err := checkContent("content.moduleContent", c.Module); err != nil {
		return err
	}
	for module, content := range c.Modules {
		if err := checkContent("content.modulesContent."+module, content); err != nil {
			return err
		}
	}
	return nil
}

// checkContent holds the paths of a content to those a back end may set.
func checkContent(field string, content map[string]any) error {
	for path := range content {
		if path != desiredPrefix && !strings.HasPrefix(path, desiredPrefix+".") {
			return problem.New(problem.Invalid, "a configuration sets properties.desired or what is below it, not %q", path).At(field)
		}
	}
	return nil
}

// content is what the configuration gives to an identity of its source.
func (c Configuration) content() map[string]any {
	if c.source == query.FromModules {
		return nest(c.Content.Module)
	}
	return nest(c.Content.Device)
}

// nest turns paths into a document: {"properties.desired.a.b": 1} becomes
// {"a": {"b": 1}}.
func nest(content map[string]any) map[string]any {
	document := map[string]any{}
	paths := make([]string, 0, len(content))
	for path := range content {
		paths = append(paths, path)
	}
	slices.Sort(paths) // a shorter path first, so that longer ones add to it
	for _, path := range paths {
		put(document, strings.Split(strings.TrimPrefix(path, desiredPrefix), ".")[1:], content[path])
	}
	return document
}

func put(document map[string]any, keys []string, value any) {
	if len(keys) == 0 {
		if object, ok := value.(map[string]any); ok {
			for key, inner := range object {
				document[key] = inner
			}
		}
		return
	}
	if len(keys) == 1 {
		document[keys[0]] = value
		return
	}
	below, ok := document[keys[0]].(map[string]any)
	if !ok {
		below = map[string]any{}
		document[keys[0]] = below
	}
	put(below, keys[1:], value)
}

// winner returns the configuration that an identity follows, and all that
// target it. all is in order of precedence.
func winner(all []Configuration, source query.Source, names query.Names) (first *Configuration, targeting []string) {
	for i := range all {
		c := &all[i]
		if c.source != source || c.condition != nil && !c.condition.Eval(names) {
			continue
		}
		targeting = append(targeting, c.ID)
		if first == nil {
			first = c
		}
	}
	return first, targeting
}

func decode(text []byte) (content map[string]any, err error) {
	return content, json.Unmarshal(text, &content)
}
