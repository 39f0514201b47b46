package slipway

import (
	"encoding/json"
	"reflect"
	"regexp"
	"strings"
	"time"
)

// form is what an attribute holds.
type form int

const (
	text form = iota
	boolean
	integer
	number
	document // JSON of any shape, as text
	list
	mapping
	object
)

// field is one attribute, read off a Go type of the API: whatever a kind of
// resource can say there, it can say in Terraform.
type field struct {
	name     string // in Terraform
	key      string // in the API
	form     form
	of       *field  // of a list's or mapping's elements
	members  []field // of an object
	words    string
	required bool
	secret   bool
}

var (
	rawJSON = reflect.TypeFor[json.RawMessage]()
	moment  = reflect.TypeFor[time.Time]()
)

// fieldsOf are the attributes of a struct, in their order.
func fieldsOf(t reflect.Type) (all []field) {
	for i := range t.NumField() {
		f := t.Field(i)
		key, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		switch {
		case f.Anonymous && key == "":
			all = append(all, fieldsOf(f.Type)...)
			continue
		case !f.IsExported() || key == "-" || key == "":
			continue
		}
		one := fieldOf(f.Type)
		one.name, one.key, one.words = snake(key), key, sentence(f.Tag)
		one.required = !strings.Contains(options, "omit")
		if f.Tag.Get("secret") == "true" {
			one = one.hidden()
		}
		all = append(all, one)
	}
	return all
}

// fieldOf is an attribute without its name.
func fieldOf(t reflect.Type) field {
	if t == rawJSON {
		return field{form: document}
	}
	if t == moment {
		return field{form: text}
	}
	switch t.Kind() {
	case reflect.Pointer:
		return fieldOf(t.Elem())
	case reflect.Bool:
		return field{form: boolean}
	case reflect.String:
		return field{form: text}
	case reflect.Float32, reflect.Float64:
		return field{form: number}
	case reflect.Struct:
		return field{form: object, members: fieldsOf(t)}
	case reflect.Slice:
		element := fieldOf(t.Elem())
		return field{form: list, of: &element}
	case reflect.Map:
		if t.Elem().Kind() == reflect.Interface {
			return field{form: document}
		}
		element := fieldOf(t.Elem())
		return field{form: mapping, of: &element}
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64, reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return field{form: integer}
	}
	return field{form: document}
}

// hidden is the field as a secret, with all that is in it.
func (f field) hidden() field {
	f.secret = true
	if f.of != nil {
		element := f.of.hidden()
		f.of = &element
	}
	return f
}

// sentence describes a field by the tags that describe it in the API.
func sentence(tags reflect.StructTag) string {
	words := tags.Get("doc")
	if choices := tags.Get("enum"); choices != "" && !strings.Contains(words, ",") {
		if words != "" {
			words += ". "
		}
		words += "One of " + strings.ReplaceAll(choices, ",", ", ")
	}
	return words
}

var (
	wordEnd   = regexp.MustCompile(`([a-z0-9])([A-Z])`)
	shortWord = regexp.MustCompile(`([A-Z]+)([A-Z][a-z])`)
)

// snake is a name of the API as Terraform spells names: promotesFrom becomes
// promotes_from.
func snake(key string) string {
	key = strings.ReplaceAll(key, "MiB", "Mib")
	return strings.ToLower(wordEnd.ReplaceAllString(shortWord.ReplaceAllString(key, "${1}_$2"), "${1}_$2"))
}
