package query

import (
	"strings"
)

// Columns are the SQL expressions of what a condition looks at: texts, an
// integer 0 or 1 for Connected, µs for LastActivity, and JSON texts.
type Columns struct {
	DeviceID, Status, Connected, LastActivity, Enrollment string
	Tags, Desired, Reported                               string
}

// SQLite renders the condition as a WHERE expression and its arguments. Every
// expression is 0 or 1, never NULL, so that NOT means here what it means in
// memory.
func (c *Condition) SQLite(columns Columns) (text string, args []any) {
	r := &renderer{columns: columns}
	r.truth(c.root)
	return r.b.String(), r.args
}

type renderer struct {
	columns Columns
	b       strings.Builder
	args    []any
}

func (r *renderer) add(parts ...string) {
	for _, part := range parts {
		r.b.WriteString(part)
	}
}

func (r *renderer) truth(n node) {
	switch n := n.(type) {
	case logic:
		r.add("(")
		r.truth(n.left)
		r.add(" ", n.operator, " ")
		r.truth(n.right)
		r.add(")")
	case negation:
		r.add("(NOT ")
		r.truth(n.inner)
		r.add(")")
	case comparison:
		r.compare(n)
	case membership:
		r.membership(n)
	case call:
		r.call(n)
	case literal:
		if n.value == true {
			r.add("1")
		} else {
			r.add("0")
		}
	default:
		r.add("0")
	}
}

// compare holds two values of one type against each other. The type of each
// side is known, or asked of the JSON at run time.
func (r *renderer) compare(n comparison) {
	r.add("ifnull(")
	r.typeOf(n.left)
	r.add(" = ")
	r.typeOf(n.right)
	r.add(" AND ")
	r.value(n.left)
	r.add(" ", n.operator, " ")
	r.value(n.right)
	r.add(", 0)")
}

// The types comparisons know, as one letter each.
const typeCase = `CASE %s WHEN 'integer' THEN 'n' WHEN 'real' THEN 'n' WHEN 'text' THEN 's' WHEN 'true' THEN 'b' WHEN 'false' THEN 'b' END`

func (r *renderer) typeOf(n node) {
	switch n := n.(type) {
	case literal:
		switch n.value.(type) {
		case float64:
			r.add("'n'")
		case string:
			r.add("'s'")
		case bool:
			r.add("'b'")
		default:
			r.add("NULL")
		}
	case arithmetic:
		r.add("'n'")
	case path:
		if column, jsonPath, ok := r.json(n); ok {
			before, after, _ := strings.Cut(typeCase, "%s")
			r.add("(", before, "json_type(", column, ", ", jsonPath, ")", after, ")")
		} else if n.parts[0] == "lastActivityTime" {
			r.add("'n'")
		} else {
			r.add("'s'")
		}
	default:
		r.add("'b'")
	}
}

// value renders a value; of a number's place something else gives NULL.
func (r *renderer) value(n node) {
	switch n := n.(type) {
	case literal:
		r.add("?")
		if truth, ok := n.value.(bool); ok {
			r.args = append(r.args, int(b2f(truth)))
		} else {
			r.args = append(r.args, n.value)
		}
	case path:
		r.path(n)
	case arithmetic:
		r.arithmetic(n)
	default:
		r.truth(n)
	}
}

func b2f(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// arithmetic works in floating point, as in memory; what is not finite is NULL.
func (r *renderer) arithmetic(n arithmetic) {
	if n.operator == "%" {
		r.add("mod(")
		r.number(n.left)
		r.add(", ")
		r.number(n.right)
		r.add(")")
		return
	}
	r.add("nullif(nullif(")
	r.number(n.left)
	r.add(" ", n.operator, " ")
	r.number(n.right)
	r.add(", 9e999), -9e999)")
}

func (r *renderer) number(n node) {
	r.add("(CASE WHEN ")
	r.typeOf(n)
	r.add(" = 'n' THEN CAST(")
	r.value(n)
	r.add(" AS REAL) END)")
}

func (r *renderer) path(n path) {
	if column, jsonPath, ok := r.json(n); ok {
		r.add("json_extract(", column, ", ", jsonPath, ")")
		return
	}
	switch n.parts[0] {
	case "deviceId":
		r.add(r.columns.DeviceID)
	case "status":
		r.add(r.columns.Status)
	case "enrollment":
		r.add(r.columns.Enrollment)
	case "connectionState":
		r.add("(CASE ", r.columns.Connected, " WHEN 0 THEN 'Disconnected' ELSE 'Connected' END)")
	case "lastActivityTime":
		r.add("(ifnull(", r.columns.LastActivity, ", 0) / 1e6)")
	}
}

// json is the one place that spells the place of a property in JSON, so that
// an index on the expression serves the query.
func (r *renderer) json(n path) (column, jsonPath string, ok bool) {
	switch n.parts[0] {
	case "tags":
		column = r.columns.Tags
	case "desired":
		column = r.columns.Desired
	case "reported":
		column = r.columns.Reported
	default:
		return "", "", false
	}
	var b strings.Builder
	b.WriteString("'$")
	for _, key := range n.parts[1:] {
		b.WriteString(`."` + strings.ReplaceAll(key, "'", "''") + `"`)
	}
	b.WriteString("'")
	return column, b.String(), true
}

func (r *renderer) membership(n membership) {
	r.add("ifnull(")
	r.typeOf(n.inner)
	r.add(" IS NOT NULL AND ")
	r.value(n.inner) // arithmetic has a type and may still have no result
	r.add(" IS NOT NULL AND ")
	if n.except {
		r.add("NOT ")
	}
	r.add("(0")
	for _, constant := range n.list {
		r.add(" OR ")
		r.compare(comparison{"=", n.inner, constant})
	}
	r.add("), 0)")
}

func (r *renderer) call(n call) {
	p, isPath := n.args[0].(path)
	column, jsonPath, isJSON := "", "", false
	if isPath {
		column, jsonPath, isJSON = r.json(p)
	}
	switch n.function {
	case "IS_DEFINED":
		if !isJSON {
			r.add("1")
			return
		}
		r.add("(json_type(", column, ", ", jsonPath, ") IS NOT NULL)")
	case "IS_NULL":
		if !isJSON {
			r.add("0")
			return
		}
		r.add("ifnull(json_type(", column, ", ", jsonPath, ") = 'null', 0)")
	case "IS_STRING", "IS_NUMBER", "IS_BOOL":
		r.add("ifnull(")
		r.typeOf(n.args[0])
		r.add(" = '", strings.ToLower(n.function[3:4]), "', 0)")
	default:
		r.search(n)
	}
}

// search renders STARTSWITH and CONTAINS by position, which is binary, as
// LIKE is not.
func (r *renderer) search(n call) {
	r.add("ifnull(")
	r.typeOf(n.args[0])
	r.add(" = 's' AND ")
	r.typeOf(n.args[1])
	r.add(" = 's' AND instr(")
	r.value(n.args[0])
	r.add(", ")
	r.value(n.args[1])
	if n.function == "STARTSWITH" {
		r.add(") = 1, 0)")
	} else {
		r.add(") > 0, 0)")
	}
}
