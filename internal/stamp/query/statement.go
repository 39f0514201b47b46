package query

import (
	"encoding/json"
	"math"
	"slices"
	"strings"

	"github.com/slipway/slipway/internal/problem"
)

// Source is what a statement selects from.
type Source string

// The sources.
const (
	FromDevices Source = "devices"
	FromModules Source = "devices.modules"
	FromJobs    Source = "devices.jobs"
)

// maxItems bounds the projections and the groupings of a statement, MaxGroups
// the groups of its result.
const (
	maxItems  = 32
	MaxGroups = 10_000
)

// Statement is a whole query:
//
//	SELECT [TOP n] * | items FROM source [WHERE condition] [GROUP BY paths]
type Statement struct {
	Top   int // 0: all
	From  Source
	Where *Condition // nil: all

	items   []item // none: *
	groupBy []path
}

// item is one column of the result: a property, or an aggregate of one.
type item struct {
	aggregate string // COUNT, SUM, AVG, MIN, MAX; empty for a plain property
	property  path
	name      string
}

// ParseStatement reads a whole query.
func ParseStatement(source string) (*Statement, error) {
	p, err := newParser(source, devices)
	if err != nil {
		return nil, err
	}
	s := p.statement()
	if p.err == nil && p.peek().kind != end {
		p.fail("WHERE, GROUP BY or the end")
	}
	if p.err == nil {
		p.err = s.check()
	}
	return s, p.err
}

// Whole reports whether rows are whole documents (SELECT *).
func (s *Statement) Whole() bool { return len(s.items) == 0 }

// Aggregates reports whether rows are figures over many devices.
func (s *Statement) Aggregates() bool {
	for _, i := range s.items {
		if i.aggregate != "" {
			return true
		}
	}
	return len(s.groupBy) > 0
}

// Counts reports whether the only figure is how many there are, and returns the
// row for a number.
func (s *Statement) Counts() (row func(n int64) map[string]any, ok bool) {
	for _, i := range s.items {
		if i.aggregate != "COUNT" {
			return nil, false
		}
	}
	return func(n int64) map[string]any {
		row := map[string]any{}
		for _, i := range s.items {
			row[i.name] = n
		}
		return row
	}, len(s.items) > 0 && len(s.groupBy) == 0
}

// Reads reports whether rows show something below a root, such as tags.
func (s *Statement) Reads(root string) bool {
	below := func(p path) bool { return len(p.parts) > 0 && p.parts[0] == root }
	return s.Whole() || slices.ContainsFunc(s.groupBy, below) || slices.ContainsFunc(s.items, func(i item) bool { return below(i.property) })
}

func (p *parser) keyword(name string) bool {
	if !p.isWord(name) {
		return false
	}
	p.take()
	return true
}

func (p *parser) statement() *Statement {
	s := &Statement{}
	if !p.keyword("SELECT") {
		p.fail("SELECT")
		return s
	}
	if p.keyword("TOP") {
		s.Top = p.top()
	}
	if p.isSign("*") {
		p.take()
	} else {
		s.items = p.items()
	}
	if !p.keyword("FROM") {
		p.fail("FROM")
		return s
	}
	s.From = p.from()
	if p.keyword("WHERE") {
		s.Where = &Condition{p.condition()}
	}
	if p.keyword("GROUP") {
		if !p.keyword("BY") {
			p.fail("BY")
		}
		s.groupBy = p.groups()
	}
	return s
}

func (p *parser) top() int {
	t := p.peek()
	if t.kind != number || t.value < 1 || t.value > math.MaxInt32 || t.value != math.Trunc(t.value) {
		p.fail("a whole number above 0")
		return 0
	}
	p.take()
	return int(t.value)
}

func (p *parser) items() (all []item) {
	for p.err == nil {
		if all = append(all, p.item()); len(all) > maxItems {
			p.err = problem.New(problem.Invalid, "a query selects at most %d properties", maxItems)
		}
		if !p.isSign(",") {
			break
		}
		p.take()
	}
	return all
}

var aggregates = map[string]bool{"COUNT": true, "SUM": true, "AVG": true, "MIN": true, "MAX": true}

func (p *parser) item() (i item) {
	if upper := strings.ToUpper(p.peek().text); p.peek().kind == word && aggregates[upper] && p.tokens[p.next+1].text == "(" {
		i.aggregate, i.name = upper, strings.ToLower(upper)
		p.take()
		p.take()
		if upper != "COUNT" {
			i.property = p.path()
		} else if p.isSign("*") {
			p.take()
		}
		p.expectSign(")")
	} else {
		i.property = p.path()
		if parts := i.property.parts; len(parts) > 0 {
			i.name = parts[len(parts)-1]
		}
	}
	if p.keyword("AS") {
		t := p.take()
		if t.kind != word && t.kind != text || t.text == "" {
			p.next--
			p.fail("a name")
		}
		i.name = t.text
	}
	return i
}

func (p *parser) path() path {
	if p.peek().kind != word {
		p.fail("a property")
		return path{}
	}
	found, _ := p.property().(path)
	return found
}

