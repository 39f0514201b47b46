package flag

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/diegoholiveira/jsonlogic/v3"
	"github.com/twmb/murmur3"
	"golang.org/x/mod/semver"

	"github.com/slipway/slipway/internal/problem"
)

// The bounds of a rule.
const (
	maxDepth     = 32
	maxIterators = 2 // of lists inside lists
)

// operators are those of JsonLogic and of flagd, by whether they go over lists.
var operators = func() map[string]bool {
	all := map[string]bool{}
	for name := range strings.FieldsSeq("var missing missing_some if ?: == === != !== ! !! or and > >= < <= max min + - * / % merge in cat substr fractional starts_with ends_with sem_ver $ref") {
		all[name] = false
	}
	for name := range strings.FieldsSeq("map filter reduce all none some") {
		all[name] = true
	}
	return all
}()

// compileRule reads a rule, puts evaluators where they are referred to, and
// refuses what could not be evaluated, or not within bounds. Nothing and {} are
// no rule.
func compileRule(text json.RawMessage, evaluators map[string]json.RawMessage) (any, error) {
	if len(bytes.TrimSpace(text)) == 0 || bytes.Equal(bytes.TrimSpace(text), []byte("null")) {
		return nil, nil
	}
	if len(text) > maxRule {
		return nil, problem.New(problem.TooLarge, "a rule has at most %d bytes, not %d", maxRule, len(text)).At("targeting")
	}
	var rule any
	if err := json.Unmarshal(text, &rule); err != nil {
		return nil, problem.New(problem.Invalid, "targeting is a rule in JsonLogic: %w", err).At("targeting")
	}
	object, ok := rule.(map[string]any)
	if !ok {
		return nil, problem.New(problem.Invalid, "targeting is a rule, which is an object").At("targeting")
	}
	if len(object) == 0 {
		return nil, nil
	}
	reader := ruleReader{evaluators: evaluators}
	return reader.read(rule, "targeting", place{})
}

// ruleReader resolves and checks one rule.
type ruleReader struct {
	evaluators map[string]json.RawMessage
	terms      int
}

// place is where in a rule a term stands.
type place struct {
	depth     int
	iterators int  // around it
	folding   bool // inside a reduce
	referred  bool // inside an evaluator
}

// maxTerms bounds a rule with what it refers to.
const maxTerms = 2000

func (r *ruleReader) read(n any, at string, p place) (any, error) {
	if r.terms++; p.depth > maxDepth || r.terms > maxTerms {
		return nil, problem.New(problem.Invalid, "a rule goes at most %d levels deep and has at most %d terms", maxDepth, maxTerms).At(at)
	}
	p.depth++
	switch n := n.(type) {
	case []any:
		all := make([]any, len(n))
		for i, one := range n {
			read, err := r.read(one, fmt.Sprintf("%s[%d]", at, i), p)
			if err != nil {
				return nil, err
			}
			all[i] = read
		}
		return all, nil
	case map[string]any:
		if len(n) != 1 {
			return nil, problem.New(problem.Invalid, "a rule is an object with one operator, not %d", len(n)).At(at)
		}
		for operator, arguments := range n {
			return r.term(operator, arguments, at+"."+operator, p)
		}
	}
	return n, nil
}

func (r *ruleReader) term(operator string, arguments any, at string, p place) (any, error) {
	over, known := operators[operator]
	switch {
	case !known:
		return nil, problem.New(problem.Invalid, "there is no operator %q", operator).At(at)
	case operator == "$ref":
		return r.refer(arguments, at, p)
	case over && p.iterators == maxIterators:
		return nil, problem.New(problem.Invalid, "operators over lists stand at most %d inside one another", maxIterators).At(at)
	case p.folding && (operator == "cat" || operator == "merge"):
		return nil, problem.New(problem.Invalid, "%s cannot stand inside reduce, where it could double what it has with each step", operator).At(at)
	case over:
		p.iterators++
	}
	p.folding = p.folding || operator == "reduce"
	read, err := r.read(arguments, at, p)
	return map[string]any{operator: read}, err
}

// refer puts an evaluator where a rule refers to it; evaluators do not refer to
// one another.
func (r *ruleReader) refer(name any, at string, p place) (any, error) {
	text, _ := name.(string)
	body, known := r.evaluators[text]
	if !known {
		return nil, problem.New(problem.Invalid, "there is no evaluator %q in $evaluators", text).At(at)
	}
	if p.referred {
		return nil, problem.New(problem.Invalid, "an evaluator refers to no other").At(at)
	}
	var rule any
	if err := json.Unmarshal(body, &rule); err != nil {
		return nil, problem.New(problem.Invalid, "evaluator %s is a rule: %w", text, err).At(at)
	}
	p.referred = true
	return r.read(rule, at, p)
}

// registering gives the library the operators of flagd, and those of JsonLogic
// in which it differs from the definition: there, null is false in and, and in
// takes values of any type.
var registering sync.Once

func register() {
	registering.Do(func() {
		jsonlogic.AddOperator("and", func(values, _ any) any { return last(values, func(v any) bool { return !truthy(v) }) })
		jsonlogic.AddOperator("or", func(values, _ any) any { return last(values, truthy) })
		jsonlogic.AddOperator("in", contains)
		jsonlogic.AddOperator("starts_with", texts(strings.HasPrefix))
		jsonlogic.AddOperator("ends_with", texts(strings.HasSuffix))
		jsonlogic.AddOperator("sem_ver", semVer)
		jsonlogic.AddOperator("fractional", fractional)
	})
}

