package api

import (
	"context"
	"fmt"
	"net/http"
	"reflect"
	"strings"

	"github.com/slipway/slipway/internal/control/access"
	"github.com/slipway/slipway/internal/control/place"
)

// lineOf is what an operation asks for. A line that reads what requests do not
// have would look at nothing, so it does not start either.
func lineOf(id string, request reflect.Type) place.Line {
	line, found := lines[id]
	if !found {
		panic(fmt.Sprintf("api: the operation %s has no line in lines.go, so nobody could be let in", id))
	}
	for _, field := range line.Fields() {
		if request != nil && !hasField(request, field) {
			panic(fmt.Sprintf("api: the line of %s reads %q, which %s does not have", id, field, request))
		}
	}
	return line
}

// permit asks whether who sends a request may.
func (a *api) permit(ctx context.Context, line place.Line, said place.Said) error {
	actor := actorOf(ctx)
	if actor.Tenant != "" {
		inner := said // a tenant asks for what is its own, whatever it says
		said = func(field string) []string {
			if field == "tenant" {
				return []string{actor.Tenant}
			}
			return inner(field)
		}
	}
	return line.CheckOn(ctx, a.Access, a.Places, actor, said)
}

// permitted is permit for a handler outside the framework, which reads the
// path alone.
func (a *api) permitted(id string, handle http.HandlerFunc) http.HandlerFunc {
	line := lineOf(id, nil)
	return func(w http.ResponseWriter, r *http.Request) {
		err := a.permit(r.Context(), line, func(field string) []string { return []string{r.PathValue(field)} })
		if err != nil {
			a.logInternal(r.Context(), id, err)
			writeProblem(w, r, err)
			return
		}
		handle(w, r)
	}
}

// saidBy reads the fields of a decoded request: its path, its query, then its
// body, in which dots lead to members.
func saidBy(request any) place.Said {
	return func(field string) []string {
		value, found := fieldOf(reflect.ValueOf(request).Elem(), field)
		if !found {
			return nil
		}
		if list, isList := value.Interface().([]string); isList {
			return list
		}
		return []string{fmt.Sprint(value.Interface())}
	}
}

// fieldOf finds a field of a request by the name that clients know it by.
func fieldOf(request reflect.Value, name string) (reflect.Value, bool) {
	var nested []reflect.Value
	for i := range request.NumField() {
		f := request.Type().Field(i)
		switch {
		case f.Tag.Get("path") == name || f.Tag.Get("query") == name:
			return request.Field(i), true
		case f.Anonymous && f.Type.Kind() == reflect.Struct:
			if found, ok := fieldOf(request.Field(i), name); ok {
				return found, true
			}
		case f.Name == "Body" && f.Type.Kind() == reflect.Struct:
			nested = append(nested, request.Field(i))
		}
	}
	for _, body := range nested {
		if found, ok := member(body, name); ok {
			return found, true
		}
	}
	return reflect.Value{}, false
}

// member finds a member of a JSON object.
func member(object reflect.Value, name string) (reflect.Value, bool) {
	first, rest, deeper := strings.Cut(name, ".")
	for i := range object.NumField() {
		f := object.Type().Field(i)
		if tag, _, _ := strings.Cut(f.Tag.Get("json"), ","); tag == first {
			if deeper {
				return member(object.Field(i), rest)
			}
			return object.Field(i), true
		}
	}
	return reflect.Value{}, false
}

func hasField(request reflect.Type, name string) bool {
	_, found := fieldOf(reflect.New(request).Elem(), name)
	return found
}

var _ place.Checker = (*access.Access)(nil)
