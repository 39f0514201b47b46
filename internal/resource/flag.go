package resource

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/problem"
)

// FlagSet is a set of feature flags as flagd defines it.
type FlagSet struct {
	Flags      map[string]Flag            `json:"flags"`
	Evaluators map[string]json.RawMessage `json:"$evaluators,omitempty"`
	Metadata   map[string]any             `json:"metadata,omitempty"`
	Schema     string                     `json:"$schema,omitempty"`
}

// Flag is one feature flag.
type Flag struct {
	State          string                     `json:"state"`
	Variants       map[string]json.RawMessage `json:"variants"`
	DefaultVariant *string                    `json:"defaultVariant,omitempty"`
	Targeting      json.RawMessage            `json:"targeting,omitempty"`
	Metadata       map[string]any             `json:"metadata,omitempty"`
}

// FlagsOf reads the flags of a release; one without any has none.
func FlagsOf(s link.ReleaseSpec) (set FlagSet, err error) {
	if len(s.Flags) == 0 {
		return set, nil
	}
	if err := strictly(s.Flags, &set); err != nil {
		return set, problem.New(problem.Invalid, "flags are a document as flagd reads it: %w", err).At("spec.flags")
	}
	return set, nil
}

func checkFlags(text json.RawMessage) error {
	set, err := FlagsOf(link.ReleaseSpec{Flags: text})
	if err != nil {
		return err
	}
	if len(set.Flags) > maxFlags {
		return problem.New(problem.Invalid, "a release has at most %d flags, not %d", maxFlags, len(set.Flags)).At("spec.flags.flags")
	}
	for _, key := range slices.Sorted(maps.Keys(set.Flags)) {
		if err := checkFlag(key, set.Flags[key]); err != nil {
			return problem.Of(err).At("spec.flags.flags." + key)
		}
	}
	for key, rule := range set.Evaluators {
		if kindOf(rule) != "object" {
			return problem.New(problem.Invalid, "an evaluator is a rule, which is an object").At("spec.flags.$evaluators." + key)
		}
	}
	return nil
}

func checkFlag(key string, f Flag) error {
	switch {
	case !flagKey.MatchString(key):
		return problem.New(problem.Invalid, "a flag's key has 1 to 128 of letters, digits and '._-', unlike %q", key)
	case f.State != "ENABLED" && f.State != "DISABLED":
		return problem.New(problem.Invalid, "a flag's state is ENABLED or DISABLED, not %q", f.State)
	case len(f.Variants) == 0 || len(f.Variants) > 100:
		return problem.New(problem.Invalid, "a flag has 1 to 100 variants, not %d", len(f.Variants))
	case len(f.Targeting) > 0 && kindOf(f.Targeting) != "object":
		return problem.New(problem.Invalid, "targeting is a rule, which is an object")
	}
	kind := ""
	for _, name := range slices.Sorted(maps.Keys(f.Variants)) {
		this := kindOf(f.Variants[name])
		if !slices.Contains([]string{"boolean", "number", "string", "object"}, this) {
			return problem.New(problem.Invalid, "variant %s is a boolean, a number, a text or an object, not %s", name, this)
		}
		if kind != "" && this != kind {
			return problem.New(problem.Invalid, "all variants are of one type, unlike %s, which is a %s beside a %s", name, this, kind)
		}
		kind = this
	}
	if f.DefaultVariant != nil {
		if _, known := f.Variants[*f.DefaultVariant]; !known {
			return problem.New(problem.Invalid, "the default variant %q is none of the variants", *f.DefaultVariant)
		}
	}
	return nil
}

// kindOf is the type of a JSON value in flagd's words.
func kindOf(text json.RawMessage) string {
	var value any
	if json.Unmarshal(text, &value) != nil {
		return "unreadable"
	}
	switch value.(type) {
	case bool:
		return "boolean"
	case float64:
		return "number"
	case string:
		return "string"
	case map[string]any:
		return "object"
	case nil:
		return "null"
	}
	return fmt.Sprintf("%T", value)
}
