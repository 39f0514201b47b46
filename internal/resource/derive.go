package resource

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/problem"
)

// Derived is an environment worked out of its blueprint and its differences.
type Derived struct {
	Environment EnvironmentSpec
	Stamps      map[string]StampSpec      // by the names they have there
	Routes      map[string]link.RouteSpec // by the names they have there
	Differs     []Differing
	// Redundant are differences that are none: the blueprint says the same.
	Redundant []string
}

// Differing is one difference, held against what the blueprint says.
type Differing struct {
	Path      string          `json:"path"`
	Blueprint json.RawMessage `json:"blueprint,omitempty" doc:"What the blueprint says; absent where it says nothing"`
	Here      json.RawMessage `json:"here,omitempty" doc:"What it is here; absent where it was removed"`
	Reason    string          `json:"reason"`
}

// Own is what an environment made from a blueprint says itself: all else is
// the blueprint's.
func (s EnvironmentSpec) Own() EnvironmentSpec {
	if s.Blueprint == "" {
		return s
	}
	return EnvironmentSpec{DisplayName: s.DisplayName, PromotesFrom: s.PromotesFrom, Blueprint: s.Blueprint, Differences: s.Differences}
}

// Derive works an environment out of its blueprint and what it declares.
func Derive(b BlueprintSpec, name string, declared EnvironmentSpec) (d Derived, err error) {
	if err := checkDifferences(declared.Differences); err != nil {
		return d, err
	}
	document, err := asDocument(b)
	if err != nil {
		return d, err
	}
	share := 1.0
	for i, one := range declared.Differences {
		field := fmt.Sprintf("spec.differences[%d]", i)
		if one.Path == PathScale {
			if share, err = Scale(one.Value); err != nil {
				return d, problem.Of(err).At(field + ".value")
			}
			d.Differs = append(d.Differs, Differing{Path: one.Path, Blueprint: text(1), Here: text(one.Value), Reason: one.Reason})
			continue
		}
		before, after, err := alter(document, one)
		if err != nil {
			return d, problem.Of(err).At(field + ".path")
		}
		if reflect.DeepEqual(before, after) {
			d.Redundant = append(d.Redundant, one.Path)
		}
		d.Differs = append(d.Differs, Differing{Path: one.Path, Blueprint: text(before), Here: text(after), Reason: one.Reason})
	}
	whole, err := asBlueprint(document)
	if err != nil {
		return d, err
	}
	return d, d.fill(whole, name, declared, share)
}

// fill puts names to what a blueprint, changed as an environment says, has.
func (d *Derived) fill(whole BlueprintSpec, name string, declared EnvironmentSpec, share float64) error {
	if err := whole.Check(); err != nil {
		p := problem.Of(err)
		return problem.New(p.Kind, "as the differences leave it, %s: %s", strings.TrimPrefix(p.Field, "spec."), p.Message).At("spec.differences")
	}
	d.Environment = whole.Environment
	d.Environment.DisplayName, d.Environment.PromotesFrom = declared.DisplayName, declared.PromotesFrom
	d.Environment.Blueprint, d.Environment.Differences = declared.Blueprint, declared.Differences
	if err := d.Environment.Check(name); err != nil {
		return err
	}
	d.Stamps, d.Routes = map[string]StampSpec{}, map[string]link.RouteSpec{}
	for _, s := range scaled(whole.Stamps, share) {
		own := name + "-" + s.Name
		if err := CheckName(KindStamp, own); err != nil {
			return problem.New(problem.Invalid, "its stamp %s could not be called %s: a name has 63 characters at most", s.Name, own).At("metadata.name")
		}
		spec, err := s.Spec(name).Check()
		if err != nil {
			return err
		}
		d.Stamps[own] = spec
	}
	for _, r := range whole.Routes {
		own := name + "-" + r.Name
		if err := CheckName(KindRoute, own); err != nil {
			return problem.New(problem.Invalid, "its route %s could not be called %s: a name has 63 characters at most", r.Name, own).At("metadata.name")
		}
		r.Spec.Environment = name
		spec, err := CheckRoute(r.Spec)
		if err != nil {
			return err
		}
		d.Routes[own] = spec
	}
	return nil
}

