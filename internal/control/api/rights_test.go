package api_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/slipway/slipway/internal/control/access"
	"github.com/slipway/slipway/internal/control/api"
)

// schema is as much of a JSON schema as requests are made of.
type schema struct {
	Ref        string `json:"$ref"`
	Type       any
	Format     string
	Enum       []any
	Minimum    *float64
	MinLength  *int
	MinItems   int
	Items      *schema
	Required   []string
	Properties map[string]schema
}

type operation struct {
	OperationID string
	Parameters  []struct {
		Name, In string
		Required bool
		Schema   schema
	}
	RequestBody *struct {
		Content map[string]struct{ Schema schema }
	}
}

type description struct {
	Paths      map[string]map[string]operation
	Components struct{ Schemas map[string]schema }
}

func (s *server) description() (d description) {
	s.t.Helper()
	_, text, _ := s.do("GET", "/api/openapi.json", "")
	if err := json.Unmarshal([]byte(text), &d); err != nil {
		s.t.Fatal(err)
	}
	return d
}

// sample is the least that a schema takes.
func (d description) sample(s schema) any {
	if name, found := strings.CutPrefix(s.Ref, "#/components/schemas/"); found {
		return d.sample(d.Components.Schemas[name])
	}
	if len(s.Enum) > 0 {
		return s.Enum[0]
	}
	if s.Format == "date-time" {
		return "2026-12-20T18:00:00Z"
	}
	kind := s.Type
	if several, ok := kind.([]any); ok { // it, or null
		kind = several[0]
	}
	switch kind {
	case "object":
		object := map[string]any{}
		for _, name := range s.Required {
			object[name] = d.sample(s.Properties[name])
		}
		return object
	case "string":
		n := 4 // which is base64, too
		if s.MinLength != nil {
			n = max(n, *s.MinLength)
		}
		return strings.Repeat("a", n)
	case "integer", "number":
		if s.Minimum != nil {
			return *s.Minimum
		}
		return 1
	case "boolean":
		return false
	case "array":
		list := []any{}
		for range s.MinItems {
			list = append(list, d.sample(*s.Items))
		}
		return list
	}
	return map[string]any{}
}

// request is the least request of an operation: its target and its body.
func (d description) request(path string, o operation) (target, body string) {
	query := ""
	for _, p := range o.Parameters {
		value := fmt.Sprint(d.sample(p.Schema))
		switch {
		case p.In == "path":
			path = strings.ReplaceAll(path, "{"+p.Name+"}", value)
		case p.In == "query" && p.Required:
			query += "&" + p.Name + "=" + value
		}
	}
	if query != "" {
		path += "?" + query[1:]
	}
	if o.RequestBody == nil {
		return path, ""
	}
	text, err := json.Marshal(d.sample(o.RequestBody.Content["application/json"].Schema))
	if err != nil {
		panic(err)
	}
	return path, string(text)
}

// tokenOf makes a token that is confined to a role.
func (s *server) tokenOf(role, bounds string) []string {
	s.t.Helper()
	if bounds == "" {
		bounds = "{}"
	}
	status, text, _ := s.do("POST", "/api/v1/tokens", `{"name":"a `+role+`","role":"`+role+`","bounds":`+bounds+`}`)
	var made struct{ Token string }
	if err := json.Unmarshal([]byte(text), &made); err != nil || status != http.StatusOK {
		s.t.Fatalf("%d %s", status, text)
	}
	return []string{"Authorization", "Bearer " + made.Token}
}

// TestEveryRouteLetsInWhomItsLineSays sends every operation there is as every
// built-in role.
func TestEveryRouteLetsInWhomItsLineSays(t *testing.T) {
	s := newServer(t)
	d := s.description()
	described := map[string]bool{}
	for _, role := range access.BuiltIn {
		as := s.tokenOf(role, "")
		for path, methods := range d.Paths {
			for method, o := range methods {
				described[o.OperationID] = true
				needs, found := api.Needs(o.OperationID)
				if !found {
					t.Fatalf("%s has no line", o.OperationID)
				}
				if needs == access.Public {
					continue
				}
				target, body := d.request(path, o)
				status, text, header := s.do(strings.ToUpper(method), target, body, as...)
				guarded(t, o.OperationID, header)
				may := needs == access.Own || slices.Contains(needs.Roles(), role) || api.Else(o.OperationID) != "" && slices.Contains(api.Else(o.OperationID).Roles(), role)
				switch {
				case may && status == http.StatusForbidden && o.OperationID != "createOwnToken" && o.OperationID != "openAccessReview": // the tokens here are nobody's
					t.Errorf("a %s may not %s: %s", role, o.OperationID, text)
				case !may && (status != http.StatusForbidden || header.Get("Content-Type") != "application/problem+json" || !strings.Contains(text, string(needs)) || !strings.Contains(text, needs.Roles()[0])):
					t.Errorf("a %s that asks for %s (%s): %d %s", role, o.OperationID, needs, status, text)
				}
			}
		}
	}
	for _, id := range api.Lines() {
		if !described[id] {
			t.Errorf("the line of %s is for no operation", id)
		}
	}
}

