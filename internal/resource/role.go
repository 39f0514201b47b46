package resource

import (
	"fmt"

	"github.com/slipway/slipway/internal/problem"
)

// KindRole is the kind of access roles.
const KindRole = "Role"

// RoleSpec declares an access role, and who has it. A built-in role has its
// permissions already, and only holders are declared of it.
type RoleSpec struct {
	Description string       `json:"description,omitempty" maxLength:"500"`
	Permissions []string     `json:"permissions,omitempty" maxItems:"100" doc:"What it lets be done, such as release.promote; none of a built-in role"`
	Holders     []RoleHolder `json:"holders,omitzero" maxItems:"1000" doc:"Who has it: these and nobody else. Left out, that is not declared, and stays as it is"`
}

// RoleHolder is an account or a group that has a role, and where. A list that
// is empty bounds nothing.
type RoleHolder struct {
	Account      string   `json:"account,omitempty" maxLength:"63"`
	Group        string   `json:"group,omitempty" maxLength:"200" doc:"Of an identity provider, instead of an account"`
	Environments []string `json:"environments,omitempty" maxItems:"100"`
	Stamps       []string `json:"stamps,omitempty" maxItems:"100"`
	Tenants      []string `json:"tenants,omitempty" maxItems:"100"`
}

// RoleStatus is what a role is beside what was declared.
type RoleStatus struct {
	BuiltIn     bool     `json:"builtIn"`
	Permissions []string `json:"permissions" doc:"All that it lets be done"`
	Holders     int      `json:"holders" doc:"How many accounts and groups have it"`
}

// Role is an access role as the API serves it.
type Role = Object[RoleSpec, RoleStatus]

// Check holds a role's spec against the rules that need nothing else.
func (s RoleSpec) Check() error {
	seen := map[string]bool{}
	for i, p := range s.Permissions {
		if seen[p] {
			return problem.New(problem.Invalid, "%s stands there twice", p).At(fmt.Sprintf("spec.permissions[%d]", i))
		}
		seen[p] = true
	}
	for i, h := range s.Holders {
		if (h.Account == "") == (h.Group == "") {
			return problem.New(problem.Invalid, "name an account or a group, and not both").At(fmt.Sprintf("spec.holders[%d]", i))
		}
	}
	return nil
}