func checkDifferences(all []Difference) error {
	if len(all) > maxDifferences {
		return problem.New(problem.Invalid, "an environment has at most %d differences, not %d; is it of another blueprint?", maxDifferences, len(all)).At("spec.differences")
	}
	seen := map[string]bool{}
	for i, one := range all {
		field := fmt.Sprintf("spec.differences[%d]", i)
		switch {
		case strings.TrimSpace(one.Path) == "":
			return problem.New(problem.Invalid, "a difference says what differs, such as stamps[eu-1].capacity").At(field + ".path")
		case seen[one.Path]:
			return problem.New(problem.Invalid, "%s is said to differ twice", one.Path).At(field + ".path")
		case strings.TrimSpace(one.Reason) == "" || len(one.Reason) > maxReason:
			return problem.New(problem.Invalid, "%s differs, and a difference says why, in 1 to %d characters", one.Path, maxReason).At(field + ".reason")
		case one.Remove == (one.Value != nil):
			return problem.New(problem.Invalid, "a difference says a value, or remove: true, one of the two").At(field + ".value")
		}
		seen[one.Path] = true
	}
	return nil
}

// OnlyOwn refuses what an environment made from a blueprint states beside its
// differences, unless the blueprint says the same.
func (d Derived) OnlyOwn(declared EnvironmentSpec) error {
	own, _ := asMap(declared.Own())
	said, err := asMap(declared)
	if err != nil {
		return err
	}
	derived, err := asMap(d.Environment)
	if err != nil {
		return err
	}
	for key, value := range said {
		if _, itsOwn := own[key]; !itsOwn && !reflect.DeepEqual(value, derived[key]) {
			return problem.New(problem.Invalid, "blueprint %s says what this is; where the environment differs it says so under differences, with a reason", declared.Blueprint).At("spec." + key)
		}
	}
	if len(d.Redundant) > 0 {
		return problem.New(problem.Invalid, "%s is no difference: the blueprint says the same", d.Redundant[0]).At("spec.differences")
	}
	return nil
}

func asMap(v any) (m map[string]any, err error) {
	err = again(v, &m)
	return m, err
}

// again reads what a value is as JSON into another form.
func again(v, into any) error {
	raw, err := json.Marshal(v)
	if err != nil {
		return err
	}
	decoder := json.NewDecoder(bytes.NewReader(raw))
	decoder.UseNumber()
	return decoder.Decode(into)
}

func text(v any) json.RawMessage {
	if v == nil {
		return nil
	}
	raw, err := json.Marshal(v)
	if err != nil {
		return nil
	}
	return raw
}

// asDocument is a blueprint as its members by name, with every list that it
// may have, so that differences can add to them.
func asDocument(b BlueprintSpec) (map[string]any, error) {
	document, err := asMap(b)
	for _, list := range []string{"stamps", "routes"} {
		if err == nil && document[list] == nil {
			document[list] = []any{}
		}
	}
	return document, err
}

func asBlueprint(document map[string]any) (b BlueprintSpec, err error) {
	raw, err := json.Marshal(document)
	if err != nil {
		return b, err
	}
	decoder := json.NewDecoder(bytes.NewReader(raw))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&b); err != nil {
		return b, problem.New(problem.Invalid, "as the differences leave it the blueprint makes no sense: %s", strings.TrimPrefix(err.Error(), "json: ")).At("spec.differences")
	}
	return b, nil
}

// leg is one step of a path: a member, or an item of a list by its name.
type leg struct {
	key  string
	item bool
}

// legs reads a path such as stamps[eu-1].capacity.
func legs(path string) (all []leg, err error) {
	for step := range strings.SplitSeq(path, ".") {
		key, rest, listed := strings.Cut(step, "[")
		if key != "" {
			all = append(all, leg{key: key})
		}
		for listed {
			var inner string
			var closed bool
			inner, rest, closed = strings.Cut(rest, "]")
			if !closed || inner == "" {
				return nil, problem.New(problem.Invalid, "%s is no path; one reads stamps[eu-1].capacity or environment.access", path)
			}
			all = append(all, leg{inner, true})
			if rest == "" {
				break
			}
			_, rest, listed = strings.Cut(rest, "[")
		}
		if key == "" && !listed {
			return nil, problem.New(problem.Invalid, "%s is no path; one reads stamps[eu-1].capacity or environment.access", path)
		}
	}
	return all, nil
}

