// Package flag evaluates feature flags as flagd defines them: a flag has
// variants, a state, a default and rules in JsonLogic that choose a variant for
// who asks. It does no I/O and knows no clock.
package flag

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"regexp"
	"slices"

	"github.com/slipway/slipway/internal/problem"
)

// Document is a set of feature flags as flagd defines it.
type Document struct {
	Flags      map[string]Flag            `json:"flags"`
	Evaluators map[string]json.RawMessage `json:"$evaluators,omitempty"`
	Metadata   map[string]any             `json:"metadata,omitempty"`
	Schema     string                     `json:"$schema,omitempty"`
}

// Flag is one feature flag.
type Flag struct {
	State          string                     `json:"state" enum:"ENABLED,DISABLED"`
	Variants       map[string]json.RawMessage `json:"variants" doc:"Values by name, all of one type"`
	DefaultVariant *string                    `json:"defaultVariant,omitempty" doc:"Whose value they get for whom no rule chooses"`
	Targeting      json.RawMessage            `json:"targeting,omitempty" doc:"A rule in JsonLogic that chooses a variant"`
	Metadata       map[string]any             `json:"metadata,omitempty" doc:"owner, description, removeBy (a date), devices (true: in the twins of devices), and more"`
}

// The states of a flag.
const (
	Enabled  = "ENABLED"
	Disabled = "DISABLED"
)

// What metadata of a flag means something to us.
const (
	MetaOwner    = "owner"    // who is asked what it is still for
	MetaRemoveBy = "removeBy" // the day by which it is to be gone, such as 2027-01-31
	MetaDevices  = "devices"  // true: its value stands in the twins of devices
	MetaKilled   = "killed"   // set by us while its kill switch is thrown
)

const (
	maxFlags    = 1000
	maxVariants = 100
	maxRule     = 64 << 10
)

var keyForm = regexp.MustCompile(`^[A-Za-z0-9._-]{1,128}$`)

// Parse reads a document and checks it. Nothing at all is a document without
// flags.
func Parse(text json.RawMessage) (d Document, err error) {
	if len(text) == 0 {
		return d, nil
	}
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&d); err != nil {
		return d, problem.New(problem.Invalid, "flags are a document as flagd reads it: %w", err)
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return d, problem.New(problem.Invalid, "there is something after the flags")
	}
	return d, d.check()
}

func (d Document) check() error {
	if len(d.Flags) > maxFlags {
		return problem.New(problem.Invalid, "there are at most %d flags, not %d", maxFlags, len(d.Flags)).At("flags")
	}
	for key, rule := range d.Evaluators {
		if kindOf(rule) != "object" {
			return problem.New(problem.Invalid, "an evaluator is a rule, which is an object").At("$evaluators." + key)
		}
	}
	for _, key := range slices.Sorted(maps.Keys(d.Flags)) {
		if err := d.Flags[key].check(key, d.Evaluators); err != nil {
			return within("flags."+key, err)
		}
	}
	return nil
}

// CheckKey holds a flag's key against what clients can ask for: some put it
// into a path as it is.
func CheckKey(key string) error {
	if !keyForm.MatchString(key) {
		return problem.New(problem.Invalid, "a flag's key has 1 to 128 of letters, digits and '._-', unlike %q", key)
	}
	return nil
}

// Check refuses a flag that could not be evaluated.
func (f Flag) Check(key string) error { return f.check(key, nil) }

func (f Flag) check(key string, evaluators map[string]json.RawMessage) error {
	if err := CheckKey(key); err != nil {
		return err
	}
	switch {
	case f.State != Enabled && f.State != Disabled:
		return problem.New(problem.Invalid, "a flag's state is ENABLED or DISABLED, not %q", f.State)
	case len(f.Variants) == 0 || len(f.Variants) > maxVariants:
		return problem.New(problem.Invalid, "a flag has 1 to %d variants, not %d", maxVariants, len(f.Variants))
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
	_, err := compileRule(f.Targeting, evaluators)
	return err
}

// Off is the variant of a flag that switches its feature off, as far as its
// variants tell: the only false one of a boolean flag, or one named off.
func (f Flag) Off() (variant string, found bool) {
	if _, named := f.Variants["off"]; named {
		return "off", true
	}
	for _, name := range slices.Sorted(maps.Keys(f.Variants)) {
		if string(f.Variants[name]) == "false" {
			return name, true
		}
	}
	return "", false
}

// Overlay is what one environment says of a flag beside its definition.
type Overlay struct {
	State          string          `json:"state,omitempty" enum:"ENABLED,DISABLED"`
	DefaultVariant *string         `json:"defaultVariant,omitempty"`
	Targeting      json.RawMessage `json:"targeting,omitempty" doc:"Instead of the definition's rule; {} is none"`
	Killed         string          `json:"killed,omitempty" doc:"The variant that everybody gets, whatever else is said"`
}

// Plain reports whether the overlay says nothing.
func (o Overlay) Plain() bool {
	return o.State == "" && o.DefaultVariant == nil && len(o.Targeting) == 0 && o.Killed == ""
}

// Under is the flag as it is in an environment.
func (f Flag) Under(o Overlay) Flag {
	if o.State != "" {
		f.State = o.State
	}
	if o.DefaultVariant != nil {
		f.DefaultVariant = o.DefaultVariant
	}
	if len(o.Targeting) > 0 {
		f.Targeting = o.Targeting
	}
	if _, known := f.Variants[o.Killed]; known && o.Killed != "" {
		f.State, f.DefaultVariant, f.Targeting = Enabled, &o.Killed, nil
		f.Metadata = maps.Clone(f.Metadata)
		if f.Metadata == nil {
			f.Metadata = map[string]any{}
		}
		f.Metadata[MetaKilled] = true
	}
	return f
}

// kindOf names the type of a JSON value.
func kindOf(text json.RawMessage) string {
	var value any
	if err := json.Unmarshal(text, &value); err != nil {
		return "nothing"
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
	case []any:
		return "list"
	}
	return "null"
}

// within says that what is wrong is inside a field.
func within(field string, err error) error {
	p := problem.Of(err)
	if p.Field != "" {
		field += "." + p.Field
	}
	return p.At(field)
}
