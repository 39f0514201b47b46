package release

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/slipway/slipway/internal/flag"
	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/resource"
)

// The parts of a release that a change may be in.
const (
	PartRelease       = "release" // its type and the way back from it
	PartSoftware      = "software"
	PartConfiguration = "configuration"
	PartRoute         = "route"
	PartFlag          = "flag"
	PartMigration     = "migration"
	PartComponent     = "component"
)

// What became of it.
const (
	Added   = "added"
	Removed = "removed"
	Changed = "changed"
)

// Change is one difference between two releases.
type Change struct {
	Part   string `json:"part" enum:"release,software,configuration,route,flag,migration,component"`
	Action string `json:"action" enum:"added,removed,changed"`
	Name   string `json:"name" doc:"Of what changed"`
	Before string `json:"before,omitempty"`
	After  string `json:"after,omitempty"`
	Text   string `json:"text" doc:"The change as a sentence"`
}

// Side is one of two releases to be compared.
type Side struct {
	Spec       link.ReleaseSpec
	Components []Component
}

// Diff tells how b differs from a, part by part, in order of name.
func Diff(a, b Side) []Change {
	var all []Change
	all = append(all, header(a.Spec, b.Spec)...)
	all = append(all, software(a.Spec.Software, b.Spec.Software)...)
	all = append(all, configuration(a.Spec.Configuration, b.Spec.Configuration)...)
	all = append(all, routes(a.Spec.Routes, b.Spec.Routes)...)
	all = append(all, flags(a.Spec, b.Spec)...)
	all = append(all, migrations(a.Spec.Migrations, b.Spec.Migrations)...)
	return append(all, bills(a.Components, b.Components)...)
}

func change(part, name, before, after, text string) Change {
	action := Changed
	switch {
	case before == "":
		action = Added
	case after == "":
		action = Removed
	}
	return Change{part, action, name, before, after, text}
}

func header(a, b link.ReleaseSpec) (all []Change) {
	if a.Type != b.Type {
		all = append(all, change(PartRelease, "type", a.Type, b.Type, fmt.Sprintf("it is a %s release, not a %s release", b.Type, a.Type)))
	}
	if a.Rollback != b.Rollback {
		all = append(all, change(PartRelease, "rollback", a.Rollback, b.Rollback, fmt.Sprintf("the way back from it is %s, not %s", b.Rollback, a.Rollback)))
	}
	return all
}

// variant is software for one kind of hardware, or for all.
type variant struct{ name, hardware string }

func variants(all []link.Software) map[variant]link.Software {
	found := map[variant]link.Software{}
	for _, s := range all {
		kinds := s.Hardware
		if len(kinds) == 0 {
			kinds = []string{""}
		}
		for _, kind := range kinds {
			found[variant{s.Name, kind}] = s
		}
	}
	return found
}

// software compares piece by piece and hardware by hardware, and says together
// what became of several kinds of hardware alike.
func software(a, b []link.Software) []Change {
	before, after := variants(a), variants(b)
	keys := maps.Clone(before)
	maps.Copy(keys, after)
	sorted := slices.SortedFunc(maps.Keys(keys), func(x, y variant) int {
		return cmp.Or(strings.Compare(x.name, y.name), strings.Compare(x.hardware, y.hardware))
	})
	type outcome struct{ name, before, after string }
	kinds := map[outcome][]string{}
	var order []outcome
	for _, key := range sorted {
		old, had := before[key]
		fresh, has := after[key]
		if had && has && same(contentOf(old), contentOf(fresh)) {
			continue
		}
		o := outcome{key.name, old.Version, fresh.Version}
		if kinds[o] == nil {
			order = append(order, o)
		}
		kinds[o] = append(kinds[o], key.hardware)
	}
	var all []Change
	for _, o := range order {
		words := "software " + o.name
		switch {
		case o.before == "":
			words += " " + o.after + " added"
		case o.after == "":
			words += " " + o.before + " removed"
		case o.before != o.after:
			words += " from " + o.before + " to " + o.after
		default:
			words += " keeps its version " + o.after + " but is not the same"
		}
		if list := kinds[o]; list[0] != "" {
			words += " for " + strings.Join(list, ", ")
		}
		all = append(all, change(PartSoftware, o.name, o.before, o.after, words))
	}
	return all
}

// contentOf is what of software makes it what it is.
func contentOf(s link.Software) any {
	s.Hardware = nil
	return s
}

func same(a, b any) bool { return text(a) == text(b) }

// text is a value as JSON, with members in order of name.
func text(value any) string {
	plain, err := json.Marshal(value)
	if err != nil {
		return fmt.Sprint(value)
	}
	var any any
	if json.Unmarshal(plain, &any) != nil {
		return string(plain)
	}
	ordered, err := json.Marshal(any)
	if err != nil {
		return string(plain)
	}
	return string(ordered)
}

func configuration(a, b map[string]any) []Change {
	before, after := map[string]string{}, map[string]string{}
	leaves("", a, before)
	leaves("", b, after)
	return compared(before, after, func(key, old, fresh string) Change {
		words := fmt.Sprintf("configuration %s changed from %s to %s", key, old, fresh)
		switch {
		case old == "":
			words = fmt.Sprintf("configuration %s set to %s", key, fresh)
		case fresh == "":
			words = fmt.Sprintf("configuration %s no longer set (it was %s)", key, old)
		}
		return change(PartConfiguration, key, old, fresh, words)
	})
}

