package resource

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"sort"
	"strconv"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"

	"github.com/slipway/slipway/internal/flag"
	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/problem"
)

// The limits of a file.
const (
	maxFile      = 8 << 20
	maxDocuments = 10_000
)

// specs are the forms of the kinds' specs.
var specs = map[string]reflect.Type{
	KindBlueprint: reflect.TypeFor[BlueprintSpec](), KindEnvironment: reflect.TypeFor[EnvironmentSpec](), KindStamp: reflect.TypeFor[StampSpec](),
	KindEnrollment: reflect.TypeFor[link.EnrollmentSpec](), KindEnrollmentGroup: reflect.TypeFor[link.EnrollmentSpec](),
	KindRoute: reflect.TypeFor[link.RouteSpec](), KindTenant: reflect.TypeFor[TenantSpec](), KindRelease: reflect.TypeFor[ReleaseSpec](),
	KindAlertRule: reflect.TypeFor[AlertRuleSpec](), KindReceiver: reflect.TypeFor[ReceiverSpec](), KindOnCall: reflect.TypeFor[OnCallSpec](), KindSLO: reflect.TypeFor[SLOSpec](),
	KindFlag: reflect.TypeFor[flag.Flag](), KindRole: reflect.TypeFor[RoleSpec](),
}

// Decode reads the documents of a YAML or JSON file. Errors read
// file:line:column: field: what is wrong.
func Decode(file string, data []byte) ([]Resource, error) {
	if len(data) > maxFile {
		return nil, problem.New(problem.TooLarge, "%s: a file has at most %d bytes, not %d; split it", file, maxFile, len(data))
	}
	parsed, err := parser.ParseBytes(data, 0)
	if err != nil {
		return nil, syntax(file, err)
	}
	if len(parsed.Docs) > maxDocuments {
		return nil, problem.New(problem.TooLarge, "%s: a file has at most %d documents, not %d", file, maxDocuments, len(parsed.Docs))
	}
	var all []Resource
	for _, document := range parsed.Docs {
		if document.Body == nil || document.Body.Type() == ast.NullType {
			continue
		}
		d := decoder{file: file}
		r, err := d.resource(document.Body)
		if err != nil {
			return nil, err
		}
		all = append(all, r)
	}
	return all, nil
}

// DecodeOne reads a file of one document that is no resource, such as a
// process's configuration. What check finds wrong is told with its place, by
// the field that the problem names.
func DecodeOne[T any](file string, data []byte, check func(T) (T, error)) (document T, err error) {
	if len(data) > maxFile {
		return document, problem.New(problem.TooLarge, "%s: a file has at most %d bytes, not %d", file, maxFile, len(data))
	}
	parsed, err := parser.ParseBytes(data, 0)
	if err != nil {
		return document, syntax(file, err)
	}
	if len(parsed.Docs) != 1 || parsed.Docs[0].Body == nil {
		return document, problem.New(problem.Invalid, "%s: it holds %d documents, and must hold one", file, len(parsed.Docs))
	}
	d, body := decoder{file: file}, parsed.Docs[0].Body
	if err := d.check(body, reflect.TypeFor[T](), ""); err != nil {
		return document, err
	}
	text, err := toJSON(body)
	if err != nil {
		return document, d.fault(body, "document", "%s", err)
	}
	if err := json.Unmarshal(text, &document); err != nil {
		return document, d.typeFault(body, "", err)
	}
	checked, err := check(document)
	if p := problem.Of(err); err != nil && p.Kind == problem.Invalid && p.Field != "" {
		return document, d.fault(find(body, p.Field), p.Field, "%s", p.Message)
	}
	return checked, err
}

// syntax puts the parser's complaint into our form.
func syntax(file string, err error) error {
	var located yaml.Error
	if errors.As(err, &located) && located.GetToken() != nil {
		at := located.GetToken().Position
		return problem.New(problem.Invalid, "%s:%d:%d: %s", file, at.Line, at.Column, located.GetMessage())
	}
	return problem.New(problem.Invalid, "%s: %w", file, err)
}

// decoder turns one document into a resource.
type decoder struct{ file string }

