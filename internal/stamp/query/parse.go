package query

import (
	"strings"

	"github.com/slipway/slipway/internal/problem"
)

// Parse reads a condition over devices, such as
//
//	tags.batch = '7' AND properties.reported.firmware.version != '1.0'
func Parse(source string) (*Condition, error) { return parseCondition(source, devices) }

// ParseMessage reads a condition over messages, such as
//
//	$body.temperature > 40 AND line = '7' AND $twin.tags.site = 'north'
//
// where a bare name is an application property and one with $ a system
// property, the body, or the twin of the sender.
func ParseMessage(source string) (*Condition, error) { return parseCondition(source, messages) }

func parseCondition(source string, over scope) (*Condition, error) {
	p, err := newParser(source, over)
	if err != nil {
		return nil, err
	}
	root := p.condition()
	if p.err == nil && p.peek().kind != end {
		p.fail("AND, OR or the end")
	}
	if p.err != nil {
		return nil, p.err
	}
	return &Condition{root}, nil
}

func newParser(source string, over scope) (*parser, error) {
	tokens, err := lex(source)
	return &parser{source: source, scope: over, tokens: tokens}, err
}

// condition reads an expression that holds or does not.
func (p *parser) condition() node {
	root := p.or()
	if p.err == nil && !isBoolean(root) {
		p.err = problem.New(problem.Invalid, "the condition is a value, not something that holds or does not; compare it with something")
	}
	return root
}

// parser descends recursively; after a fault it only unwinds.
type parser struct {
	source string
	scope  scope
	tokens []token
	next   int
	nodes  int
	depth  int
	err    error
}

func (p *parser) peek() token { return p.tokens[p.next] }

func (p *parser) take() token {
	t := p.tokens[p.next]
	if t.kind != end {
		p.next++
	}
	return t
}

// fail notes the first fault: what was expected, where, and what stands there.
func (p *parser) fail(expected string) node {
	if p.err == nil {
		t := p.peek()
		found := "the end"
		if t.kind != end {
			found = "\"" + t.text + "\""
		}
		p.err = problem.New(problem.Invalid, "%s: expected %s, found %s", position(p.source, t.at), expected, found)
	}
	p.next = len(p.tokens) - 1
	return literal{}
}

func (p *parser) made(n node) node {
	if p.nodes++; p.nodes > maxNodes && p.err == nil {
		p.err = problem.New(problem.Invalid, "a condition has at most %d parts", maxNodes)
		p.next = len(p.tokens) - 1
	}
	return n
}

// enter bounds the depth; the caller leaves.
func (p *parser) enter() bool {
	if p.depth++; p.depth > maxDepth && p.err == nil {
		p.err = problem.New(problem.Invalid, "%s: a condition is nested at most %d deep", position(p.source, p.peek().at), maxDepth)
		p.next = len(p.tokens) - 1
	}
	return p.err == nil
}

func (p *parser) leave() { p.depth-- }

func (p *parser) isWord(name string) bool {
	return p.peek().kind == word && strings.EqualFold(p.peek().text, name)
}

func (p *parser) isSign(texts ...string) bool {
	for _, s := range texts {
		if p.peek().kind == sign && p.peek().text == s {
			return true
		}
	}
	return false
}

func (p *parser) expectSign(s string) {
	if p.err != nil {
		return
	}
	if !p.isSign(s) {
		p.fail("\"" + s + "\"")
		return
	}
	p.take()
}

func (p *parser) or() node {
	defer p.leave()
	if !p.enter() {
		return literal{}
	}
	left := p.and()
	for p.isWord("OR") {
		p.take()
		left = p.made(logic{"OR", p.boolean(left), p.boolean(p.and())})
	}
	return left
}

func (p *parser) and() node {
	left := p.not()
	for p.isWord("AND") {
		p.take()
		left = p.made(logic{"AND", p.boolean(left), p.boolean(p.not())})
	}
	return left
}

// boolean keeps a value that is not a condition out of AND, OR and NOT; a
// property that holds true is compared with true.
func (p *parser) boolean(n node) node {
	if isBoolean(n) || p.err != nil {
		return n
	}
	return p.fail("a comparison")
}

func isBoolean(n node) bool {
	switch n := n.(type) {
	case logic, negation, comparison, membership, path:
		return true
	case call:
		return functions[n.function].result == boolean
	case literal:
		_, ok := n.value.(bool)
		return ok
	}
	return false
}

func (p *parser) not() node {
	if !p.isWord("NOT") {
		return p.compare()
	}
	defer p.leave()
	if !p.enter() {
		return literal{}
	}
	p.take()
	return p.made(negation{p.boolean(p.not())})
}

func (p *parser) compare() node {
	left := p.sum()
	switch {
	case p.isSign("=", "!=", "<>", "<", "<=", ">", ">="):
		operator := p.take().text
		if operator == "<>" {
			operator = "!="
		}
		return p.made(comparison{operator, left, p.sum()})
	case p.isWord("IN"), p.isWord("NIN"):
		except := strings.EqualFold(p.take().text, "NIN")
		return p.made(membership{left, p.list(), except})
	}
	return left
}

func (p *parser) list() (all []literal) {
	p.expectSign("[")
	for p.err == nil && !p.isSign("]") {
		value, ok := p.primary().(literal)
		if !ok {
			p.fail("a constant")
			return nil
		}
		if all = append(all, value); len(all) > maxList {
			p.err = problem.New(problem.Invalid, "a list has at most %d constants", maxList)
			return nil
		}
		if !p.isSign(",") {
			break
		}
		p.take()
	}
	p.expectSign("]")
	return all
}

func (p *parser) sum() node {
	left := p.product()
	for p.isSign("+", "-") {
		operator := p.take().text
		left = p.made(arithmetic{operator, left, p.product()})
	}
	return left
}