func (p *parser) groups() (all []path) {
	for p.err == nil {
		if all = append(all, p.path()); len(all) > maxItems {
			p.err = problem.New(problem.Invalid, "a query groups by at most %d properties", maxItems)
		}
		if !p.isSign(",") {
			break
		}
		p.take()
	}
	return all
}

func (p *parser) from() Source {
	if p.keyword("devices") {
		if !p.isSign(".") {
			return FromDevices
		}
		p.take()
		switch {
		case p.keyword("modules"):
			return FromModules
		case p.keyword("jobs"):
			p.scope = jobs
			return FromJobs
		}
	}
	p.fail("devices, devices.modules or devices.jobs")
	return ""
}

// check holds the parts of a statement against one another.
func (s *Statement) check() error {
	grouped := map[string]bool{}
	for _, g := range s.groupBy {
		grouped[strings.Join(g.parts, "\x00")] = true
	}
	switch {
	case s.From == FromJobs && !s.Whole():
		return problem.New(problem.Invalid, "jobs are selected as a whole: SELECT * FROM devices.jobs")
	case len(s.groupBy) > 0 && s.Whole():
		return problem.New(problem.Invalid, "a grouped query selects what it groups by and aggregates, not *")
	}
	names := map[string]bool{}
	for _, i := range s.items {
		if s.Aggregates() && i.aggregate == "" && !grouped[strings.Join(i.property.parts, "\x00")] {
			return problem.New(problem.Invalid, "%s is neither an aggregate nor grouped by", i.name)
		}
		if names[i.name] {
			return problem.New(problem.Invalid, "two columns are called %s; name one otherwise with AS", i.name)
		}
		names[i.name] = true
	}
	return nil
}

// Project returns the selected properties of one device; those it lacks are
// left out.
func (s *Statement) Project(f Names) map[string]any {
	row := map[string]any{}
	for _, i := range s.items {
		if i.aggregate != "" {
			continue
		}
		if v, ok := f.Lookup(i.property.parts); ok {
			row[i.name] = v
		}
	}
	return row
}

// Collector gathers the figures of an aggregating statement.
type Collector struct {
	statement *Statement
	groups    map[string]*group
	order     []*group
}

type group struct {
	keys    []any // by groupBy, missing{} where a device lacks it
	figures []figure
}

// figure is an aggregate under way.
type figure struct {
	count    int64
	sum      float64
	min, max any
}

// Collect returns an empty collector. Without GROUP BY there is one row even
// over no devices.
func (s *Statement) Collect() *Collector {
	c := &Collector{statement: s, groups: map[string]*group{}}
	if len(s.groupBy) == 0 {
		c.open("", nil)
	}
	return c
}

func (c *Collector) open(key string, keys []any) *group {
	g := &group{keys: keys, figures: make([]figure, len(c.statement.items))}
	c.groups[key] = g
	c.order = append(c.order, g)
	return g
}

// Add counts one device in.
func (c *Collector) Add(f Names) error {
	var keys []any
	for _, p := range c.statement.groupBy {
		keys = append(keys, lookUp(p, f))
	}
	key := ""
	if len(keys) > 0 {
		text, err := json.Marshal(keys)
		if err != nil {
			return err
		}
		key = string(text)
	}
	g := c.groups[key]
	if g == nil {
		if len(c.groups) >= MaxGroups {
			return problem.New(problem.Invalid, "the query has more than %d groups; group by something coarser", MaxGroups)
		}
		g = c.open(key, keys)
	}
	for i, it := range c.statement.items {
		g.figures[i].add(it, f)
	}
	return nil
}

func (f *figure) add(i item, names Names) {
	if i.aggregate == "" {
		return
	}
	if i.aggregate == "COUNT" {
		f.count++
		return
	}
	v := lookUp(i.property, names)
	switch v := v.(type) {
	case float64:
		f.sum += v
	case string:
		if i.aggregate == "SUM" || i.aggregate == "AVG" {
			return
		}
	default:
		return
	}
	f.count++
	if f.min == nil || compare("<", v, f.min) {
		f.min = v
	}
	if f.max == nil || compare(">", v, f.max) {
		f.max = v
	}
}

// Rows returns the figures, groups in the order they came up.
func (c *Collector) Rows() []map[string]any {
	rows := []map[string]any{}
	for _, g := range c.order {
		row := map[string]any{}
		for i, it := range c.statement.items {
			if v, ok := c.cell(g, i, it); ok {
				row[it.name] = v
			}
		}
		rows = append(rows, row)
	}
	return rows
}

func (c *Collector) cell(g *group, i int, it item) (any, bool) {
	f := g.figures[i]
	switch it.aggregate {
	case "":
		for k, p := range c.statement.groupBy {
			if strings.Join(p.parts, "\x00") == strings.Join(it.property.parts, "\x00") {
				_, absent := g.keys[k].(missing)
				return g.keys[k], !absent
			}
		}
		return nil, false
	case "COUNT":
		return f.count, true
	case "SUM":
		return f.sum, true
	case "AVG":
		if f.count == 0 {
			return nil, false
		}
		return f.sum / float64(f.count), true
	case "MIN":
		return f.min, f.min != nil
	}
	return f.max, f.max != nil
}