// alter changes a document as a difference says, and tells what was and what
// is there.
func alter(document map[string]any, one Difference) (before, after any, err error) {
	path, err := legs(one.Path)
	if err != nil {
		return nil, nil, err
	}
	if !one.Remove {
		if err := again(one.Value, &after); err != nil {
			return nil, nil, err
		}
	}
	_, before, err = set(document, path, after, one)
	return before, after, err
}

// set puts a value at a path below a node and returns the node as it is then,
// and what was there.
func set(node any, path []leg, value any, one Difference) (changed, before any, err error) {
	if len(path) == 0 {
		return value, node, nil
	}
	step, last := path[0], len(path) == 1
	if step.item {
		return setItem(node, step.key, path[1:], value, one)
	}
	members, ok := node.(map[string]any)
	if node == nil && !one.Remove {
		members, ok = map[string]any{}, true
	}
	if !ok {
		return nil, nil, problem.New(problem.Invalid, "the blueprint has nothing at %s", one.Path)
	}
	if last && one.Remove {
		if _, there := members[step.key]; !there {
			return nil, nil, problem.New(problem.Invalid, "the blueprint has nothing at %s that could be removed", one.Path)
		}
		before = members[step.key]
		delete(members, step.key)
		return members, before, nil
	}
	members[step.key], before, err = set(members[step.key], path[1:], value, one)
	return members, before, err
}

// setItem is set for an item of a list, by its name or its number. One that is
// not there is added when all of it is said.
func setItem(node any, key string, rest []leg, value any, one Difference) (changed, before any, err error) {
	list, _ := node.([]any)
	i := slices.IndexFunc(list, func(item any) bool {
		members, ok := item.(map[string]any)
		return ok && members["name"] == key
	})
	if n, err := strconv.Atoi(key); i < 0 && err == nil && n >= 0 && n < len(list) {
		i = n
	}
	switch {
	case i < 0 && (one.Remove || len(rest) > 0):
		return nil, nil, problem.New(problem.Invalid, "the blueprint has no %s in %s", key, one.Path)
	case i < 0:
		item, ok := value.(map[string]any)
		if !ok {
			return nil, nil, problem.New(problem.Invalid, "%s is not in the blueprint; to add it, say all of it", one.Path)
		}
		item["name"] = key
		return append(list, item), nil, nil
	case len(rest) == 0 && one.Remove:
		return slices.Delete(slices.Clone(list), i, i+1), list[i], nil
	case len(rest) == 0:
		if item, ok := value.(map[string]any); ok && item["name"] == nil {
			item["name"] = key
		}
	}
	list[i], before, err = set(list[i], rest, value, one)
	return list, before, err
}

// Leaves are the values of a blueprint by their paths, without those that
// differences speak of.
func Leaves(b BlueprintSpec, differs []Differing) map[string]json.RawMessage {
	all := map[string]json.RawMessage{}
	document, err := asMap(b)
	if err != nil {
		return all
	}
	scaledTo := slices.ContainsFunc(differs, func(d Differing) bool { return d.Path == PathScale })
	leaves("", document, func(path string, value any) {
		for _, d := range differs {
			if path == d.Path || strings.HasPrefix(path, d.Path+".") || strings.HasPrefix(path, d.Path+"[") {
				return
			}
		}
		if scaledTo && strings.HasPrefix(path, "stamps[") && strings.HasSuffix(path, ".capacity") {
			return
		}
		all[path] = text(value)
	})
	return all
}

// leaves calls fn for every value below a node that has none below it. Items
// of lists go by their names, where they have some.
func leaves(path string, node any, fn func(path string, value any)) {
	switch node := node.(type) {
	case map[string]any:
		for key, value := range node {
			leaves(strings.TrimPrefix(path+"."+key, "."), value, fn)
		}
	case []any:
		for i, value := range node {
			members, object := value.(map[string]any)
			if !object {
				fn(path, node)
				return
			}
			key, named := members["name"].(string)
			if !named {
				key = strconv.Itoa(i)
			}
			leaves(path+"["+key+"]", value, fn)
		}
	default:
		fn(path, node)
	}
}