func TestARoleHoldsWhereItIsBoundTo(t *testing.T) {
	s := newServer(t)
	s.playTenants()
	s.put("environments/prod", `{"spec":{"promotesFrom":"test"}}`)
	s.put("stamps/prod-1", `{"spec":{"environment":"prod","region":"here"}}`)
	operator := s.tokenOf("operator", `{"environments":["test"]}`)
	acmes := s.tokenOf("viewer", `{"tenants":["acme"]}`)
	stamps := s.tokenOf("viewer", `{"stamps":["prod-1"]}`)
	for _, c := range []struct {
		as                 []string
		method, path, body string
		status             int
	}{
		{operator, "GET", "/environments", "", 200},
		{operator, "GET", "/devices?environment=test", "", 200},
		{operator, "GET", "/devices", "", 403},
		{operator, "GET", "/devices?environment=prod", "", 403},
		{operator, "GET", "/devices?environment=test&stamp=prod-1", "", 403},
		{operator, "GET", "/devices/acme-1/twin", "", 200},
		{operator, "GET", "/devices/acme-1/messages?stamp=prod-1", "", 403},
		{operator, "PUT", "/stamps/test-1", `{"spec":{"environment":"test","region":"here","capacity":5}}`, 200},
		{operator, "PUT", "/stamps/test-1", `{"spec":{"environment":"prod","region":"here"}}`, 403}, // not out of its environment
		{operator, "PUT", "/stamps/prod-1", `{"spec":{"environment":"test","region":"here"}}`, 403}, // nor another's into it
		{operator, "PUT", "/stamps/new", `{"spec":{"environment":"prod","region":"here"}}`, 403},
		{operator, "POST", "/moves", `{"to":"prod","devices":["acme-1"]}`, 403},
		{operator, "POST", "/moves", `{"to":"test","where":"true"}`, 403}, // from wherever they are
		{operator, "POST", "/promotions", `{"environment":"prod","release":"r"}`, 403},
		{operator, "GET", "/routes?secrets=true", "", 403},
		{operator, "GET", "/routes", "", 200},
		{operator, "POST", "/query", `{"query":"SELECT * FROM devices"}`, 403},
		{operator, "GET", "/devices/nobody", "", 404},
		{operator, "GET", "/tokens", "", 403},
		{acmes, "GET", "/devices/acme-1", "", 200},
		{acmes, "GET", "/devices/coyote-1", "", 403},
		{acmes, "GET", "/devices?tenant=acme", "", 200},
		{acmes, "GET", "/devices", "", 403},
		{acmes, "GET", "/moves", "", 403},
		{acmes, "GET", "/environments", "", 403},
		{stamps, "GET", "/stamps/prod-1", "", 200},
		{stamps, "GET", "/stamps/test-1", "", 403},
	} {
		if status, text, _ := s.do(c.method, "/api/v1"+c.path, c.body, c.as...); status != c.status {
			t.Errorf("%s %s %s: %d %s, want %d", c.method, c.path, c.body, status, text, c.status)
		}
	}
}

// TestAControlledEnvironmentWantsGrants asks an admin to change things there.
func TestAControlledEnvironmentWantsGrants(t *testing.T) {
	s := newServer(t)
	s.playTenants()
	s.put("environments/prod", `{"spec":{"promotesFrom":"test","access":"controlled"}}`)
	for _, c := range []struct {
		method, path, body string
		status             int
	}{
		{"GET", "/environments/prod", "", 200},
		{"PUT", "/environments/prod?dryRun=true", `{"spec":{"access":"open"}}`, 200},
		{"PUT", "/environments/prod", `{"spec":{"access":"open"}}`, 403},
		{"PUT", "/stamps/prod-1", `{"spec":{"environment":"prod","region":"here"}}`, 403},
		{"PUT", "/stamps/test-2", `{"spec":{"environment":"test","region":"here"}}`, 200},
		{"PUT", "/routes/all", `{"spec":{"environment":"prod","endpoint":{}}}`, 403},
		{"POST", "/moves", `{"to":"prod","devices":["acme-1"]}`, 403},
		{"POST", "/moves", `{"to":"test","where":"true"}`, 403},
		{"GET", "/enrollments?secrets=true", "", 403},
		{"POST", "/halts", `{"environment":"prod","reason":"it burns"}`, 200}, // to stop is always allowed
	} {
		status, text, _ := s.do(c.method, "/api/v1"+c.path, c.body)
		if status != c.status || status == 403 && !strings.Contains(text, "wants a grant") {
			t.Errorf("%s %s %s: %d %s, want %d", c.method, c.path, c.body, status, text, c.status)
		}
	}
}
