// Package route decides what a route takes and what it makes of it: source,
// condition, enrichment. Pure: messages and twins come as values.
package route

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/stamp/query"
	"github.com/slipway/slipway/internal/stamp/telemetry"
)

// Rule is a route ready to be held against messages.
type Rule struct {
	source      string
	environment string
	where       *query.Condition // nil takes all
	enrich      []enrichment
}

// enrichment is one property to add.
type enrichment struct {
	name string
	path []string // into $twin, or nil
	text string
}

// Twin looks up the twin of a message's sender as decoded JSON; ok is false
// when there is none.
type Twin func() (document any, ok bool)

// Compile reads a route. Errors name the field.
func Compile(s link.RouteSpec) (*Rule, error) {
	r := &Rule{source: s.Source, environment: s.Environment}
	if strings.TrimSpace(s.Where) != "" {
		where, err := query.ParseMessage(s.Where)
		if err != nil {
			return nil, problem.Of(err).At("spec.where")
		}
		r.where = where
	}
	for _, name := range slices.Sorted(maps.Keys(s.Enrich)) {
		e, err := readEnrichment(name, s.Enrich[name])
		if err != nil {
			return nil, err
		}
		r.enrich = append(r.enrich, e)
	}
	return r, nil
}

// maxProperty bounds the text of a property that is added.
const maxProperty = 1024

func readEnrichment(name, value string) (enrichment, error) {
	at := "spec.enrich." + name
	if name == "" || len(name) > 128 {
		return enrichment{}, problem.New(problem.Invalid, "a property's name has 1 to 128 characters").At(at)
	}
	if len(value) > maxProperty {
		return enrichment{}, problem.New(problem.Invalid, "a property has at most %d characters, not %d", maxProperty, len(value)).At(at)
	}
	if !strings.HasPrefix(value, "$") || value == "$stamp" || value == "$environment" {
		return enrichment{name: name, text: value}, nil
	}
	path := strings.Split(value, ".")
	if path[0] != "$twin" || len(path) < 3 || !slices.Contains([]string{"tags", "properties"}, path[1]) {
		return enrichment{}, problem.New(problem.Invalid, "%q is not $stamp, $environment, $twin.tags.…, $twin.properties.desired.… or $twin.properties.reported.…", value).At(at)
	}
	return enrichment{name: name, path: path[1:]}, nil
}

// Take reports whether the route takes a message, and what it makes of it.
func (r *Rule) Take(m link.LogRecord, twin Twin) (link.LogRecord, bool) {
	if !telemetry.Of(r.source, m) {
		return m, false
	}
	if r.where != nil && !r.where.Eval(&names{record: m, twin: twin}) {
		return m, false
	}
	if len(r.enrich) == 0 {
		return m, true
	}
	properties := maps.Clone(m.Properties)
	if properties == nil {
		properties = map[string]string{}
	}
	for _, e := range r.enrich {
		if text, ok := e.value(m, r.environment, twin); ok {
			properties[e.name] = text
		}
	}
	m.Properties = properties
	return m, true
}

func (e enrichment) value(m link.LogRecord, environment string, twin Twin) (string, bool) {
	switch {
	case e.path == nil && e.text == "$stamp":
		return m.Stamp, true
	case e.path == nil && e.text == "$environment":
		return environment, true
	case e.path == nil:
		return e.text, true
	}
	document, ok := twin()
	if !ok {
		return "", false
	}
	value, ok := query.Dig(document, e.path)
	if !ok {
		return "", false
	}
	if text, isText := value.(string); isText {
		return text, true
	}
	text, err := json.Marshal(value)
	return string(text), err == nil
}

// names are what conditions know of a message.
type names struct {
	record  link.LogRecord
	twin    Twin
	body    any
	decoded bool
}

// systemNames are the names of conditions for what the hub stamps on a message.
var systemNames = map[string]string{
	"connectionDeviceId": "iothub-connection-device-id", "connectionModuleId": "iothub-connection-module-id",
	"connectionDeviceGenerationId": "iothub-connection-auth-generation-id", "connectionAuthMethod": "iothub-connection-auth-method",
	"messageSource": "iothub-message-source",
}

// Lookup implements query.Names.
func (n *names) Lookup(parts []string) (any, bool) {
	switch parts[0] {
	case "$body":
		return query.Dig(n.decode(), parts[1:])
	case "$twin":
		document, ok := n.twin()
		if !ok {
			return nil, false
		}
		path := parts[1:]
		if path[0] != "tags" {
			path = append([]string{"properties"}, path...) // the language leaves that out
		}
		return query.Dig(document, path)
	}
	if len(parts) != 1 {
		return nil, false
	}
	if system, ok := strings.CutPrefix(parts[0], "$"); ok {
		return n.system(system)
	}
	if value, ok := n.record.Properties[parts[0]]; ok {
		return value, true
	}
	// Operations of events are properties to the hub's routes.
	value, ok := n.record.SystemProperties[parts[0]]
	return value, ok
}

func (n *names) system(name string) (any, bool) {
	switch name {
	case "kind":
		return n.record.Kind, n.record.Kind != ""
	case "enqueuedTime":
		return n.record.EnqueuedTime.Format(time.RFC3339Nano), true
	case "connectionDeviceId":
		return n.record.DeviceID, true
	}
	if full, known := systemNames[name]; known {
		name = full
	}
	value, ok := n.record.SystemProperties[name]
	return value, ok
}

// decode reads the body once, where it is JSON.
func (n *names) decode() any {
	if !n.decoded {
		n.decoded = true
		if json.Unmarshal(n.record.Body, &n.body) != nil {
			n.body = nil
		}
	}
	return n.body
}
