package flag

import (
	"encoding/json"
	"maps"
	"slices"
	"time"

	"github.com/slipway/slipway/internal/problem"
)

// What a context holds for rules.
const (
	targetingKey  = "targetingKey"
	ownProperties = "$flagd"
	flagKey       = "flagKey"
	timestamp     = "timestamp"
)

// The reasons of a result, as OpenFeature names them.
const (
	ReasonStatic   = "STATIC"
	ReasonDefault  = "DEFAULT"
	ReasonMatch    = "TARGETING_MATCH"
	ReasonDisabled = "DISABLED"
	ReasonError    = "ERROR"
)

// The codes of failures, as OpenFeature names them.
const (
	CodeNotFound       = "FLAG_NOT_FOUND"
	CodeParse          = "PARSE_ERROR"
	CodeGeneral        = "GENERAL"
	CodeInvalidContext = "INVALID_CONTEXT"
)

// Evaluation is what somebody gets for a flag. Without a value they take their
// own default.
type Evaluation struct {
	Key          string          `json:"key"`
	Reason       string          `json:"reason,omitempty"`
	Value        json.RawMessage `json:"value,omitempty"`
	Variant      string          `json:"variant,omitempty"`
	Metadata     map[string]any  `json:"metadata,omitempty"`
	ErrorCode    string          `json:"errorCode,omitempty"`
	ErrorDetails string          `json:"errorDetails,omitempty"`
}

// Set is a document that can be evaluated. It never changes.
type Set struct {
	flags map[string]compiled
	keys  []string
}

type compiled struct {
	Flag
	rule any
	tell map[string]any // of its metadata, what clients can take
}

// Compile reads what the flags of a document are in an environment.
func Compile(d Document, overlays map[string]Overlay) (*Set, error) {
	s := &Set{flags: make(map[string]compiled, len(d.Flags)), keys: slices.Sorted(maps.Keys(d.Flags))}
	for key, f := range d.Flags {
		f = f.Under(overlays[key])
		rule, err := compileRule(f.Targeting, d.Evaluators)
		if err != nil {
			return nil, within("flags."+key, err)
		}
		s.flags[key] = compiled{f, rule, told(d.Metadata, f.Metadata)}
	}
	return s, nil
}

// told is the metadata that clients can take: text, numbers, true and false.
func told(of, its map[string]any) map[string]any {
	all := map[string]any{}
	for _, metadata := range []map[string]any{of, its} {
		for key, value := range metadata {
			switch value.(type) {
			case string, float64, bool:
				all[key] = value
			}
		}
	}
	return all
}

// Keys are the keys of all flags, in order.
func (s *Set) Keys() []string { return s.keys }

// Flag returns a flag as it is in the set.
func (s *Set) Flag(key string) (Flag, bool) {
	f, found := s.flags[key]
	return f.Flag, found
}

// Evaluate says what somebody gets for a flag. The context is theirs, with
// their targetingKey in it; it is not changed.
func (s *Set) Evaluate(key string, context map[string]any, now time.Time) Evaluation {
	f, found := s.flags[key]
	if !found {
		return Evaluation{Key: key, ErrorCode: CodeNotFound, ErrorDetails: "there is no flag " + key}
	}
	r := Evaluation{Key: key, Metadata: f.tell}
	switch {
	case f.State == Disabled:
		return f.byDefault(r, ReasonDisabled)
	case f.rule == nil && f.DefaultVariant == nil:
		return f.byDefault(r, ReasonDefault)
	case f.rule == nil:
		return f.byDefault(r, ReasonStatic)
	}
	data := maps.Clone(context)
	if data == nil {
		data = map[string]any{}
	}
	data[ownProperties] = map[string]any{flagKey: key, timestamp: float64(now.Unix())}
	value, err := apply(f.rule, data)
	if err != nil {
		return Evaluation{Key: key, ErrorCode: CodeGeneral, ErrorDetails: problem.Of(err).Message}
	}
	switch value := value.(type) {
	case nil:
		return f.byDefault(r, ReasonDefault)
	case bool:
		name := "false"
		if value {
			name = "true"
		}
		return f.chosen(r, name)
	case string:
		return f.chosen(r, value)
	}
	return Evaluation{Key: key, ErrorCode: CodeGeneral, ErrorDetails: "targeting of flag " + key + " chose no variant by name"}
}

// All evaluates every flag, in order of key.
func (s *Set) All(context map[string]any, now time.Time) []Evaluation {
	all := make([]Evaluation, len(s.keys))
	for i, key := range s.keys {
		all[i] = s.Evaluate(key, context, now)
	}
	return all
}

// byDefault is the default variant's value. Clients that know no result
// without a value get it for a disabled flag, too.
func (f compiled) byDefault(r Evaluation, reason string) Evaluation {
	r.Reason = reason
	if f.DefaultVariant != nil {
		r.Variant, r.Value = *f.DefaultVariant, f.Variants[*f.DefaultVariant]
	}
	return r
}

func (f compiled) chosen(r Evaluation, variant string) Evaluation {
	value, known := f.Variants[variant]
	if !known {
		return Evaluation{Key: r.Key, ErrorCode: CodeGeneral, ErrorDetails: "targeting of flag " + r.Key + " chose " + variant + ", which is none of its variants"}
	}
	r.Reason, r.Variant, r.Value = ReasonMatch, variant, value
	return r
}
