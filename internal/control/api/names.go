package api

import (
	"reflect"
	"regexp"
	"strings"

	"github.com/danielgtaylor/huma/v2"
)

// namedIn finds the package of a type, or of the type in the brackets of a
// generic one.
var namedIn = regexp.MustCompile(`(\w+)\.\w+\]*$`)

// schemaNames names the schemas of the description: by their types, and with
// the package before it where another package has a type of the same name.
func schemaNames() func(t reflect.Type, hint string) string {
	taken := map[string]reflect.Type{}
	return func(t reflect.Type, hint string) string {
		for t.Kind() == reflect.Pointer {
			t = t.Elem()
		}
		name := huma.DefaultSchemaNamer(t, hint)
		if other, found := taken[name]; found && other != t {
			if in := namedIn.FindStringSubmatch(t.String()); in != nil {
				name = strings.ToUpper(in[1][:1]) + in[1][1:] + name
			}
		}
		taken[name] = t
		return name
	}
}
