package slipway

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/big"
	"reflect"
	"slices"

	"github.com/hashicorp/terraform-plugin-go/tftypes"

	"github.com/slipway/slipway/internal/resource"
)

// spoken is what a configuration says, as JSON for the API; what it leaves out
// is left out. known is false where it says something that is not known yet.
func (f field) spoken(v tftypes.Value) (said any, known bool, err error) {
	if !v.IsKnown() {
		return nil, false, nil
	}
	if v.IsNull() {
		return nil, true, nil
	}
	known = true
	switch f.form {
	case text:
		var s string
		err = v.As(&s)
		return s, true, err
	case document:
		var s string
		if err := v.As(&s); err != nil {
			return nil, true, err
		}
		return json.RawMessage(s), true, nil
	case boolean:
		var b bool
		err = v.As(&b)
		return b, true, err
	case integer, number:
		n := new(big.Float)
		err = v.As(&n)
		return json.Number(n.Text('f', -1)), true, err
	case list:
		var elements []tftypes.Value
		if err := v.As(&elements); err != nil {
			return nil, true, err
		}
		all := []any{}
		for _, element := range elements {
			one, ok, err := f.of.spoken(element)
			if err != nil {
				return nil, true, err
			}
			all, known = append(all, one), known && ok
		}
		return all, known, nil
	}
	var elements map[string]tftypes.Value
	if err := v.As(&elements); err != nil {
		return nil, true, err
	}
	all := map[string]any{}
	for name, element := range elements {
		member, key := f.of, name
		if f.form == object {
			if member = f.member(name); member == nil {
				continue // name and etag, which are no part of the spec
			}
			key = member.key
		}
		one, ok, err := member.spoken(element)
		if err != nil {
			return nil, true, err
		}
		if known = known && ok; one != nil {
			all[key] = one
		}
	}
	return all, known, nil
}

func (f field) member(name string) *field {
	i := slices.IndexFunc(f.members, func(m field) bool { return m.name == name })
	if i < 0 {
		return nil
	}
	return &f.members[i]
}

// told is a value as the installation tells it, beside what is known already:
// a state to refresh, or a configuration to complete. A secret is never told,
// so it stays as it is known. With stands, what is known stands, and the
// installation says the rest.
func (f field) told(t tftypes.Type, server any, before tftypes.Value, stands bool) (tftypes.Value, error) {
	is := before.Type() != nil && before.IsKnown() && !before.IsNull()
	if is && f.keeps(server, before, stands) {
		return before, nil
	}
	if server == nil && !(is && stands) || f.secret && server == resource.Mask {
		return tftypes.NewValue(t, nil), nil
	}
	switch f.form {
	case list:
		return f.toldList(t, server, before, is, stands)
	case mapping, object:
		return f.toldMembers(t, server, before, is, stands)
	case document:
		text, err := json.Marshal(server)
		return tftypes.NewValue(t, string(text)), err
	case integer, number:
		n, ok := new(big.Float).SetString(fmt.Sprint(server))
		if !ok {
			return tftypes.Value{}, fmt.Errorf("%s: the installation says %v, which is no number", f.key, server)
		}
		return tftypes.NewValue(t, n), nil
	}
	if err := tftypes.ValidateValue(t, server); err != nil {
		return tftypes.Value{}, fmt.Errorf("%s: the installation says what this provider does not understand: %w", f.key, err)
	}
	return tftypes.NewValue(t, server), nil
}

// keeps tells whether a known value stays, whatever the installation says, or
// as it says the same in other words.
func (f field) keeps(server any, before tftypes.Value, stands bool) bool {
	leaf := f.form != list && f.form != mapping && f.form != object
	switch {
	case stands && leaf, f.secret && leaf && (server == nil || server == resource.Mask), !stands && server == nil && nothing(before):
		return true
	case f.form == document:
		var text string
		var known any
		return before.As(&text) == nil && decode([]byte(text), &known) == nil && reflect.DeepEqual(known, server)
	}
	return false
}

// nothing tells whether a value says no more than one left out: the API leaves
// out zero, false, and what is empty.
func nothing(v tftypes.Value) bool {
	if v.IsNull() {
		return true
	}
	var text string
	var flag bool
	n := new(big.Float)
	var elements []tftypes.Value
	var members map[string]tftypes.Value
	switch {
	case v.As(&text) == nil:
		return text == ""
	case v.As(&flag) == nil:
		return !flag
	case v.As(&n) == nil:
		return n.Sign() == 0
	case v.As(&elements) == nil:
		return len(elements) == 0
	case v.As(&members) == nil:
		for _, m := range members {
			if !nothing(m) {
				return false
			}
		}
		return true
	}
	return false
}

func (f field) toldList(t tftypes.Type, server any, before tftypes.Value, is, stands bool) (tftypes.Value, error) {
	var known []tftypes.Value
	if is {
		if err := before.As(&known); err != nil {
			return tftypes.Value{}, err
		}
	}
	said, _ := server.([]any)
	size := len(said)
	if is && stands {
		size = len(known)
	}
	element := t.(tftypes.List).ElementType
	all := make([]tftypes.Value, 0, size)
	for i := range size {
		var one any
		was := tftypes.NewValue(element, nil)
		if i < len(said) {
			one = said[i]
		}
		if i < len(known) {
			was = known[i]
		}
		v, err := f.of.told(element, one, was, stands)
		if err != nil {
			return v, err
		}
		all = append(all, v)
	}
	return tftypes.NewValue(t, all), nil
}

func (f field) toldMembers(t tftypes.Type, server any, before tftypes.Value, is, stands bool) (tftypes.Value, error) {
	known := map[string]tftypes.Value{}
	if is {
		if err := before.As(&known); err != nil {
			return tftypes.Value{}, err
		}
	}
	said, _ := server.(map[string]any)
	all := map[string]tftypes.Value{}
	one := func(member field, name string, kind tftypes.Type, server any) error {
		was, there := known[name]
		if !there {
			was = tftypes.NewValue(kind, nil)
		}
		v, err := member.told(kind, server, was, stands)
		all[name] = v
		return err
	}
	if f.form == object {
		for _, m := range f.members {
			if err := one(m, m.name, t.(tftypes.Object).AttributeTypes[m.name], said[m.key]); err != nil {
				return tftypes.Value{}, err
			}
		}
		return tftypes.NewValue(t, all), nil
	}
	names := said
	if is && stands {
		names = map[string]any{}
		for name := range known {
			names[name] = said[name]
		}
	}
	for name, value := range names {
		if err := one(*f.of, name, t.(tftypes.Map).ElementType, value); err != nil {
			return tftypes.Value{}, err
		}
	}
	return tftypes.NewValue(t, all), nil
}

// decode reads JSON and keeps numbers as they are written.
func decode(text []byte, into any) error {
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.UseNumber()
	return decoder.Decode(into)
}
