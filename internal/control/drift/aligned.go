package drift

import (
	"slices"
	"strconv"
	"strings"
)

// aligned writes two values so that what is left between them differs: what
// means the same in both is written as it is in declared, and lists that are
// sets have what they share first.
func aligned(path string, declared, live any, sets []string) (d, l any) {
	switch one := declared.(type) {
	case map[string]any:
		if other, ok := live.(map[string]any); ok {
			return alignedMembers(path, one, other, sets)
		}
	case []any:
		other, ok := live.([]any)
		if !ok {
			break
		}
		if slices.ContainsFunc(sets, func(s string) bool { return covers(s, path) }) {
			one, other = paired(one, other)
		}
		one, other = slices.Clone(one), slices.Clone(other)
		for i := range min(len(one), len(other)) {
			one[i], other[i] = aligned(path+"/"+strconv.Itoa(i), one[i], other[i], sets)
		}
		return one, other
	}
	if Same(declared, live) {
		return declared, declared
	}
	return declared, live
}

// alignedMembers is aligned for objects; members that say nothing are left out.
func alignedMembers(path string, declared, live map[string]any, sets []string) (d, l map[string]any) {
	d, l = map[string]any{}, map[string]any{}
	for key, value := range declared {
		inner := live[key]
		switch {
		case empty(value) && empty(inner):
		case empty(inner):
			d[key] = value
		case empty(value):
			l[key] = inner
		default:
			d[key], l[key] = aligned(path+"/"+escaped(key), value, inner, sets)
		}
	}
	for key, value := range live {
		if _, there := declared[key]; !there && !empty(value) {
			l[key] = value
		}
	}
	return d, l
}

// paired puts what two sets share first, in the same order: items that are the
// same, and then those that have the same name.
func paired(declared, live []any) (d, l []any) {
	left, rest := slices.Clone(declared), slices.Clone(live)
	for _, alike := range []func(a, b any) bool{Same, func(a, b any) bool { return named(a) != "" && named(a) == named(b) }} {
		for i := 0; i < len(left); {
			j := slices.IndexFunc(rest, func(v any) bool { return alike(left[i], v) })
			if j < 0 {
				i++
				continue
			}
			d, l = append(d, left[i]), append(l, rest[j])
			left, rest = slices.Delete(left, i, i+1), slices.Delete(rest, j, j+1)
		}
	}
	return append(d, left...), append(l, rest...)
}

func named(v any) string {
	members, ok := v.(map[string]any)
	if !ok {
		return ""
	}
	for _, key := range []string{"name", "id", "key"} {
		if text, ok := members[key].(string); ok && text != "" {
			return text
		}
	}
	return ""
}

func escaped(key string) string {
	return strings.ReplaceAll(strings.ReplaceAll(key, "~", "~0"), "/", "~1")
}

// covers reports whether a pattern of a path is of this path; * is one step of it.
func covers(pattern, path string) bool {
	return slices.EqualFunc(strings.Split(pattern, "/"), strings.Split(path, "/"), func(want, have string) bool { return want == "*" || want == have })
}
