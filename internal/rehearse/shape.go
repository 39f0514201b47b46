package rehearse

import (
	"encoding/json"
	"fmt"
	"slices"
)

// leaves are the values of a document by their fields; elements of an array
// share its field.
func leaves(field string, value any, into map[string][]string) {
	switch value := value.(type) {
	case map[string]any:
		for key, one := range value {
			below := key
			if field != "" {
				below = field + "." + key
			}
			leaves(below, one, into)
		}
	case []any:
		for _, one := range value {
			leaves(field, one, into)
		}
	case nil:
	default:
		into[field] = append(into[field], fmt.Sprintf("%T %v", value, value))
	}
}

// lost tells which fields had a value that is nowhere any more: neither is
// there one in their place, nor is it elsewhere.
func lost(before, after map[string]any, drops []string) (fields []string) {
	was, is := map[string][]string{}, map[string][]string{}
	leaves("", before, was)
	leaves("", after, is)
	moved := map[string]int{}
	for field, values := range is {
		if _, stood := was[field]; !stood {
			for _, v := range values {
				moved[v]++
			}
		}
	}
	for field, values := range was {
		if len(is[field]) >= len(values) || dropped(drops, field) {
			continue
		}
		for _, v := range values[len(is[field]):] {
			if moved[v] == 0 {
				fields = append(fields, field)
				break
			}
			moved[v]--
		}
	}
	slices.Sort(fields)
	return fields
}

// reshaped tells which names are gone or have values of another type: what a
// program of before would stumble over that reads what was there.
func reshaped(before, after any) (all []string) {
	return reshapedAt("", before, after, nil)
}

func reshapedAt(field string, before, after any, all []string) []string {
	if a, b := typeOf(before), typeOf(after); a != b {
		return append(all, fmt.Sprintf("%s is %s, and was %s", field, b, a))
	}
	was, ok := before.(map[string]any)
	if !ok {
		return all
	}
	is := after.(map[string]any)
	for key, value := range was {
		below := key
		if field != "" {
			below = field + "." + key
		}
		now, there := is[key]
		if !there {
			all = append(all, below+" is gone")
			continue
		}
		all = reshapedAt(below, value, now, all)
	}
	return all
}

func typeOf(value any) string {
	switch value.(type) {
	case map[string]any:
		return "an object"
	case []any:
		return "an array"
	case string:
		return "a text"
	case json.Number:
		return "a number"
	case bool:
		return "true or false"
	}
	return "null"
}