func (p *parser) product() node {
	left := p.primary()
	for p.isSign("*", "/", "%") {
		operator := p.take().text
		left = p.made(arithmetic{operator, left, p.primary()})
	}
	return left
}

func (p *parser) primary() node {
	t := p.peek()
	switch {
	case t.kind == number:
		p.take()
		return p.made(literal{t.value})
	case t.kind == text:
		p.take()
		return p.made(literal{t.text})
	case p.isSign("-"):
		p.take()
		if t := p.take(); t.kind == number {
			return p.made(literal{-t.value})
		}
		p.next--
		return p.fail("a number after \"-\"")
	case p.isSign("("):
		p.take()
		inner := p.or()
		p.expectSign(")")
		return inner
	case t.kind == word:
		return p.name()
	}
	return p.fail("a property, a constant or \"(\"")
}

func (p *parser) name() node {
	t := p.take()
	upper := strings.ToUpper(t.text)
	switch upper {
	case "TRUE":
		return p.made(literal{true})
	case "FALSE":
		return p.made(literal{false})
	case "NULL":
		return p.made(literal{nil})
	}
	if p.isSign("(") {
		return p.call(upper)
	}
	p.next--
	return p.property()
}

func (p *parser) call(name string) node {
	if known, ok := aliases[name]; ok {
		name = known
	}
	f, ok := functions[name]
	if !ok || f.messagesOnly && p.scope != messages {
		p.next--
		return p.fail("a function of " + p.scope.String() + " conditions, such as IS_DEFINED or CONTAINS")
	}
	defer p.leave()
	if !p.enter() {
		return literal{}
	}
	p.take()
	n := call{function: name}
	for i := 0; i < f.most && p.err == nil; i++ {
		if i >= f.least && !p.isSign(",") {
			break
		}
		if i > 0 {
			p.expectSign(",")
		}
		n.args = append(n.args, p.sum())
	}
	p.expectSign(")")
	if p.err != nil {
		return literal{}
	}
	if _, isPath := n.args[0].(path); f.ofProperty && !isPath {
		p.err = problem.New(problem.Invalid, "%s looks at a property, such as %s(%s)", name, name, p.scope.example())
	}
	return p.made(n)
}

// property reads the name of something of what the query is over; odd keys
// stand in brackets: tags['a key'] or tags.[[a key]].
func (p *parser) property() node {
	parts, ok := p.root()
	if !ok {
		return literal{}
	}
	for p.err == nil && p.isSign(".", "[") {
		key := p.key()
		if strings.ContainsAny(key, "\"\\") {
			p.err = problem.New(problem.Invalid, "a key in a condition holds no quotation mark and no backslash, as %q does", key)
		}
		parts = append(parts, key)
	}
	if len(parts) > maxDepth {
		p.err = problem.New(problem.Invalid, "a path has at most %d parts", maxDepth)
	}
	if p.err == nil && len(parts) > 1 && p.scope.isField(parts[0]) {
		p.err = problem.New(problem.Invalid, "%s has no parts of its own", parts[0])
	}
	return p.made(path{parts})
}

// root reads the beginning of a property.
func (p *parser) root() (parts []string, ok bool) {
	root := p.take()
	if p.scope == messages {
		if root.text != twinRoot {
			return []string{root.text}, true
		}
		p.expectSign(".")
		below, ok := p.document(p.take())
		return append([]string{twinRoot}, below...), ok
	}
	if p.scope == jobs {
		return p.jobField(root)
	}
	if field, known := deviceFields[strings.ToLower(root.text)]; known {
		return []string{field}, true
	}
	return p.document(root)
}

// jobField reads a field of a job, which may stand behind devices.jobs.
func (p *parser) jobField(root token) (parts []string, ok bool) {
	if strings.EqualFold(root.text, "devices") {
		p.expectSign(".")
		if !p.keyword("jobs") {
			p.fail("jobs")
			return nil, false
		}
		p.expectSign(".")
		root = p.take()
	}
	field, known := jobFields[strings.ToLower(root.text)]
	if !known {
		p.next--
		p.fail("a field of a job, such as devices.jobs.jobId, deviceId or status")
	}
	return []string{field}, known
}

// document reads tags, properties.desired, properties.reported, configurations.
func (p *parser) document(root token) (parts []string, ok bool) {
	switch root.text {
	case "tags":
		return []string{"tags"}, true
	case "configurations", "capabilities":
		if p.scope == devices {
			return []string{root.text}, true
		}
	case "properties":
		p.expectSign(".")
		if section := p.peek(); section.kind == word && (section.text == "desired" || section.text == "reported") {
			p.take()
			return []string{section.text}, true
		}
		p.fail("desired or reported")
		return nil, false
	}
	p.next--
	p.fail("tags, properties.desired, properties.reported, configurations or a field such as deviceId, status or connectionState")
	return nil, false
}

// key reads the next key of a path.
func (p *parser) key() string {
	dotted := p.take().text == "."
	switch t := p.peek(); {
	case dotted && p.isSign("["):
		return p.bracketed()
	case dotted && t.kind == word:
		return p.take().text
	case !dotted && t.kind == text:
		p.take()
		p.expectSign("]")
		return t.text
	}
	p.fail("a key")
	return ""
}

// bracketed reads [[a key]] as it stands in the source.
func (p *parser) bracketed() string {
	p.take()
	p.expectSign("[")
	if p.err != nil {
		return ""
	}
	from := p.tokens[p.next-1].at + 1
	length := strings.Index(p.source[from:], "]]")
	if length < 0 {
		p.fail("]] after the key")
		return ""
	}
	for p.peek().kind != end && p.peek().at < from+length+2 {
		p.take()
	}
	return p.source[from : from+length]
}
