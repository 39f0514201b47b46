package access

import (
	"context"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/slipway/slipway/internal/problem"
)

func at(places ...Place) Find {
	return func(context.Context) ([]Place, error) { return places, nil }
}

func nowhere(context.Context) ([]Place, error) {
	return nil, problem.New(problem.NotFound, "there is no such thing")
}

func TestWhoMayWhere(t *testing.T) {
	test, prod := Place{Environment: "test", Stamp: "test-1", Tenant: "acme"}, Place{Environment: "prod", Stamp: "prod-1", Tenant: "acme"}
	of := func(role string, b Bounds) Actor { return Actor{Name: "ann", Rights: Rights{RightOf(role, b)}} }
	inTest, acme := Bounds{Environments: []string{"test"}}, Bounds{Tenants: []string{"acme"}}
	limited := of(Admin, Bounds{})
	limited.Limit = &Right{Permissions: PermissionsOf(Viewer), Bounds: inTest}
	program := of(Approver, Bounds{})
	program.Kind = Agent
	for name, c := range map[string]struct {
		actor Actor
		p     Permission
		find  Find
		says  string // empty is yes
	}{
		"an operator writes":               {of(Operator, Bounds{}), DeviceWrite, at(prod), ""},
		"a viewer reads":                   {of(Viewer, Bounds{}), DeviceRead, at(prod), ""},
		"and does not write":               {of(Viewer, Bounds{}), DeviceWrite, at(test), "ann lacks device.write, which the role operator, developer or admin has"},
		"where the role holds":             {of(Operator, inTest), DeviceWrite, at(test), ""},
		"not where it does not":            {of(Operator, inTest), DeviceWrite, at(prod), "for environment test only"},
		"nor in both":                      {of(Operator, inTest), DeviceWrite, at(test, prod), "for environment test only"},
		"nor in the whole":                 {of(Operator, inTest), DeviceRead, at(Place{}), "for environment test only"},
		"where it does not matter":         {of(Operator, inTest), ReleaseRead, Anywhere, ""},
		"unless bound to a tenant":         {of(Operator, acme), ReleaseRead, Anywhere, "for tenant acme only"},
		"a tenant's own":                   {of(Operator, acme), DeviceWrite, at(test), ""},
		"not a stamp of many":              {of(Operator, acme), TelemetryRead, at(Place{Environment: "test", Stamp: "test-1"}), "for"},
		"a token confines an admin":        {limited, DeviceWrite, at(test), "lacks device.write"},
		"to where it is for":               {limited, DeviceRead, at(prod), "for environment test only"},
		"and lets it have the rest":        {limited, DeviceRead, at(test), ""},
		"what is not there":                {of(Operator, inTest), DeviceWrite, nowhere, "no such thing"},
		"is not said to who may not":       {of(Viewer, Bounds{}), DeviceWrite, nowhere, "lacks device.write"},
		"programs approve nothing":         {program, ReleaseApprove, at(test), "for people"},
		"a role nobody has":                {Actor{Name: "ann"}, DeviceRead, at(test), "lacks device.read"},
		"nobody at all":                    {Actor{}, DeviceRead, Anywhere, "lacks device.read"},
		"what is one's own":                {Actor{Name: "ann"}, Own, Anywhere, ""},
		"a permission that does not exist": {of(Admin, Bounds{}), Permission("device.eat"), at(test), "lacks device.eat"},
	} {
		err := new(Access).Check(t.Context(), c.actor, c.p, c.find)
		if c.says == "" && err != nil || c.says != "" && (err == nil || !strings.Contains(err.Error(), c.says)) {
			t.Errorf("%s: %v, want %q", name, err, c.says)
		}
	}
}

func TestGrantsAreForControlledEnvironments(t *testing.T) {
	test, prod := Place{Environment: "test"}, Place{Environment: "prod"}
	var asked []string
	a := &Access{
		Controlled: func(context.Context) ([]string, error) { return []string{"prod"}, nil },
		Granted: func(_ context.Context, actor Actor, place Place, p Permission) (bool, error) {
			asked = append(asked, place.Environment+" "+string(p))
			return actor.Name == "granted", nil
		},
	}
	as := func(name, role string) Actor { return Actor{Name: name, Rights: Rights{RightOf(role, Bounds{})}} }
	confined := as("granted", Viewer)
	confined.Limit = &Right{Permissions: PermissionsOf(Viewer)}
	for name, c := range map[string]struct {
		actor Actor
		p     Permission
		find  Find
		ok    bool
	}{
		"a role is not enough there":        {as("ann", Admin), DeviceWrite, at(prod), false},
		"but elsewhere":                     {as("ann", Admin), DeviceWrite, at(test), true},
		"nor in one of two":                 {as("ann", Admin), DeviceWrite, at(test, prod), false},
		"reading stands":                    {as("ann", Viewer), DeviceRead, at(prod), true},
		"so does stopping":                  {as("ann", Operator), ReleaseStop, at(prod), true},
		"secrets do not":                    {as("ann", Admin), SecretRead, at(prod), false},
		"a grant is":                        {as("granted", Viewer), DeviceWrite, at(prod), true},
		"it lifts no token's limit":         {confined, DeviceWrite, at(prod), false},
		"what is of no place asks no grant": {as("ann", Admin), ReleaseWrite, Anywhere, true},
	} {
		if err := a.Check(t.Context(), c.actor, c.p, c.find); (err == nil) != c.ok {
			t.Errorf("%s: %v", name, err)
		}
	}
	if !slices.Contains(asked, "prod device.write") || slices.Contains(asked, "prod device.read") {
		t.Errorf("asked for grants: %q", asked)
	}
}

// TestNothingGrows holds for whatever rights and limits there are: more bounds
// never allow more, and nothing is allowed beyond a limit.
func TestNothingGrows(t *testing.T) {
	names := rapid.SliceOfN(rapid.SampledFrom([]string{"a", "b", "c"}), 0, 2)
	bounds := rapid.Custom(func(t *rapid.T) Bounds {
		return Bounds{names.Draw(t, "environments"), names.Draw(t, "stamps"), names.Draw(t, "tenants")}
	})
	right := rapid.Custom(func(t *rapid.T) Right {
		return RightOf(rapid.SampledFrom(BuiltIn).Draw(t, "role"), bounds.Draw(t, "bounds"))
	})
	name := rapid.SampledFrom([]string{"", "a", "b", "c"})
	rapid.Check(t, func(t *rapid.T) {
		actor := Actor{Name: "x", Rights: rapid.SliceOfN(right, 0, 3).Draw(t, "rights")}
		limit := right.Draw(t, "limit")
		place := Place{name.Draw(t, "environment"), name.Draw(t, "stamp"), name.Draw(t, "tenant")}
		p := rapid.SampledFrom(Permissions()).Draw(t, "permission")
		limited := actor
		limited.Limit = &limit
		free, bound := actor.May(p, place), limited.May(p, place)
		if bound && !(free && limit.has(p) && limit.covers(place)) {
			t.Errorf("%v with %v may %s at %v", actor.Rights, limit, p, place)
		}
		if actor.May(p, Place{}) && !free {
			t.Errorf("%v may %s everywhere, and not at %v", actor.Rights, p, place)
		}
	})
}
