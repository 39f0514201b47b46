package configuration

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"golang.org/x/text/language"
	"golang.org/x/text/message"

	"github.com/slipway/slipway/internal/problem"
)

// maxSchema bounds a schema, as JSON.
const maxSchema = 64 << 10

// schema is a JSON Schema that can be asked.
type schema struct{ *jsonschema.Schema }

// nowhere loads no schema from anywhere: one that is stored is whole.
type nowhere struct{}

var errNowhere = errors.New("a schema is whole; it cannot refer to another one elsewhere")

// Load refuses.
func (nowhere) Load(string) (any, error) { return nil, errNowhere }

const schemaAt = "https://slipway.invalid/schema.json"

// compile reads a schema; none is nil.
func compile(text json.RawMessage) (*schema, error) {
	if len(bytes.TrimSpace(text)) == 0 || string(bytes.TrimSpace(text)) == "null" {
		return nil, nil
	}
	fault := func(err error) error {
		return problem.New(problem.Invalid, "the schema cannot be read: %s", lastOf(err)).At("schema")
	}
	if len(text) > maxSchema {
		return nil, problem.New(problem.TooLarge, "a schema has at most %d bytes, not %d", maxSchema, len(text)).At("schema")
	}
	document, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		return nil, fault(err)
	}
	c := jsonschema.NewCompiler()
	c.UseLoader(nowhere{})
	c.AssertFormat()
	if err := c.AddResource(schemaAt, document); err != nil {
		return nil, fault(err)
	}
	compiled, err := c.Compile(schemaAt)
	if err != nil {
		return nil, fault(err)
	}
	return &schema{compiled}, nil
}

// lastOf is the last line of an error, which says what is wrong.
func lastOf(err error) string {
	lines := strings.Split(strings.TrimSpace(err.Error()), "\n")
	return strings.TrimSpace(strings.TrimLeft(lines[len(lines)-1], "- "))
}

// validate holds a document against the schema. The field of what it finds is
// where in the document.
func (s *schema) validate(content json.RawMessage) error {
	document, err := jsonschema.UnmarshalJSON(bytes.NewReader(content))
	if err != nil {
		return problem.New(problem.Invalid, "the content is no JSON: %s", err).At("content")
	}
	err = s.Validate(document)
	var found *jsonschema.ValidationError
	if !errors.As(err, &found) {
		return err
	}
	for len(found.Causes) > 0 {
		found = found.Causes[0]
	}
	at := strings.Join(append([]string{"content"}, found.InstanceLocation...), ".")
	return problem.New(problem.Invalid, "the schema does not allow it: %s", found.ErrorKind.LocalizedString(message.NewPrinter(language.English))).At(at)
}
