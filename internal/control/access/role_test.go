package access

import (
	"testing"

	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/resource"
)

// rolesOf are the roles that an account has, with where.
func (o *office) rolesOf(account string) (all []string) {
	o.t.Helper()
	bindings, err := o.Bindings(o.t.Context())
	o.must(err)
	for _, b := range bindings {
		if b.Account == account || "group "+b.Group == account {
			all = append(all, b.Role+" "+b.Bounds.String())
		}
	}
	return all
}

// TestADeclaredRole is made, given, changed and deleted, by its document alone.
func TestADeclaredRole(t *testing.T) {
	t.Parallel()
	o := newOffice(t)
	_, err := o.Bootstrap(t.Context())
	o.must(err)
	o.add(Human, "ann", "")
	o.add(Human, "bob", "")
	spec := resource.RoleSpec{Permissions: []string{"release.read", "release.promote"}, Holders: []resource.RoleHolder{{Account: "ann", Environments: []string{"staging"}}, {Group: "ops"}}}
	tried, err := o.PutRole(t.Context(), boss, "shipper", spec, "", true)
	if err != nil || tried.Status.Holders != 2 || len(o.rolesOf("ann")) != 0 {
		t.Fatalf("%v %+v", err, tried)
	}
	made, err := o.PutRole(t.Context(), boss, "shipper", spec, "", false)
	if err != nil || len(o.rolesOf("ann")) != 1 || o.rolesOf("ann")[0] != "shipper environment staging" || len(o.rolesOf("group ops")) != 1 {
		t.Fatalf("%v %+v %v", err, made, o.rolesOf("ann"))
	}
	_, token := o.token(boss, NewToken{Name: "t", Account: "ann"})
	ann := o.bearer(token)
	if !ann.May(ReleasePromote, Place{Environment: "staging"}) || ann.May(ReleasePromote, Place{Environment: "production"}) || ann.May(DeviceRead, Place{Environment: "staging"}) {
		t.Fatalf("%+v", ann.Rights)
	}
	again, err := o.PutRole(t.Context(), boss, "shipper", spec, made.Metadata.ETag, false)
	if err != nil || again.Metadata.ETag != made.Metadata.ETag {
		t.Fatalf("the same again: %v %+v", err, again)
	}
	// What is given beside the file is seen, and taken back by the next apply.
	_, err = o.Bind(t.Context(), boss, Binding{Role: "shipper", Account: "bob"})
	o.must(err)
	if now, err := o.Role(t.Context(), "shipper"); err != nil || len(now.Spec.Holders) != 3 || now.Spec.Holders[2].Account != "bob" {
		t.Fatalf("%v %+v", err, now)
	}
	spec.Permissions, spec.Holders = []string{"release.read"}, []resource.RoleHolder{{Account: "ann"}}
	if _, err := o.PutRole(t.Context(), boss, "shipper", spec, `"7"`, false); !problem.Is(err, problem.Stale) {
		t.Fatalf("another version: %v", err)
	}
	_, err = o.PutRole(t.Context(), boss, "shipper", spec, "", false)
	o.must(err)
	if ann = o.bearer(token); ann.May(ReleasePromote, Place{Environment: "staging"}) || !ann.May(ReleaseRead, Place{Environment: "production"}) || len(o.rolesOf("bob")) != 0 || len(o.rolesOf("group ops")) != 0 {
		t.Fatalf("%+v, bob %v", ann.Rights, o.rolesOf("bob"))
	}
	if err := o.DeleteRole(t.Context(), boss, "shipper", ""); !problem.Is(err, problem.Conflict) {
		t.Fatalf("somebody has it: %v", err)
	}
	spec.Holders = []resource.RoleHolder{}
	_, err = o.PutRole(t.Context(), boss, "shipper", spec, "", false)
	o.must(err)
	o.must(o.DeleteRole(t.Context(), boss, "shipper", ""))
	if _, err := o.Role(t.Context(), "shipper"); !problem.Is(err, problem.NotFound) {
		t.Fatalf("%v", err)
	}
}