// fault is a complaint about a node.
func (d decoder) fault(n ast.Node, field, format string, args ...any) error {
	at := n.GetToken().Position
	return problem.New(problem.Invalid, "%s:%d:%d: %s: %s", d.file, at.Line, at.Column, field, fmt.Sprintf(format, args...))
}

func (d decoder) resource(body ast.Node) (r Resource, err error) {
	if err := d.check(body, reflect.TypeFor[Object[json.RawMessage, json.RawMessage]](), ""); err != nil {
		return r, err
	}
	text, err := toJSON(body)
	if err != nil {
		return r, d.fault(body, "document", "%s", err)
	}
	if err := json.Unmarshal(text, &r); err != nil {
		return r, d.typeFault(body, "", err)
	}
	form, known := specs[r.Kind]
	switch {
	case r.APIVersion != APIVersion:
		return r, d.fault(find(body, "apiVersion"), "apiVersion", "must be %s, not %q", APIVersion, r.APIVersion)
	case !known:
		return r, d.fault(find(body, "kind"), "kind", "must be one of %s, not %q", strings.Join(append(slices.Clone(Kinds), KindRelease), ", "), r.Kind)
	}
	if err := CheckName(r.Kind, r.Metadata.Name); err != nil {
		return r, d.fault(find(body, "metadata.name"), "metadata.name", "%s", problem.Of(err).Message)
	}
	return r, d.spec(body, r, form)
}

// spec checks the part that differs by kind.
func (d decoder) spec(body ast.Node, r Resource, form reflect.Type) error {
	node := find(body, "spec")
	if len(r.Spec) == 0 {
		return d.fault(body, "spec", "is missing")
	}
	if err := d.check(node, form, "spec"); err != nil {
		return err
	}
	spec := reflect.New(form)
	if err := json.Unmarshal(r.Spec, spec.Interface()); err != nil {
		return d.typeFault(body, "spec", err)
	}
	var err error
	switch spec := spec.Interface().(type) {
	case *BlueprintSpec:
		err = spec.Check()
	case *EnvironmentSpec:
		err = spec.Check(r.Metadata.Name)
	case *StampSpec:
		_, err = spec.Check()
	case *TenantSpec:
		err = spec.Check()
	case *link.RouteSpec:
		_, err = CheckRoute(*spec)
	case *ReleaseSpec:
		err = spec.Check()
	case *flag.Flag:
		if err = spec.Check(r.Metadata.Name); err != nil {
			err = problem.Of(err).At(strings.TrimSuffix("spec."+problem.Of(err).Field, "."))
		}
	}
	if err != nil {
		p := problem.Of(err)
		return d.fault(find(body, p.Field), p.Field, "%s", p.Message)
	}
	return nil
}

// typeFault finds where a value of a wrong type stands.
func (d decoder) typeFault(body ast.Node, prefix string, err error) error {
	var wrong *json.UnmarshalTypeError
	if errors.As(err, &wrong) {
		field := strings.TrimPrefix(prefix+"."+wrong.Field, ".")
		return d.fault(find(body, field), field, "must be %s, not %s", describe(wrong.Type), wrong.Value)
	}
	return d.fault(body, "document", "%s", err)
}

func describe(t reflect.Type) string {
	switch t.Kind() {
	case reflect.Bool:
		return "true or false"
	case reflect.Int, reflect.Int64, reflect.Uint64:
		return "a whole number"
	case reflect.String:
		return "text"
	case reflect.Slice:
		return "a list"
	}
	return "an object"
}

// check refuses keys that a form does not have, wherever they stand.
func (d decoder) check(n ast.Node, form reflect.Type, at string) error {
	for form.Kind() == reflect.Pointer {
		form = form.Elem()
	}
	if form.Kind() == reflect.Slice && form.Elem().Kind() == reflect.Struct {
		if list, ok := n.(*ast.SequenceNode); ok {
			for i, item := range list.Values {
				if err := d.check(item, form.Elem(), fmt.Sprintf("%s[%d]", at, i)); err != nil {
					return err
				}
			}
		}
		return nil
	}
	members := membersOf(n)
	if form.Kind() == reflect.Map {
		for _, m := range members {
			if err := d.check(m.Value, form.Elem(), strings.TrimPrefix(at+"."+keyOf(m), ".")); err != nil {
				return err
			}
		}
		return nil
	}
	if form.Kind() != reflect.Struct || members == nil {
		return nil
	}
	allowed := fieldsOf(form)
	for _, m := range members {
		key := keyOf(m)
		inner, ok := allowed[key]
		if !ok {
			return d.fault(m.Key, strings.TrimPrefix(at+"."+key, "."), "no such field; there are %s", names(allowed))
		}
		if err := d.check(m.Value, inner, strings.TrimPrefix(at+"."+key, ".")); err != nil {
			return err
		}
	}
	return nil
}

