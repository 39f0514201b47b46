package query

import (
	"strconv"
	"strings"

	"github.com/slipway/slipway/internal/problem"
)

// Columns are the SQL expressions of what a condition over devices looks at:
// a text or a number for each field, a JSON document for each root.
type Columns struct {
	Fields    map[string]string
	Documents map[string]string
	Versions  map[string]string // of documents that have one: their $version
}

// maxRendered bounds the SQL of one condition, and maxArguments the values
// bound to it. Rendering is linear in the condition, so only long lists and
// long constants come near.
const (
	maxRendered  = 1 << 20
	maxArguments = 8 << 10
)

// dialect is how a database spells what the language means.
type dialect interface {
	// truth and falsehood as constants.
	constant(holds bool) string
	// null is no value of a kind.
	null(kind kindOf) string
	// typed is the value at a place in a document if it is of the kind, else
	// NULL.
	typed(document string, keys []string, kind kindOf) string
	// present, and the type tests over a place in a document, never NULL.
	test(function, document string, keys []string) string
	// placeholder is where the next argument goes.
	placeholder(kind kindOf) string
	argument(value any) any
	// arithmetic is NULL where an operand is or the result is not finite.
	arithmetic(left, operator, right string) string
	collated(text string) string
	startsWith(whole, part string) string
	endsWith(whole, part string) string
	contains(whole, part string) string
}

// SQLite renders the condition as a WHERE expression and its arguments. Every
// part of it holds or does not, and never is NULL, so that NOT means here what
// it means in memory.
func (c *Condition) SQLite(columns Columns) (text string, args []any, err error) {
	return c.render(sqlite{}, columns)
}

// PostgreSQL is SQLite for PostgreSQL with documents as jsonb.
func (c *Condition) PostgreSQL(columns Columns) (text string, args []any, err error) {
	return c.render(postgres{}, columns)
}

func (c *Condition) render(d dialect, columns Columns) (string, []any, error) {
	r := &renderer{dialect: d, columns: columns}
	text := r.truth(c.root)
	if len(text) > maxRendered || len(r.args) > maxArguments {
		return "", nil, problem.New(problem.Invalid, "the condition is too large: it becomes %d bytes of SQL with %d constants; at most %d and %d are allowed",
			len(text), len(r.args), maxRendered, maxArguments)
	}
	return text, r.args, nil
}

type renderer struct {
	dialect dialect
	columns Columns
	args    []any
}

func (r *renderer) truth(n node) string {
	switch n := n.(type) {
	case logic:
		return "(" + r.truth(n.left) + " " + n.operator + " " + r.truth(n.right) + ")"
	case negation:
		return "(NOT " + r.truth(n.inner) + ")"
	case comparison:
		return r.compare(n)
	case membership:
		return r.membership(n)
	case call:
		return r.call(n)
	case path:
		if kinds(n)&boolean == 0 {
			return r.dialect.constant(false)
		}
		return r.settled(r.typed(n, boolean))
	case literal:
		return r.dialect.constant(n.value == true)
	}
	return r.dialect.constant(false)
}

// settled turns NULL into falsehood.
func (r *renderer) settled(expression string) string {
	return "coalesce(" + expression + ", " + r.dialect.constant(false) + ")"
}

// compare holds two values against each other in each type both can have; only
// properties can have several, so nothing nested is rendered twice.
func (r *renderer) compare(n comparison) string {
	var ways []string
	for _, kind := range []kindOf{numeric, textual, boolean} {
		if kinds(n.left)&kinds(n.right)&kind != 0 {
			ways = append(ways, r.settled(r.typed(n.left, kind)+" "+n.operator+" "+r.typed(n.right, kind)))
		}
	}
	return r.any(ways)
}

func (r *renderer) any(ways []string) string {
	switch len(ways) {
	case 0:
		return r.dialect.constant(false)
	case 1:
		return ways[0]
	}
	return "(" + strings.Join(ways, " OR ") + ")"
}

// typed renders a value as one of a kind that kinds allows for it, or NULL.
func (r *renderer) typed(n node, kind kindOf) string {
	switch n := n.(type) {
	case literal:
		text := r.bind(n.value, kind)
		if kind == textual {
			return r.dialect.collated(text)
		}
		return text
	case arithmetic:
		return r.arithmetic(n)
	case path:
		text := r.place(n, kind)
		if kind == textual {
			return r.dialect.collated(text)
		}
		return text
	}
	return r.truth(n)
}

func (r *renderer) bind(value any, kind kindOf) string {
	r.args = append(r.args, r.dialect.argument(value))
	return r.dialect.placeholder(kind)
}