func leaves(path string, members map[string]any, into map[string]string) {
	for key, value := range members {
		at := strings.TrimPrefix(path+"."+key, ".")
		if inner, nested := value.(map[string]any); nested && len(inner) > 0 {
			leaves(at, inner, into)
			continue
		}
		into[at] = text(value)
	}
}

// compared tells what is not the same on both sides, in order of key.
func compared(before, after map[string]string, say func(key, old, fresh string) Change) (all []Change) {
	keys := maps.Clone(before)
	maps.Copy(keys, after)
	for _, key := range slices.Sorted(maps.Keys(keys)) {
		if before[key] != after[key] {
			all = append(all, say(key, before[key], after[key]))
		}
	}
	return all
}

// simply says that something was added, removed or changed.
func simply(part, noun string) func(key, old, fresh string) Change {
	return func(key, old, fresh string) Change {
		c := change(part, key, old, fresh, "")
		c.Text = fmt.Sprintf("%s %s %s", noun, key, c.Action)
		return c
	}
}

func routes(a, b []link.ReleaseRoute) []Change {
	of := func(all []link.ReleaseRoute) map[string]string {
		found := map[string]string{}
		for _, r := range all {
			found[r.Name] = text(r.Spec)
		}
		return found
	}
	targets := map[string]string{}
	for _, r := range append(slices.Clone(a), b...) {
		targets[r.Name] = r.Spec.Endpoint.String()
	}
	return compared(of(a), of(b), func(key, old, fresh string) Change {
		c := simply(PartRoute, "route")(key, old, fresh)
		c.Text += ", to " + targets[key]
		return c
	})
}

func migrations(a, b []link.Migration) []Change {
	of := func(all []link.Migration) map[string]string {
		found := map[string]string{}
		for _, m := range all {
			found[m.Name] = text(m)
		}
		return found
	}
	return compared(of(a), of(b), simply(PartMigration, "migration"))
}

func flags(a, b link.ReleaseSpec) []Change {
	before, after := flagsOf(a), flagsOf(b)
	old, fresh := map[string]string{}, map[string]string{}
	for key, f := range before {
		old[key] = text(f)
	}
	for key, f := range after {
		fresh[key] = text(f)
	}
	all := compared(old, fresh, simply(PartFlag, "flag"))
	for i, c := range all {
		if c.Action == Changed {
			all[i].Text = flagWords(c.Name, before[c.Name], after[c.Name])
		}
	}
	return all
}

// flagsOf are the flags of a release that was checked when it was made.
func flagsOf(s link.ReleaseSpec) map[string]flag.Flag {
	set, err := resource.FlagsOf(s)
	if err != nil {
		return nil
	}
	return set.Flags
}

func flagWords(key string, a, b flag.Flag) string {
	var words []string
	if a.State != b.State {
		words = append(words, fmt.Sprintf("is %s, not %s", b.State, a.State))
	}
	if old, fresh := defaultOf(a), defaultOf(b); old != fresh {
		words = append(words, fmt.Sprintf("default changed from %s to %s", old, fresh))
	}
	if !same(a.Variants, b.Variants) {
		words = append(words, "variants changed")
	}
	if !same(a.Targeting, b.Targeting) {
		words = append(words, "targeting changed")
	}
	if len(words) == 0 {
		words = []string{"metadata changed"}
	}
	return "flag " + key + ": " + strings.Join(words, ", ")
}

func defaultOf(f flag.Flag) string {
	if f.DefaultVariant == nil {
		return "none"
	}
	return *f.DefaultVariant
}

// bills compares components by their name; one whose only version changed is
// one change.
func bills(a, b []Component) (all []Change) {
	of := func(all []Component) map[string][]string {
		found := map[string][]string{}
		for _, c := range all {
			found[c.Name] = append(found[c.Name], cmp.Or(c.Version, "(no version)"))
		}
		for name := range found {
			slices.Sort(found[name])
			found[name] = slices.Compact(found[name])
		}
		return found
	}
	before, after := of(a), of(b)
	names := maps.Clone(before)
	maps.Copy(names, after)
	for _, name := range slices.Sorted(maps.Keys(names)) {
		gone := without(before[name], after[name])
		come := without(after[name], before[name])
		if len(gone) == 1 && len(come) == 1 {
			all = append(all, change(PartComponent, name, gone[0], come[0], fmt.Sprintf("component %s from %s to %s", name, gone[0], come[0])))
			continue
		}
		for _, version := range gone {
			all = append(all, change(PartComponent, name, version, "", fmt.Sprintf("component %s %s removed", name, version)))
		}
		for _, version := range come {
			all = append(all, change(PartComponent, name, "", version, fmt.Sprintf("component %s %s added", name, version)))
		}
	}
	return all
}

func without(all, some []string) (rest []string) {
	for _, one := range all {
		if !slices.Contains(some, one) {
			rest = append(rest, one)
		}
	}
	return rest
}