// apply evaluates a compiled rule. The library panics where types do not fit.
func apply(rule, data any) (value any, err error) {
	register()
	defer func() {
		if fault := recover(); fault != nil {
			err = problem.New(problem.Invalid, "the rule does not fit the context: %v", fault)
		}
	}()
	//lint:ignore SA1019 the other way takes text, which a rule that is read already would have to be written as for each evaluation
	return jsonlogic.ApplyInterface(rule, data)
}

// last is the first value for which done holds, or else the last one.
func last(values any, done func(any) bool) (value any) {
	list, ok := values.([]any)
	if !ok {
		return values
	}
	for _, value = range list {
		if done(value) {
			return value
		}
	}
	return value
}

// truthy is what JsonLogic takes for true.
func truthy(value any) bool {
	switch value := value.(type) {
	case nil:
		return false
	case bool:
		return value
	case float64:
		return value != 0
	case string:
		return value != ""
	case []any:
		return len(value) > 0
	}
	return true
}

func contains(values, _ any) any {
	list, _ := values.([]any)
	if len(list) != 2 {
		return false
	}
	switch where := list[1].(type) {
	case string:
		text, ok := list[0].(string)
		return ok && strings.Contains(where, text)
	case []any:
		return slices.ContainsFunc(where, func(one any) bool { return simple(one) && simple(list[0]) && one == list[0] })
	}
	return false
}

// simple reports whether a value can be compared.
func simple(value any) bool {
	switch value.(type) {
	case []any, map[string]any:
		return false
	}
	return true
}

func texts(holds func(text, part string) bool) func(values, _ any) any {
	return func(values, _ any) any {
		list, _ := values.([]any)
		if len(list) != 2 {
			return false
		}
		text, first := list[0].(string)
		part, second := list[1].(string)
		return first && second && holds(text, part)
	}
}

// semVer compares two versions; null where one is none.
func semVer(values, _ any) any {
	list, _ := values.([]any)
	if len(list) != 3 {
		return nil
	}
	a, b := version(list[0]), version(list[2])
	if a == "" || b == "" {
		return nil
	}
	order := semver.Compare(a, b)
	switch list[1] {
	case "=":
		return order == 0
	case "!=":
		return order != 0
	case "<":
		return order < 0
	case "<=":
		return order <= 0
	case ">":
		return order > 0
	case ">=":
		return order >= 0
	case "^":
		return semver.Major(a) == semver.Major(b)
	case "~":
		return semver.MajorMinor(a) == semver.MajorMinor(b)
	}
	return nil
}

// version is a version as the library wants it; empty where the value is none.
func version(value any) string {
	text, ok := value.(string)
	if number, isNumber := value.(float64); isNumber {
		text, ok = fmt.Sprint(number), true
	}
	text = "v" + strings.TrimPrefix(strings.TrimPrefix(strings.TrimSpace(text), "v"), "V")
	if !ok || !semver.IsValid(text) {
		return ""
	}
	return text
}

// maxWeight bounds the sum of the weights of a split.
const maxWeight = 1<<31 - 1

// fractional chooses a variant by a hash: of its first argument where that is a
// text, or else of the flag's key with the targeting key behind it.
func fractional(values, data any) any {
	list, _ := values.([]any)
	if len(list) == 0 {
		return nil
	}
	bucket, named := list[0].(string)
	if _, share := list[0].([]any); !share {
		list = list[1:]
	}
	if !named {
		of, _ := data.(map[string]any)
		target, ok := of[targetingKey].(string)
		own, _ := of[ownProperties].(map[string]any)
		key, _ := own[flagKey].(string)
		if !ok || target == "" {
			return nil
		}
		bucket = key + target
	}
	return share(list, data, murmur3.StringSum32(bucket))
}

// share is the variant in whose part of the whole a hash falls.
func share(parts []any, data any, hash uint32) any {
	variants, weights, sum := make([]any, len(parts)), make([]uint64, len(parts)), uint64(0)
	for i, one := range parts {
		part, ok := one.([]any)
		if !ok || len(part) == 0 || len(part) > 2 {
			return nil
		}
		weights[i] = 1
		if len(part) == 2 {
			if weights[i], ok = weightOf(part[1], data); !ok {
				return nil
			}
		}
		variants[i] = computed(part[0], data)
		if sum += weights[i]; sum > maxWeight {
			return nil
		}
	}
	if sum == 0 {
		return nil
	}
	position := uint64(hash) * sum >> 32
	for i, weight := range weights {
		if position < weight {
			return variants[i]
		}
		position -= weight
	}
	return nil
}

// weightOf is a whole number of at least 0; what is computed to less is 0.
func weightOf(value, data any) (uint64, bool) {
	number, ok := computed(value, data).(float64)
	if !ok || number != float64(int64(number)) || number > maxWeight {
		return 0, false
	}
	return uint64(max(number, 0)), true
}

// computed is a value, or what the rule in its place comes to. The library
// does not look inside lists.
func computed(value, data any) any {
	rule, ok := value.(map[string]any)
	if !ok {
		return value
	}
	//lint:ignore SA1019 as in apply
	result, err := jsonlogic.ApplyInterface(rule, data)
	if err != nil {
		return nil
	}
	return result
}
