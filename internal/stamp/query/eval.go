package query

import (
	"encoding/json"
	"math"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Names is what a condition looks at in memory. Lookup returns the value of a
// property, as json decodes it (numbers may be json.Number); the first part is
// a field's name, a document ("tags", "desired", "reported", "configurations"),
// or for messages "$body", "$twin" followed by a document, a system property
// with its "$", or an application property.
type Names interface {
	Lookup(parts []string) (value any, ok bool)
}

// Eval reports whether the condition holds.
func (c *Condition) Eval(f Names) bool { return truth(c.root, f) }

// Dig walks into decoded JSON; Names use it for the parts below a document.
func Dig(document any, keys []string) (value any, ok bool) {
	for _, key := range keys {
		object, isObject := document.(map[string]any)
		if !isObject {
			return nil, false
		}
		if document, ok = object[key]; !ok {
			return nil, false
		}
	}
	return document, true
}

func truth(n node, f Names) bool {
	switch n := n.(type) {
	case logic:
		if n.operator == "AND" {
			return truth(n.left, f) && truth(n.right, f)
		}
		return truth(n.left, f) || truth(n.right, f)
	case negation:
		return !truth(n.inner, f)
	case comparison:
		return compare(n.operator, value(n.left, f), value(n.right, f))
	case membership:
		return member(n, value(n.inner, f))
	case call, path:
		return value(n, f) == true
	case literal:
		return n.value == true
	}
	return false
}

// missing is the value of a property that is not there.
type missing struct{}

func value(n node, f Names) any {
	switch n := n.(type) {
	case literal:
		return n.value
	case path:
		return lookUp(n, f)
	case arithmetic:
		left, ok1 := value(n.left, f).(float64)
		right, ok2 := value(n.right, f).(float64)
		if !ok1 || !ok2 {
			return missing{}
		}
		return calculate(n.operator, left, right)
	case call:
		return evalCall(n, f)
	}
	return truth(n, f)
}

func calculate(operator string, left, right float64) any {
	var result float64
	switch operator {
	case "+":
		result = left + right
	case "-":
		result = left - right
	case "*":
		result = left * right
	case "/":
		result = left / right
	case "%":
		result = math.Mod(left, right)
	}
	return finite(result)
}

func finite(x float64) any {
	if math.IsNaN(x) || math.IsInf(x, 0) {
		return missing{}
	}
	return x
}

func lookUp(p path, f Names) any {
	at, ok := f.Lookup(p.parts)
	if !ok {
		return missing{}
	}
	switch v := at.(type) {
	case json.Number:
		number, err := v.Float64()
		if err != nil {
			return missing{}
		}
		return number
	case int64:
		return float64(v)
	case int:
		return float64(v)
	}
	return at
}

func compare(operator string, left, right any) bool {
	switch l := left.(type) {
	case float64:
		r, ok := right.(float64)
		return ok && holds(operator, l < r, l == r)
	case string:
		r, ok := right.(string)
		return ok && holds(operator, l < r, l == r)
	case bool:
		r, ok := right.(bool)
		return ok && holds(operator, !l && r, l == r)
	}
	return false
}

func holds(operator string, less, equal bool) bool {
	switch operator {
	case "=":
		return equal
	case "!=":
		return !equal
	case "<":
		return less
	case "<=":
		return less || equal
	case ">":
		return !less && !equal
	}
	return !less // ">="
}

// member follows the comparisons: NIN holds when the value has a type that
// could be in the list, and is not.
func member(n membership, v any) bool {
	switch v.(type) {
	case float64, string, bool:
	default:
		return false
	}
	for _, constant := range n.list {
		if compare("=", v, constant.value) {
			return !n.except
		}
	}
	return n.except
}

func evalCall(n call, f Names) any {
	args := make([]any, len(n.args))
	for i, arg := range n.args {
		args[i] = value(arg, f)
	}
	switch functions[n.function].result {
	case boolean:
		return evalTest(n.function, args)
	case numeric:
		return evalNumber(n.function, args)
	}
	return evalText(n.function, args)
}

func evalTest(function string, args []any) bool {
	v := args[0]
	_, absent := v.(missing)
	switch function {
	case "IS_DEFINED":
		return !absent
	case "IS_NULL":
		return v == nil
	case "IS_PRIMITIVE":
		return !absent && !isArray(v) && !isObject(v)
	case "IS_ARRAY":
		return isArray(v)
	case "IS_OBJECT":
		return isObject(v)
	}
	switch v.(type) {
	case string:
		if function == "IS_STRING" {
			return true
		}
	case float64:
		return function == "IS_NUMBER"
	case bool:
		return function == "IS_BOOL"
	}
	if len(args) < 2 {
		return false
	}
	whole, ok1 := v.(string)
	part, ok2 := args[1].(string)
	if !ok1 || !ok2 {
		return false
	}
	switch function {
	case "STARTS_WITH":
		return strings.HasPrefix(whole, part)
	case "ENDS_WITH":
		return strings.HasSuffix(whole, part)
	}
	return strings.Contains(whole, part)
}

func isArray(v any) bool  { _, ok := v.([]any); return ok }
func isObject(v any) bool { _, ok := v.(map[string]any); return ok }

func evalNumber(function string, args []any) any {
	switch v := args[0].(type) {
	case string:
		return ofText(function, v, args)
	case float64:
		if function == "AS_NUMBER" {
			return v
		}
		if function == "POWER" {
			exponent, ok := args[1].(float64)
			if !ok {
				return missing{}
			}
			return finite(math.Pow(v, exponent))
		}
		return ofNumber(function, v)
	}
	return missing{}
}

func ofText(function, v string, args []any) any {
	switch function {
	case "LENGTH":
		return float64(utf8.RuneCountInString(v))
	case "AS_NUMBER":
		x, err := strconv.ParseFloat(strings.TrimSpace(v), 64)
		if err != nil {
			return missing{}
		}
		return finite(x)
	case "INDEX_OF":
		part, ok := args[1].(string)
		if !ok {
			return missing{}
		}
		at := strings.Index(v, part)
		if at > 0 {
			at = utf8.RuneCountInString(v[:at])
		}
		return float64(at)
	}
	return missing{}
}

var mathematics = map[string]func(float64) float64{
	"ABS": math.Abs, "CEILING": math.Ceil, "FLOOR": math.Floor, "SQRT": math.Sqrt, "EXP": math.Exp,
	"SQUARE": func(x float64) float64 { return x * x },
	"SIGN": func(x float64) float64 {
		switch {
		case x > 0:
			return 1
		case x < 0:
			return -1
		}
		return 0
	},
}

func ofNumber(function string, x float64) any {
	if f, ok := mathematics[function]; ok {
		return finite(f(x))
	}
	return missing{}
}

func evalText(function string, args []any) any {
	if function == "CONCAT" {
		var b strings.Builder
		for _, arg := range args {
			part, ok := arg.(string)
			if !ok {
				return missing{}
			}
			b.WriteString(part)
		}
		return b.String()
	}
	v, ok := args[0].(string)
	if !ok {
		return missing{}
	}
	switch function {
	case "LOWER":
		return strings.ToLower(v)
	case "UPPER":
		return strings.ToUpper(v)
	}
	return substring(v, args[1:])
}

// substring takes the characters from a position on, or so many of them.
func substring(v string, span []any) any {
	runes := []rune(v)
	from, ok := span[0].(float64)
	if !ok || from < 0 {
		return missing{}
	}
	start := min(int(min(from, float64(len(runes)))), len(runes))
	stop := len(runes)
	if len(span) > 1 {
		length, ok := span[1].(float64)
		if !ok || length < 0 {
			return missing{}
		}
		stop = min(stop, start+int(min(length, float64(len(runes)))))
	}
	return string(runes[start:stop])
}