func names(allowed map[string]reflect.Type) string {
	var all []string
	for key := range allowed {
		all = append(all, key)
	}
	sort.Strings(all)
	return strings.Join(all, ", ")
}

// fieldsOf are a struct's JSON names with their types. Those of a struct inside
// it count as its own, unless it has one of that name itself.
func fieldsOf(form reflect.Type) map[string]reflect.Type {
	fields := map[string]reflect.Type{}
	for i := range form.NumField() {
		if f := form.Field(i); f.Anonymous && f.Tag.Get("json") == "" && f.Type.Kind() == reflect.Struct {
			maps.Copy(fields, fieldsOf(f.Type))
		}
	}
	for i := range form.NumField() {
		f := form.Field(i)
		if key, _, _ := strings.Cut(f.Tag.Get("json"), ","); key != "" && key != "-" && f.IsExported() {
			fields[key] = f.Type
		}
	}
	return fields
}

func membersOf(n ast.Node) []*ast.MappingValueNode {
	switch n := n.(type) {
	case *ast.MappingNode:
		return n.Values
	case *ast.MappingValueNode:
		return []*ast.MappingValueNode{n}
	}
	return nil
}

func keyOf(m *ast.MappingValueNode) string { return m.Key.GetToken().Value }

// find returns the node at a dotted path, or the nearest one above it.
func find(n ast.Node, path string) ast.Node {
	for step := range strings.SplitSeq(path, ".") {
		key, index, listed := strings.Cut(strings.TrimSuffix(step, "]"), "[")
		members := membersOf(n)
		i := slices.IndexFunc(members, func(m *ast.MappingValueNode) bool { return keyOf(m) == key })
		if i < 0 {
			break
		}
		n = members[i].Value
		if n.GetToken() == nil {
			n = members[i].Key
		}
		if listed {
			n = item(n, index)
		}
	}
	return n
}

// item is a list's item by its number, or the list.
func item(n ast.Node, index string) ast.Node {
	list, ok := n.(*ast.SequenceNode)
	i, err := strconv.Atoi(index)
	if !ok || err != nil || i < 0 || i >= len(list.Values) || list.Values[i].GetToken() == nil {
		return n
	}
	return list.Values[i]
}

// toJSON renders a node as JSON, as the rest of the system reads it.
func toJSON(n ast.Node) ([]byte, error) {
	var value any
	if err := yaml.NodeToValue(n, &value, yaml.UseOrderedMap()); err != nil {
		return nil, err
	}
	return marshalOrdered(value)
}

func marshalOrdered(value any) ([]byte, error) {
	switch value := value.(type) {
	case yaml.MapSlice:
		var b bytes.Buffer
		b.WriteByte('{')
		for i, item := range value {
			if i > 0 {
				b.WriteByte(',')
			}
			key, err := json.Marshal(fmt.Sprint(item.Key))
			if err != nil {
				return nil, err
			}
			inner, err := marshalOrdered(item.Value)
			if err != nil {
				return nil, err
			}
			b.Write(key)
			b.WriteByte(':')
			b.Write(inner)
		}
		b.WriteByte('}')
		return b.Bytes(), nil
	case []any:
		parts := make([][]byte, len(value))
		for i, item := range value {
			var err error
			if parts[i], err = marshalOrdered(item); err != nil {
				return nil, err
			}
		}
		return append(append([]byte{'['}, bytes.Join(parts, []byte(","))...), ']'), nil
	}
	return json.Marshal(value)
}

// SpecType is the form of a kind's spec, for programs that offer it in a form
// of their own; nil is no kind.
func SpecType(kind string) reflect.Type { return specs[kind] }
