package transform

import (
	"errors"
	"sort"
	"strings"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/slipway/slipway/internal/problem"
)

// Schema is what a version of a program can read of documents: a JSON Schema.
type Schema struct{ compiled *jsonschema.Schema }

// nowhere loads nothing: a schema has all of itself in it.
type nowhere struct{}

// Load refuses.
func (nowhere) Load(url string) (any, error) {
	return nil, errors.New("a schema refers to nothing outside of itself, unlike " + url)
}

// maxSchema is how long the text of a schema may be.
const maxSchema = 64 << 10

// ParseSchema reads a JSON Schema.
func ParseSchema(text []byte) (*Schema, error) {
	if len(text) > maxSchema {
		return nil, problem.New(problem.TooLarge, "a schema has at most %d bytes, not %d", maxSchema, len(text))
	}
	document, err := jsonschema.UnmarshalJSON(strings.NewReader(string(text)))
	if err != nil {
		return nil, problem.New(problem.Invalid, "the schema is not JSON: %s", err)
	}
	compiler := jsonschema.NewCompiler()
	compiler.UseLoader(nowhere{})
	if err := compiler.AddResource("slipway:twin", document); err != nil {
		return nil, problem.New(problem.Invalid, "the schema cannot be read: %s", err)
	}
	compiled, err := compiler.Compile("slipway:twin")
	if err != nil {
		return nil, problem.New(problem.Invalid, "the schema cannot be read: %s", err)
	}
	return &Schema{compiled}, nil
}

// Breach is where a document is not as a schema wants it, and which of its
// words say so; empty where it is.
func (s *Schema) Breach(document map[string]any) string {
	err := s.compiled.Validate(document)
	if err == nil {
		return ""
	}
	var found *jsonschema.ValidationError
	if !errors.As(err, &found) {
		return "it cannot be held against the schema"
	}
	var all []string
	leaves(found, &all)
	sort.Strings(all)
	return all[0]
}

func leaves(e *jsonschema.ValidationError, all *[]string) {
	if len(e.Causes) == 0 {
		where := strings.Join(e.InstanceLocation, ".")
		if where == "" {
			where = "the document"
		}
		*all = append(*all, where+" breaks "+strings.Join(e.ErrorKind.KeywordPath(), "/"))
		return
	}
	for _, cause := range e.Causes {
		leaves(cause, all)
	}
}