func (r *renderer) place(n path, kind kindOf) string {
	if column, ok := r.columns.Fields[n.parts[0]]; ok {
		return column
	}
	if column, ok := r.columns.Versions[n.parts[0]]; ok && isVersion(n) {
		return column
	}
	if document, ok := r.columns.Documents[n.parts[0]]; ok {
		return r.dialect.typed(document, n.parts[1:], kind)
	}
	return r.dialect.null(kind)
}

// arithmetic works in floating point, as in memory; an operand that is no
// number gives NULL.
func (r *renderer) arithmetic(n arithmetic) string {
	if kinds(n.left)&kinds(n.right)&numeric == 0 {
		return r.dialect.null(numeric)
	}
	left := r.typed(n.left, numeric)
	return r.dialect.arithmetic(left, n.operator, r.typed(n.right, numeric))
}

func (r *renderer) membership(n membership) string {
	var ways []string
	for _, kind := range []kindOf{numeric, textual, boolean} {
		if kinds(n.inner)&kind == 0 {
			continue
		}
		var constants []string
		for _, constant := range n.list {
			if kinds(constant) == kind {
				constants = append(constants, "")
			}
		}
		if len(constants) == 0 && !n.except {
			continue
		}
		value := r.typed(n.inner, kind)
		if len(constants) == 0 {
			ways = append(ways, "("+value+" IS NOT NULL)")
			continue
		}
		constants = constants[:0]
		for _, constant := range n.list {
			if kinds(constant) == kind {
				constants = append(constants, r.typed(constant, kind))
			}
		}
		in := " IN ("
		if n.except {
			in = " NOT IN ("
		}
		ways = append(ways, r.settled(value+in+strings.Join(constants, ", ")+")"))
	}
	return r.any(ways)
}

func (r *renderer) call(n call) string {
	if functions[n.function].ofProperty {
		p := n.args[0].(path) // the parser saw to it
		if isVersion(p) {
			return r.dialect.constant(ofField(n.function, numeric))
		}
		if document, ok := r.columns.Documents[p.parts[0]]; ok {
			return r.dialect.test(n.function, document, p.parts[1:])
		}
		return r.dialect.constant(ofField(n.function, kinds(p)))
	}
	if kinds(n.args[0])&kinds(n.args[1])&textual == 0 {
		return r.dialect.constant(false)
	}
	whole, part := r.typed(n.args[0], textual), r.typed(n.args[1], textual)
	switch n.function {
	case "STARTS_WITH":
		return r.settled(r.dialect.startsWith(whole, part))
	case "ENDS_WITH":
		return r.settled(r.dialect.endsWith(whole, part))
	}
	return r.settled(r.dialect.contains(whole, part))
}

// ofField answers a type test about a field, which always is there.
func ofField(function string, kind kindOf) bool {
	switch function {
	case "IS_DEFINED", "IS_PRIMITIVE":
		return true
	case "IS_STRING":
		return kind == textual
	case "IS_NUMBER":
		return kind == numeric
	}
	return false
}

// quoted is a text as an SQL literal; keys come from the condition itself and
// stand in the text so that an index on the same expression serves it.
func quoted(text string) string { return "'" + strings.ReplaceAll(text, "'", "''") + "'" }

// sqlite spells for SQLite: documents are JSON text, truth is 1.
type sqlite struct{}

func (sqlite) constant(holds bool) string {
	if holds {
		return "1"
	}
	return "0"
}

func (sqlite) null(kindOf) string { return "NULL" }

func sqlitePath(keys []string) string {
	var b strings.Builder
	b.WriteString("$")
	for _, key := range keys {
		b.WriteString(`."` + key + `"`)
	}
	return quoted(b.String())
}

func (sqlite) typed(document string, keys []string, kind kindOf) string {
	at := "(" + document + ", " + sqlitePath(keys) + ")"
	switch kind {
	case numeric:
		return "(CASE WHEN json_type" + at + " IN ('integer', 'real') THEN CAST(json_extract" + at + " AS REAL) END)"
	case textual:
		return "(CASE json_type" + at + " WHEN 'text' THEN json_extract" + at + " END)"
	}
	return "(CASE json_type" + at + " WHEN 'true' THEN 1 WHEN 'false' THEN 0 END)"
}

var sqliteTypes = map[string]string{
	"IS_NULL": "= 'null'", "IS_STRING": "= 'text'", "IS_NUMBER": "IN ('integer', 'real')", "IS_BOOL": "IN ('true', 'false')",
	"IS_ARRAY": "= 'array'", "IS_OBJECT": "= 'object'", "IS_PRIMITIVE": "NOT IN ('array', 'object')",
}

