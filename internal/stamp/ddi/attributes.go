package ddi

import (
	"encoding/json"
	"maps"
	"reflect"
	"strings"

	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/problem"
)

// The limits of a device's attributes.
const (
	maxAttributes = 100
	maxAttribute  = 512
	maxKey        = 128
)

// apply is what becomes of attributes by a change.
func (c attributeChange) apply(before map[string]string) (map[string]string, error) {
	after := maps.Clone(before)
	if after == nil || c.mode == "replace" {
		after = map[string]string{}
	}
	for key, value := range c.data {
		if c.mode == "remove" {
			delete(after, key)
			continue
		}
		if key == "" || len(key) > maxKey || len(value) > maxAttribute {
			return nil, problem.New(problem.TooLarge, "an attribute has a name of 1 to %d bytes and a value of at most %d", maxKey, maxAttribute).At("data")
		}
		after[strings.ToValidUTF8(key, "�")] = bounded(value)
	}
	if len(after) > maxAttributes {
		return nil, problem.New(problem.TooLarge, "a device has at most %d attributes, not %d", maxAttributes, len(after)).At("data")
	}
	return after, nil
}

// softwarePrefix leads the attributes that name a software themselves.
const softwarePrefix = "software."

// read finds the hardware and what runs in attributes.
func (s Settings) read(attributes map[string]string) (hardware string, software map[string]string) {
	for _, key := range s.Hardware {
		if hardware = attributes[key]; hardware != "" {
			break
		}
	}
	for key, value := range attributes {
		name := s.Versions[key]
		if own, found := strings.CutPrefix(key, softwarePrefix); found {
			name = own
		}
		if name == "" || value == "" {
			continue
		}
		if software == nil {
			software = map[string]string{}
		}
		software[name] = value
	}
	return hardware, software
}

// attributes takes what a device says of itself.
func (e *Edge) attributes(q *request) error {
	text, err := read(q)
	if err != nil {
		return err
	}
	sent, err := decodeAttributes(text)
	if err != nil {
		return err
	}
	return e.change(q, func(s standing) (Record, *link.UpdateReport, error) {
		after, err := sent.apply(s.Attributes)
		if err != nil {
			return s.Record, nil, err
		}
		if s.Told && maps.Equal(after, s.Attributes) {
			return s.Record, nil, nil
		}
		hardware, software := e.Settings.read(after)
		r, report := s.Runs(hardware, software, s.current)
		r.Told, r.Attributes = true, after
		e.publish(q, r)
		return r, &report, nil
	})
}

// runs takes which version of a software a device says it runs.
func (e *Edge) runs(q *request) error {
	text, err := read(q)
	if err != nil {
		return err
	}
	var sent struct{ Name, Version string }
	if err := json.Unmarshal(text, &sent); err != nil || sent.Name == "" || sent.Version == "" || len(text) > 2*maxAttribute {
		return problem.New(problem.Invalid, `what is installed reads {"name":"firmware","version":"1.1.0"}`)
	}
	return e.change(q, func(s standing) (Record, *link.UpdateReport, error) {
		r, report := s.Runs("", map[string]string{bounded(sent.Name): bounded(sent.Version)}, s.current)
		return r, &report, nil
	})
}

// reportedProperty holds the attributes among a device's reported properties,
// for people and queries.
const reportedProperty = "ddi"

// publish puts the attributes into the device's twin. One that has no room for
// them keeps what it has.
func (e *Edge) publish(q *request, r Record) {
	shown := map[string]any{}
	for key, value := range r.Attributes {
		shown[propertyName(key)] = value
	}
	patch, err := json.Marshal(map[string]any{reportedProperty: map[string]any{"client": string(r.Client), "attributes": shown}})
	if err == nil {
		err = e.Hub.ReportFor(q.ctx, q.sender.DeviceID, patch)
	}
	if err != nil {
		e.Logger.Warn("attributes were not put into a twin", "device", q.sender.DeviceID, "error", err)
	}
}

// propertyName is a key as twins allow it.
func propertyName(key string) string {
	return strings.Map(func(c rune) rune {
		if c <= ' ' || c >= 0x7f && c <= 0x9f || c == '.' || c == '$' {
			return '_'
		}
		return c
	}, key)
}

func equal(a, b Record) bool { return reflect.DeepEqual(a, b) }