// TestWhoHasABuiltInRoleIsDeclared declares the holders of viewer, and nothing
// else of it.
func TestWhoHasABuiltInRoleIsDeclared(t *testing.T) {
	t.Parallel()
	o := newOffice(t)
	_, err := o.Bootstrap(t.Context())
	o.must(err)
	o.add(Human, "ann", "", Binding{Role: Viewer})
	o.add(Human, "bob", "", Binding{Role: Operator})
	_, err = o.PutRole(t.Context(), boss, Viewer, resource.RoleSpec{Holders: []resource.RoleHolder{{Account: "bob"}}}, "", false)
	o.must(err)
	if len(o.rolesOf("ann")) != 0 || len(o.rolesOf("bob")) != 2 {
		t.Fatalf("ann %v, bob %v", o.rolesOf("ann"), o.rolesOf("bob"))
	}
	for name, spec := range map[string]resource.RoleSpec{
		Viewer: {Permissions: []string{"device.write"}}, "empty": {}, "Un Named": {Permissions: []string{"device.read"}},
		"unknown": {Permissions: []string{"device.fly"}}, "everybody": {Permissions: []string{"own"}}, "twice": {Permissions: []string{"device.read", "device.read"}},
		"nobody": {Permissions: []string{"device.read"}, Holders: []resource.RoleHolder{{Account: "zed"}}}, "both": {Permissions: []string{"device.read"}, Holders: []resource.RoleHolder{{Account: "ann", Group: "ops"}}},
	} {
		if _, err := o.PutRole(t.Context(), boss, name, spec, "", false); !problem.Is(err, problem.Invalid) || problem.Of(err).Field == "" {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestNobodyGivesMoreThanTheyHave has somebody who may administer access, and
// little else, try every way to more.
func TestNobodyGivesMoreThanTheyHave(t *testing.T) {
	t.Parallel()
	o := newOffice(t)
	_, err := o.Bootstrap(t.Context())
	o.must(err)
	o.add(Human, "root", "", Binding{Role: Admin})
	o.add(Human, "ann", "")
	o.add(Human, "bob", "")
	_, err = o.PutRole(t.Context(), boss, "doorkeeper", resource.RoleSpec{Permissions: []string{"access.admin", "access.read", "device.read"}, Holders: []resource.RoleHolder{{Account: "ann"}}}, "", false)
	o.must(err)
	_, token := o.token(boss, NewToken{Name: "anns", Account: "ann"})
	ann := o.bearer(token)
	put := func(name string, spec resource.RoleSpec) error {
		_, err := o.PutRole(t.Context(), ann, name, spec, "", false)
		return err
	}
	give := func(b Binding) error {
		_, err := o.Bind(t.Context(), ann, b)
		return err
	}
	for what, err := range map[string]error{
		"a role that can more":      put("more", resource.RoleSpec{Permissions: []string{"device.read", "device.write"}}),
		"her own role":              put("doorkeeper", resource.RoleSpec{Permissions: []string{"access.admin", "secret.read"}}),
		"admin for herself":         give(Binding{Role: Admin, Account: "ann"}),
		"an environment's operator": give(Binding{Role: Operator, Account: "bob", Bounds: Bounds{Environments: []string{"test"}}}),
		"holders of a role":         put(Admin, resource.RoleSpec{Holders: []resource.RoleHolder{{Account: "root"}, {Account: "ann"}}}),
		"a token of who can more": func() error {
			_, _, err := o.Create(t.Context(), ann, NewToken{Name: "roots", Account: "root"})
			return err
		}(),
		"a device reader beyond limits": Actor{Kind: Human, Name: "lim", Rights: ann.Rights, Limit: &Right{Permissions: []Permission{DeviceRead}, Bounds: Bounds{Environments: []string{"test"}}}}.mayGive(Right{Permissions: []Permission{DeviceRead}}),
	} {
		if !problem.Is(err, problem.Denied) {
			t.Errorf("%s: %v", what, err)
		}
	}
	o.must(put("reader", resource.RoleSpec{Permissions: []string{"device.read"}}))
	o.must(give(Binding{Role: "reader", Account: "bob"}))
	if got := o.rolesOf("ann"); len(got) != 1 {
		t.Errorf("ann has %v", got)
	}
}