func (sqlite) test(function, document string, keys []string) string {
	at := "json_type(" + document + ", " + sqlitePath(keys) + ")"
	if function == "IS_DEFINED" {
		return "(" + at + " IS NOT NULL)"
	}
	return "coalesce(" + at + " " + sqliteTypes[function] + ", 0)"
}

func (sqlite) placeholder(kindOf) string { return "?" }

func (sqlite) argument(value any) any {
	if truth, ok := value.(bool); ok {
		if truth {
			return 1
		}
		return 0
	}
	return value
}

func (sqlite) arithmetic(left, operator, right string) string {
	if operator == "%" {
		return "mod(" + left + ", " + right + ")"
	}
	return "nullif(nullif(" + left + " " + operator + " " + right + ", 9e999), -9e999)"
}

func (sqlite) collated(text string) string { return text }

// By position, which is binary, as LIKE is not.
func (sqlite) startsWith(whole, part string) string {
	return "instr(" + whole + ", " + part + ") = 1"
}

func (sqlite) contains(whole, part string) string {
	return "instr(" + whole + ", " + part + ") > 0"
}

func (sqlite) endsWith(whole, part string) string {
	return "(SELECT w IS NOT NULL AND (p = '' OR substr(w, -length(p)) = p) FROM (SELECT " + whole + " AS w, " + part + " AS p))"
}

// postgres spells for PostgreSQL: documents are jsonb.
type postgres struct{}

func (postgres) constant(holds bool) string { return strconv.FormatBool(holds) }

var postgresNames = map[kindOf]string{numeric: "float8", textual: "text", boolean: "boolean"}

func (postgres) null(kind kindOf) string { return "NULL::" + postgresNames[kind] }

func postgresPlace(document string, keys []string) string {
	if len(keys) == 0 {
		return "(" + document + ")"
	}
	parts := make([]string, len(keys))
	for i, key := range keys {
		parts[i] = quoted(key)
	}
	return "(" + document + " #> ARRAY[" + strings.Join(parts, ", ") + "])"
}

func (postgres) typed(document string, keys []string, kind kindOf) string {
	at := postgresPlace(document, keys)
	switch kind {
	case numeric:
		return "(CASE jsonb_typeof(" + at + ") WHEN 'number' THEN (" + at + " #>> '{}')::float8 END)"
	case textual:
		return "(CASE jsonb_typeof(" + at + ") WHEN 'string' THEN " + at + " #>> '{}' END)"
	}
	return "(CASE jsonb_typeof(" + at + ") WHEN 'boolean' THEN (" + at + " #>> '{}')::boolean END)"
}

var postgresTypes = map[string]string{
	"IS_NULL": "= 'null'", "IS_STRING": "= 'string'", "IS_NUMBER": "= 'number'", "IS_BOOL": "= 'boolean'",
	"IS_ARRAY": "= 'array'", "IS_OBJECT": "= 'object'", "IS_PRIMITIVE": "NOT IN ('array', 'object')",
}

func (postgres) test(function, document string, keys []string) string {
	at := postgresPlace(document, keys)
	if function == "IS_DEFINED" {
		return "(" + at + " IS NOT NULL)"
	}
	return "coalesce(jsonb_typeof(" + at + ") " + postgresTypes[function] + ", false)"
}

func (postgres) placeholder(kind kindOf) string { return "?::" + postgresNames[kind] }

func (postgres) argument(value any) any { return value }

// arithmetic keeps clear of the operands with which PostgreSQL fails the whole
// query instead of giving no result.
func (postgres) arithmetic(left, operator, right string) string {
	result := "l " + operator + " r"
	bounds := "abs(l) < 1e150 AND abs(r) < 1e150 AND (l = 0 OR abs(l) > 1e-150) AND (r = 0 OR abs(r) > 1e-150)"
	switch operator {
	case "%":
		result, bounds = "l - r * trunc(l / r)", bounds+" AND r <> 0"
	case "/":
		bounds += " AND r <> 0"
	}
	return "(SELECT CASE WHEN " + bounds + " THEN " + result + " END FROM (SELECT " + left + " AS l, " + right + " AS r) v)"
}

func (postgres) collated(text string) string { return "(" + text + ` COLLATE "C")` }

func (postgres) startsWith(whole, part string) string {
	return "starts_with(" + whole + ", " + part + ")"
}

func (postgres) contains(whole, part string) string {
	return "strpos(" + whole + ", " + part + ") > 0"
}

func (postgres) endsWith(whole, part string) string {
	return "(SELECT right(w, length(p)) = p FROM (SELECT " + whole + " AS w, " + part + " AS p) v)"
}
