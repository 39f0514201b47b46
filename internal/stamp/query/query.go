// Package query is the one query language of a hub: it selects devices for back
// ends, moves and rules, and messages for routes. A text becomes a typed tree
// once; the tree is rendered to SQL, linear in its size, or evaluated in memory
// with the same meaning.
//
// Comparisons hold between values of one primitive type: number with number,
// string with string, boolean with boolean. Any other comparison, and any with
// a missing property, is false, also for != and <>; NOT negates what it finds.
// A property by itself holds if it is true.
package query

import (
	"strconv"
	"strings"
)

// The limits of a query.
const (
	maxText  = 8 << 10
	maxDepth = 32
	maxNodes = 256
	maxList  = 500
)

// Condition is a parsed condition.
type Condition struct{ root node }

// String writes the condition so that it parses to the same tree again.
func (c *Condition) String() string {
	var b strings.Builder
	c.root.write(&b)
	return b.String()
}

// node is one expression of the tree.
type node interface {
	write(b *strings.Builder)
}

// logic is AND, OR over boolean expressions.
type logic struct {
	operator    string
	left, right node
}

// negation is NOT.
type negation struct{ inner node }

// comparison is =, !=, <, <=, >, >=.
type comparison struct {
	operator    string
	left, right node
}

// membership is IN and NIN over constants.
type membership struct {
	inner  node
	list   []literal
	except bool
}

// arithmetic is + - * / % over numbers.
type arithmetic struct {
	operator    string
	left, right node
}

// call is a function of the language over its arguments.
type call struct {
	function string
	args     []node
}

// path is a property. Its first part is the root: a field or a document of
// what is looked at; for messages it may stand below $twin.
type path struct{ parts []string }

// literal is a constant: string, float64, bool or nil.
type literal struct{ value any }

func (n logic) write(b *strings.Builder)      { writeInfix(b, n.left, n.operator, n.right) }
func (n comparison) write(b *strings.Builder) { writeInfix(b, n.left, n.operator, n.right) }
func (n arithmetic) write(b *strings.Builder) { writeInfix(b, n.left, n.operator, n.right) }

func writeInfix(b *strings.Builder, left node, operator string, right node) {
	b.WriteByte('(')
	left.write(b)
	b.WriteString(" " + operator + " ")
	right.write(b)
	b.WriteByte(')')
}

func (n negation) write(b *strings.Builder) {
	b.WriteString("(NOT ")
	n.inner.write(b)
	b.WriteByte(')')
}

func (n membership) write(b *strings.Builder) {
	b.WriteByte('(')
	n.inner.write(b)
	if n.except {
		b.WriteString(" NIN [")
	} else {
		b.WriteString(" IN [")
	}
	for i, value := range n.list {
		if i > 0 {
			b.WriteString(", ")
		}
		value.write(b)
	}
	b.WriteString("])")
}

func (n call) write(b *strings.Builder) {
	b.WriteString(n.function + "(")
	for i, arg := range n.args {
		if i > 0 {
			b.WriteString(", ")
		}
		arg.write(b)
	}
	b.WriteByte(')')
}

func (n path) write(b *strings.Builder) {
	for i, part := range n.parts {
		if i > 0 && (i > 1 || n.parts[0] != twinRoot) {
			// a key
		} else if part == "desired" || part == "reported" {
			part = "properties." + part
		}
		switch {
		case i == 0:
			b.WriteString(part)
		case i == 1 && n.parts[0] == twinRoot:
			b.WriteString("." + part)
		case isName(part):
			b.WriteString("." + part)
		default:
			b.WriteByte('[')
			literal{part}.write(b)
			b.WriteByte(']')
		}
	}
}

func (n literal) write(b *strings.Builder) {
	switch value := n.value.(type) {
	case nil:
		b.WriteString("null")
	case bool:
		b.WriteString(strconv.FormatBool(value))
	case float64:
		b.WriteString(strconv.FormatFloat(value, 'g', -1, 64))
	case string:
		writeQuoted(b, value)
	}
}

func writeQuoted(b *strings.Builder, s string) {
	b.WriteByte('\'')
	for _, r := range s {
		switch {
		case r == '\'' || r == '\\':
			b.WriteByte('\\')
			b.WriteRune(r)
		case r < ' ':
			b.WriteString(`\u00`)
			b.WriteByte("0123456789abcdef"[r>>4])
			b.WriteByte("0123456789abcdef"[r&15])
		default:
			b.WriteRune(r)
		}
	}
	b.WriteByte('\'')
}

// Equality is a part of a condition without which nothing matches: the property
// has one of the values, strings and numbers. An index can find those first.
type Equality struct {
	Path   []string
	Values []any
}

// Equalities returns what the condition demands of single properties.
func (c *Condition) Equalities() []Equality { return equalities(c.root) }

func equalities(n node) []Equality {
	switch n := n.(type) {
	case logic:
		if n.operator == "AND" {
			return append(equalities(n.left), equalities(n.right)...)
		}
	case comparison:
		if n.operator != "=" {
			return nil
		}
		left, right := n.left, n.right
		if _, constant := left.(literal); constant {
			left, right = right, left
		}
		if constant, ok := right.(literal); ok {
			return equality(left, []literal{constant})
		}
	case membership:
		if !n.except {
			return equality(n.inner, n.list)
		}
	}
	return nil
}

func equality(n node, constants []literal) []Equality {
	p, ok := n.(path)
	if !ok {
		return nil
	}
	e := Equality{Path: p.parts}
	for _, constant := range constants {
		if kinds(constant)&(textual|numeric) == 0 {
			return nil // an index does not keep it
		}
		e.Values = append(e.Values, constant.value)
	}
	return []Equality{e}
}
