package query

import (
	"encoding/json"
	"math"
	"strings"
)

// Facts are what a condition looks at.
type Facts struct {
	DeviceID     string
	Status       string
	Connected    bool
	LastActivity int64 // µs since 1970; 0 is never
	Enrollment   string
	Tags         map[string]any
	Desired      map[string]any
	Reported     map[string]any
}

// Eval reports whether the condition holds.
func (c *Condition) Eval(f Facts) bool { return truth(c.root, f) }

func truth(n node, f Facts) bool {
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
	case call:
		return evalCall(n, f)
	case literal:
		return n.value == true
	}
	return false
}

// missing is the value of a property that is not there.
type missing struct{}

func value(n node, f Facts) any {
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
	if math.IsNaN(result) || math.IsInf(result, 0) {
		return missing{}
	}
	return result
}

func lookUp(p path, f Facts) any {
	var document map[string]any
	switch p.parts[0] {
	case "deviceId":
		return f.DeviceID
	case "status":
		return f.Status
	case "enrollment":
		return f.Enrollment
	case "connectionState":
		if f.Connected {
			return "Connected"
		}
		return "Disconnected"
	case "lastActivityTime":
		return float64(f.LastActivity) / 1e6
	case "tags":
		document = f.Tags
	case "desired":
		document = f.Desired
	case "reported":
		document = f.Reported
	}
	var at any = document
	for _, key := range p.parts[1:] {
		object, ok := at.(map[string]any)
		if !ok {
			return missing{}
		}
		if at, ok = object[key]; !ok {
			return missing{}
		}
	}
	if n, ok := at.(json.Number); ok {
		number, err := n.Float64()
		if err != nil {
			return missing{}
		}
		return number
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

func evalCall(n call, f Facts) bool {
	v := value(n.args[0], f)
	_, absent := v.(missing)
	switch n.function {
	case "IS_DEFINED":
		return !absent
	case "IS_NULL":
		return !absent && v == nil
	case "IS_STRING":
		_, ok := v.(string)
		return ok
	case "IS_NUMBER":
		_, ok := v.(float64)
		return ok
	case "IS_BOOL":
		_, ok := v.(bool)
		return ok
	}
	whole, ok1 := v.(string)
	part, ok2 := value(n.args[1], f).(string)
	if !ok1 || !ok2 {
		return false
	}
	if n.function == "STARTSWITH" {
		return strings.HasPrefix(whole, part)
	}
	return strings.Contains(whole, part)
}
