// Package transform changes documents by programs that a release brings. They
// are written in jq, of which only that is allowed which ends soon and reaches
// nothing: no input, no environment, no modules, no functions of one's own, no
// loops but over what is there.
package transform

import (
	"context"
	"encoding/json"
	"fmt"
	"math/big"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/itchyny/gojq"

	"github.com/slipway/slipway/internal/problem"
)

// The limits of a program.
const (
	maxProgram  = 100_000     // characters
	maxDocument = 256 << 10   // bytes of what comes out
	maxTime     = time.Second // for one document
)

// allowed are the functions of jq that programs may use.
var allowed = strings.Fields(`
	abs add all any arrays ascii ascii_downcase ascii_upcase booleans capture ceil contains del delpaths empty endswith error
	explode fabs first flatten floor from_entries fromjson getpath group_by has implode in index indices inside isempty iterables
	join keys keys_unsorted last leaf_paths length ltrimstr map map_values match max max_by min min_by not nulls numbers objects
	path paths pick pow recurse reverse rindex round rtrimstr scalars select setpath sort sort_by split splits sqrt startswith
	strings strptime sub gsub test to_entries toarray tojson tonumber tostring transpose trim ltrim rtrim trunc type unique unique_by
	utf8bytelength values walk with_entries ascii mktime gmtime fromdate todate fromdateiso8601 todateiso8601 true false null`)

// Program is a transform that was read.
type Program struct {
	Text string
	code *gojq.Code
}

// Parse reads a program.
func Parse(text string) (*Program, error) {
	if strings.TrimSpace(text) == "" || len(text) > maxProgram {
		return nil, problem.New(problem.Invalid, "a program has 1 to %d characters", maxProgram)
	}
	query, err := gojq.Parse(text)
	if err != nil {
		return nil, problem.New(problem.Invalid, "the program cannot be read: %s", err)
	}
	if err := harmless(reflect.ValueOf(query), 0); err != nil {
		return nil, err
	}
	code, err := gojq.Compile(query)
	if err != nil {
		return nil, problem.New(problem.Invalid, "the program cannot be read: %s", err)
	}
	return &Program{text, code}, nil
}

// maxNesting bounds how deep a program goes.
const maxNesting = 400

// harmless looks through all of a program.
func harmless(v reflect.Value, depth int) error {
	if depth > maxNesting {
		return problem.New(problem.Invalid, "the program is nested too deep")
	}
	switch v.Kind() {
	case reflect.Pointer:
		if v.IsNil() {
			return nil
		}
		if err := allowedNode(v.Interface()); err != nil {
			return err
		}
		return harmless(v.Elem(), depth+1)
	case reflect.Struct:
		for i := range v.NumField() {
			if err := harmless(v.Field(i), depth+1); err != nil {
				return err
			}
		}
	case reflect.Slice:
		for i := range v.Len() {
			if err := harmless(v.Index(i), depth+1); err != nil {
				return err
			}
		}
	}
	return nil
}

func allowedNode(node any) error {
	switch node := node.(type) {
	case *gojq.FuncDef:
		return problem.New(problem.Invalid, "a program has no functions of its own, such as %s", node.Name)
	case *gojq.Import:
		return problem.New(problem.Invalid, "a program imports nothing")
	case *gojq.Func:
		if !strings.HasPrefix(node.Name, "$") && !slices.Contains(allowed, node.Name) || node.Name == "$ENV" || node.Name == "$__prog_args" {
			return problem.New(problem.Invalid, "a program may not use %s: it must end soon and reach nothing", node.Name)
		}
		if node.Name == "recurse" && len(node.Args) > 0 {
			return problem.New(problem.Invalid, "a program uses recurse without arguments, as it may not end with them")
		}
	}
	return nil
}

// run gives what a program makes of a value, which must be one.
func (p *Program) run(ctx context.Context, value any) (any, error) {
	ctx, done := context.WithTimeout(ctx, maxTime)
	defer done()
	results := p.code.RunWithContext(ctx, value)
	first, any := results.Next()
	if !any {
		return nil, problem.New(problem.Invalid, "the program made nothing of the document")
	}
	if err, failed := first.(error); failed {
		return nil, said(ctx, err)
	}
	if second, more := results.Next(); more {
		if err, failed := second.(error); failed {
			return nil, said(ctx, err)
		}
		return nil, problem.New(problem.Invalid, "the program made several documents of one")
	}
	return first, nil
}

func said(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return problem.New(problem.TimedOut, "the program took longer than %s", maxTime)
	}
	text := err.Error()
	if i := strings.Index(text, ":"); i > 0 { // what follows quotes the document
		text = text[:i]
	}
	return problem.New(problem.Invalid, "the program failed: %.200s", text)
}

// Apply gives what a program makes of a document, whose numbers are
// json.Number.
func (p *Program) Apply(ctx context.Context, document map[string]any) (map[string]any, error) {
	made, err := p.run(ctx, plain(document))
	if err != nil {
		return nil, err
	}
	object, ok := made.(map[string]any)
	if !ok {
		return nil, problem.New(problem.Invalid, "the program made %s of a document, not an object", kind(made))
	}
	text, err := json.Marshal(object)
	if err != nil {
		return nil, problem.New(problem.Invalid, "the program made what is no JSON")
	}
	if len(text) > maxDocument {
		return nil, problem.New(problem.TooLarge, "the program made a document of %d bytes, and %d are allowed", len(text), maxDocument)
	}
	return numbered(object).(map[string]any), nil
}

// Holds reports whether a program that is a condition is true of a document.
func (p *Program) Holds(ctx context.Context, document map[string]any) (bool, error) {
	made, err := p.run(ctx, plain(document))
	if err != nil {
		return false, err
	}
	return made != nil && made != false, nil
}

// plain is a copy with the numbers that gojq works on.
func plain(value any) any {
	switch value := value.(type) {
	case map[string]any:
		to := make(map[string]any, len(value))
		for key, one := range value {
			to[key] = plain(one)
		}
		return to
	case []any:
		to := make([]any, len(value))
		for i, one := range value {
			to[i] = plain(one)
		}
		return to
	case json.Number:
		if n, err := strconv.Atoi(value.String()); err == nil {
			return n
		}
		if n, ok := new(big.Int).SetString(value.String(), 10); ok {
			return n
		}
		f, err := value.Float64()
		if err != nil {
			return nil
		}
		return f
	}
	return value
}

// numbered is a copy with the numbers of documents.
func numbered(value any) any {
	switch value := value.(type) {
	case map[string]any:
		to := make(map[string]any, len(value))
		for key, one := range value {
			to[key] = numbered(one)
		}
		return to
	case []any:
		to := make([]any, len(value))
		for i, one := range value {
			to[i] = numbered(one)
		}
		return to
	case int:
		return json.Number(strconv.Itoa(value))
	case *big.Int:
		return json.Number(value.String())
	case float64:
		return json.Number(strconv.FormatFloat(value, 'g', -1, 64))
	}
	return value
}

func kind(value any) string {
	switch value.(type) {
	case nil:
		return "null"
	case []any:
		return "an array"
	case string:
		return "a string"
	}
	return fmt.Sprintf("a value (%T)", value)
}

// Canonical is a document with each number as programs spell it, so that one
// that they leave alone stays equal.
func Canonical(document map[string]any) map[string]any {
	return numbered(plain(document)).(map[string]any)
}
