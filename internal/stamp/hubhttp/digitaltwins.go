package hubhttp

import (
	"bytes"
	"encoding/json"
	"net/http"
	"strconv"
	"strings"

	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/stamp/twin"
)

// component marks a group of properties that is a component of the device's
// model, by the conventions of plug and play.
const component = "__t"

func isComponent(value any) bool {
	properties, ok := value.(twin.Document)
	return ok && properties[component] == "c"
}

// digitalTwin shows a twin by the device's model: what it reported, the
// components by their names, and beside that what is desired.
func digitalTwin(id, model string, t twin.Twin) twin.Document {
	view := modelled(t.Desired, t.Reported)
	view["$dtId"] = id
	view["$metadata"].(twin.Document)["$model"] = model
	return view
}

// modelled is a component, or the device as a whole, as its model has it.
func modelled(desired, reported twin.Section) twin.Document {
	view, about := twin.Document{}, twin.Document{}
	for _, values := range []twin.Document{desired.Values, reported.Values} {
		for name, value := range values {
			if isComponent(value) && view[name] == nil {
				view[name] = modelled(below(desired, name), below(reported, name))
			}
		}
	}
	for name, value := range reported.Values {
		if name != component && view[name] == nil {
			view[name], about[name] = acknowledged(value)
			about[name].(twin.Document)["lastUpdateTime"] = below(reported, name).Meta["$lastUpdated"]
		}
	}
	for name, value := range desired.Values {
		if name == component || isComponent(value) || isComponent(reported.Values[name]) {
			continue
		}
		if about[name] == nil {
			about[name] = twin.Document{}
		}
		property := about[name].(twin.Document)
		property["desiredValue"], property["desiredVersion"] = value, below(desired, name).Meta["$lastUpdatedVersion"]
	}
	view["$metadata"] = about
	return view
}

// below is the part of a section under a key; of what is no object, its times.
func below(s twin.Section, key string) twin.Section {
	part := twin.Section{Version: s.Version}
	if values, ok := s.Values[key].(twin.Document); ok {
		part.Values = values
	}
	if meta, ok := s.Meta[key].(twin.Document); ok {
		part.Meta = meta
	}
	return part
}

// acknowledged takes apart what a device reports of a property that is also
// desired: the value, and what it says of the wish.
func acknowledged(reported any) (value any, about twin.Document) {
	said, ok := reported.(twin.Document)
	code, version := said["ac"], said["av"]
	if value, given := said["value"]; ok && given && code != nil && version != nil {
		about := twin.Document{"ackCode": code, "ackVersion": version}
		if said["ad"] != nil {
			about["ackDescription"] = said["ad"]
		}
		return value, about
	}
	return reported, twin.Document{}
}

// operation is one of a JSON patch.
type operation struct {
	Op    string          `json:"op"`
	Path  string          `json:"path"`
	Value json.RawMessage `json:"value"`
}

// desiredOf turns a JSON patch of a digital twin into one of desired
// properties: a path has the name of a property, or of a component and one of
// its properties.
func desiredOf(operations []operation) (twin.Document, error) {
	desired := twin.Document{}
	for i, o := range operations {
		field := "[" + strconv.Itoa(i) + "]"
		parts := strings.Split(o.Path, "/")
		if len(parts) < 2 || len(parts) > 3 || parts[0] != "" || parts[1] == "" || strings.HasPrefix(parts[len(parts)-1], "$") {
			return nil, problem.New(problem.Invalid, "a path is /property, /component or /component/property, not %q", o.Path).At(field + ".path")
		}
		for j := range parts {
			parts[j] = strings.NewReplacer("~1", "/", "~0", "~").Replace(parts[j])
		}
		value, err := o.value()
		if err != nil {
			return nil, problem.Of(err).At(field)
		}
		if len(parts) == 2 {
			desired[parts[1]] = value
			continue
		}
		part, ok := desired[parts[1]].(twin.Document)
		if !ok {
			part = twin.Document{component: "c"}
			desired[parts[1]] = part
		}
		part[parts[2]] = value
	}
	return desired, nil
}

// value is what the operation has a property be; nil has it go. A component
// that is given whole comes with its $metadata.
func (o operation) value() (any, error) {
	switch o.Op {
	case "remove":
		return nil, nil
	case "add", "replace":
	default:
		return nil, problem.New(problem.Invalid, "an operation is add, replace or remove, not %q", o.Op).At("op")
	}
	var value any
	decoder := json.NewDecoder(bytes.NewReader(o.Value))
	decoder.UseNumber()
	if err := decoder.Decode(&value); err != nil {
		return nil, problem.New(problem.Invalid, "%s needs a value", o.Op).At("value")
	}
	if whole, ok := value.(twin.Document); ok && whole["$metadata"] != nil {
		delete(whole, "$metadata")
		whole[component] = "c"
	}
	return value, nil
}

func (e *Edge) getDigitalTwin(c *call) (answer, error) {
	entry, err := e.Hub.Devices.Entry(c.ctx, c.id())
	if err != nil {
		return answer{}, err
	}
	t, err := e.Hub.Twins.Get(c.ctx, c.id())
	if err != nil {
		return answer{}, err
	}
	return answer{body: digitalTwin(c.id(), entry.ModelID, t), etag: t.ETag()}, nil
}

func (e *Edge) patchDigitalTwin(c *call) (answer, error) {
	var operations []operation
	if err := c.decode(&operations); err != nil {
		return answer{}, err
	}
	desired, err := desiredOf(operations)
	if err != nil {
		return answer{}, coded{err, "InvalidDigitalTwinPatch", 400006}
	}
	patch, err := json.Marshal(twin.Document{"properties": twin.Document{"desired": desired}})
	if err != nil {
		return answer{}, err
	}
	changed, err := e.Hub.PatchTwin(c.ctx, link.PatchTwin{DeviceID: c.id(), IfMatch: c.ifMatch(), Patch: patch})
	return answer{status: http.StatusAccepted, etag: changed.ETag}, err
}

// command runs a command of the device's model, or of one of its components.
func (e *Edge) command(c *call) (answer, error) {
	sent := methodCall{Name: c.args[len(c.args)-1], Payload: c.body}
	if len(c.args) > 2 {
		sent.Name = c.args[1] + "*" + sent.Name
	}
	if len(c.body) > 0 && !json.Valid(c.body) {
		return answer{}, problem.New(problem.Invalid, "the argument of a command is JSON")
	}
	for name, into := range map[string]*int{"connectTimeoutInSeconds": &sent.ConnectTimeout, "responseTimeoutInSeconds": &sent.ResponseTimeout} {
		if text := c.r.URL.Query().Get(name); text != "" {
			n, err := strconv.Atoi(text)
			if err != nil {
				return answer{}, problem.New(problem.Invalid, "a number of seconds, not %q", text).At(name)
			}
			*into = n
		}
	}
	result, err := e.Hub.Invoke(c.ctx, sent.invoke(c.args[0]))
	if err != nil {
		return answer{}, methodFailure(err)
	}
	payload := result.Payload
	if len(payload) == 0 {
		payload = json.RawMessage("null")
	}
	return answer{body: payload, header: map[string]string{"X-Ms-Command-Statuscode": strconv.Itoa(result.Status)}}, nil
}
