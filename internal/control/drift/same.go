// Package drift holds what is so against what is declared, and environments
// against one another. Values that mean the same never alarm, however they are
// written; what differs has a class, and stays known until it is gone or
// somebody answers for it.
package drift

import (
	"bytes"
	"encoding/json"
	"math"
	"math/big"
	"regexp"
	"strconv"
	"strings"
)

// Same reports whether two values mean the same: JSON values as encoding/json
// reads them, with numbers as json.Number.
func Same(a, b any) bool {
	switch a := a.(type) {
	case nil:
		return empty(b)
	case bool:
		other, ok := b.(bool)
		return ok && a == other
	case json.Number, float64, int, int64:
		return sameNumber(a, b)
	case string:
		other, ok := b.(string)
		return ok && sameText(a, other)
	case []any:
		other, ok := b.([]any)
		return ok && len(a) == len(other) && allSame(a, other)
	case map[string]any:
		other, ok := b.(map[string]any)
		return ok && sameMembers(a, other) || !ok && b == nil && empty(a)
	}
	return false
}

// empty reports whether a value says nothing: null, or an object of which no
// member says anything. An empty list says that there is none.
func empty(v any) bool {
	members, object := v.(map[string]any)
	if !object {
		return v == nil
	}
	for _, inner := range members {
		if !empty(inner) {
			return false
		}
	}
	return true
}

func allSame(a, b []any) bool {
	for i := range a {
		if !Same(a[i], b[i]) {
			return false
		}
	}
	return true
}

func sameMembers(a, b map[string]any) bool {
	for key, value := range a {
		if !Same(value, b[key]) {
			return false
		}
	}
	for key, value := range b {
		if _, there := a[key]; !there && !empty(value) {
			return false
		}
	}
	return true
}

func sameNumber(a, b any) bool {
	one, ok := rational(a)
	other, also := rational(b)
	return ok && also && one.Cmp(other) == 0
}

// maxExponent keeps a number such as 1e999999999 from being written out.
const maxExponent = 400

// rational is a number exactly as it is written.
func rational(v any) (*big.Rat, bool) {
	switch v := v.(type) {
	case json.Number:
		return exact(v.String())
	case float64:
		if math.IsNaN(v) || math.IsInf(v, 0) {
			return nil, false
		}
		return exact(strconv.FormatFloat(v, 'g', -1, 64))
	case int:
		return new(big.Rat).SetInt64(int64(v)), true
	case int64:
		return new(big.Rat).SetInt64(v), true
	}
	return nil, false
}

var decimal = regexp.MustCompile(`^[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?$`)

func exact(text string) (*big.Rat, bool) {
	if !decimal.MatchString(text) || len(text) > 1000 {
		return nil, false
	}
	if _, exponent, found := strings.Cut(strings.ToLower(text), "e"); found {
		if n, err := strconv.Atoi(exponent); err != nil || n > maxExponent || n < -maxExponent {
			return nil, false
		}
	}
	return new(big.Rat).SetString(text)
}

// sameText reports whether two texts mean the same in any form that both have.
func sameText(a, b string) bool {
	if a == b {
		return true
	}
	if a, b = tidy(a), tidy(b); a == b {
		return true
	}
	for _, read := range forms {
		one, ok := read(a)
		other, also := read(b)
		if ok && also && one == other {
			return true
		}
	}
	return sameQuantity(a, b) || sameNetwork(a, b) || sameInside(a, b)
}

// tidy is a text without what editors and line endings make of it.
func tidy(text string) string {
	return strings.TrimRight(strings.ReplaceAll(text, "\r\n", "\n"), "\n")
}

// forms read texts that mean something: each answers with the one way it
// writes that.
var forms = []func(string) (string, bool){duration, moment, address, digest, location}

// sameInside compares texts that hold JSON.
func sameInside(a, b string) bool {
	one, ok := inside(a)
	if !ok {
		return false
	}
	other, ok := inside(b)
	return ok && Same(one, other)
}

func inside(text string) (v any, ok bool) {
	trimmed := strings.TrimSpace(text)
	if trimmed == "" || trimmed[0] != '{' && trimmed[0] != '[' {
		return nil, false
	}
	return decoded([]byte(trimmed))
}

// decoded reads one JSON value and nothing after it.
func decoded(text []byte) (v any, ok bool) {
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.UseNumber()
	if decoder.Decode(&v) != nil {
		return nil, false
	}
	return v, !decoder.More()
}
