// Package propertybag reads and writes the property bag that ends the topic of
// a message between device and hub: key=value pairs joined by '&', each side
// percent-encoded. Keys that start with '$' are system properties.
package propertybag

import (
	"fmt"
	"net/url"
	"sort"
	"strings"

	"github.com/slipway/slipway/internal/problem"
)

// Property is one entry. A key without '=' has no value, which is not the
// same as an empty one.
type Property struct {
	Key, Value string
	NoValue    bool
}

// MaxProperties bounds the entries of one bag.
const MaxProperties = 256

// Parse reads a bag. Keys may repeat; readers take the last.
func Parse(bag string) ([]Property, error) {
	if bag == "" {
		return nil, nil
	}
	if n := strings.Count(bag, "&") + 1; n > MaxProperties {
		return nil, problem.New(problem.Invalid, "a message has %d properties, more than the %d allowed", n, MaxProperties)
	}
	var all []Property
	for entry := range strings.SplitSeq(bag, "&") {
		if entry == "" {
			continue
		}
		name, value, hasValue := strings.Cut(entry, "=")
		key, err := url.PathUnescape(name)
		if err != nil {
			return nil, problem.New(problem.Invalid, "property name %q is not percent-encoded correctly", name)
		}
		if key == "" {
			return nil, problem.New(problem.Invalid, "a property has no name")
		}
		text, err := url.PathUnescape(value)
		if err != nil {
			return nil, problem.New(problem.Invalid, "the value of property %q is not percent-encoded correctly", key)
		}
		all = append(all, Property{key, text, !hasValue})
	}
	return all, nil
}

// Encode writes a bag; Parse reads it back to the same properties.
func Encode(all []Property) string {
	var b strings.Builder
	for i, p := range all {
		if i > 0 {
			b.WriteByte('&')
		}
		b.WriteString(escape(p.Key))
		if !p.NoValue {
			b.WriteByte('=')
			b.WriteString(escape(p.Value))
		}
	}
	return b.String()
}

// escape leaves the unreserved characters of RFC 3986 alone, and encodes the
// rest, spaces as %20: '+' means itself here.
func escape(s string) string {
	plain := true
	for i := range len(s) {
		plain = plain && unreserved(s[i])
	}
	if plain {
		return s
	}
	var b strings.Builder
	for i := range len(s) {
		if unreserved(s[i]) {
			b.WriteByte(s[i])
		} else {
			fmt.Fprintf(&b, "%%%02X", s[i])
		}
	}
	return b.String()
}

func unreserved(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || strings.IndexByte("-_.~", c) >= 0
}

// FromMap makes application properties of a map, in order of key.
func FromMap(values map[string]string) []Property {
	all := make([]Property, 0, len(values))
	for key, value := range values {
		all = append(all, Property{Key: key, Value: value})
	}
	sort.Slice(all, func(i, j int) bool { return all[i].Key < all[j].Key })
	return all
}

// systemNames are the system properties a device may set, by their short key.
var systemNames = map[string]string{
	"$.mid": "messageId", "$.cid": "correlationId", "$.uid": "userId", "$.to": "to",
	"$.ct": "contentType", "$.ce": "contentEncoding", "$.exp": "expiryTime",
	"$.ctime": "creationTime", "$.on": "outputName", "$.ifid": "interfaceId",
	"$.sub": "dt-subject", "$.schema": "schema",
}

// Split tells system properties, by their full names, from application ones.
func Split(all []Property) (system, application map[string]string) {
	system, application = map[string]string{}, map[string]string{}
	for _, p := range all {
		if name, ok := systemNames[p.Key]; ok {
			system[name] = p.Value
		} else {
			application[p.Key] = p.Value
		}
	}
	return system, application
}

// Size is what a bag counts against the limit of a message: the values of
// system properties, names and values of application properties.
func Size(all []Property) int {
	total := 0
	for _, p := range all {
		total += len(p.Value)
		if _, system := systemNames[p.Key]; !system {
			total += len(p.Key)
		}
	}
	return total
}
