package access

import (
	"slices"
	"strings"
)

// Permission is one thing that may be done, as an area and a verb.
type Permission string

// The permissions. Every route asks for one of them; docs/how-to/people.md
// says what each is for.
const (
	Own              Permission = "own"    // what is one's own; everybody who is signed in
	Public           Permission = "public" // asks for nobody to be known
	DeviceRead       Permission = "device.read"
	DeviceWrite      Permission = "device.write"
	DeviceMove       Permission = "device.move"
	TelemetryRead    Permission = "telemetry.read"
	EnvironmentRead  Permission = "environment.read"
	EnvironmentWrite Permission = "environment.write"
	StampWrite       Permission = "stamp.write"
	TenantRead       Permission = "tenant.read"
	TenantWrite      Permission = "tenant.write"
	EnrollmentRead   Permission = "enrollment.read"
	EnrollmentWrite  Permission = "enrollment.write"
	RouteRead        Permission = "route.read"
	RouteWrite       Permission = "route.write"
	ReleaseRead      Permission = "release.read"
	ReleaseWrite     Permission = "release.write"
	ReleaseTest      Permission = "release.test"
	ReleasePromote   Permission = "release.promote"
	ReleaseApprove   Permission = "release.approve"
	ReleaseStop      Permission = "release.stop"
	FlagRead         Permission = "flag.read"
	FlagWrite        Permission = "flag.write"
	FlagKill         Permission = "flag.kill"
	GrantApprove     Permission = "grant.approve"
	SigningWrite     Permission = "signing.write"
	QueryWrite       Permission = "query.write"
	AlertWrite       Permission = "alert.write"
	LogRead          Permission = "log.read"
	IncidentWrite    Permission = "incident.write"
	SecretRead       Permission = "secret.read"
	SecretWrite      Permission = "secret.write"
	PeerWrite        Permission = "peer.write"
	BackupRead       Permission = "backup.read"
	BackupRun        Permission = "backup.run" // have backups taken, verified and tried
	BackupWrite      Permission = "backup.write"
	RetentionRead    Permission = "retention.read"
	RetentionWrite   Permission = "retention.write"
	DeviceRetire     Permission = "device.decommission"
	DataErase        Permission = "data.erase"
	DataExport       Permission = "data.export"
	RehearsalRead    Permission = "rehearsal.read"
	RehearsalStart   Permission = "rehearsal.start" // ask for rehearsals, and cancel them
	RehearsalRun     Permission = "rehearsal.run"   // run them, on a host that may read the data
	AuditRead        Permission = "audit.read"
	AccessRead       Permission = "access.read"
	AccessAdmin      Permission = "access.admin"
)

// The built-in roles.
const (
	Viewer    = "viewer"
	Operator  = "operator"
	Developer = "developer"
	QA        = "qa"
	Approver  = "approver"
	Admin     = "admin"
	Auditor   = "auditor"
	Support   = "support"
)

// BuiltIn are the roles that are always there.
var BuiltIn = []string{Viewer, Operator, Developer, QA, Approver, Admin, Auditor, Support}

// Standing is what becomes of a permission in an environment that wants
// grants.
type standing bool

const (
	stands  standing = true  // roles are enough there, too: it reads, decides on others' requests, or stops something
	granted standing = false // roles are not enough there
)

// permission is what is known of a permission: who has it. An admin has every
// one.
type permission struct {
	name     Permission
	standing standing
	roles    []string
}

var (
	everyone = []string{Viewer, Operator, Developer, QA, Approver, Auditor, Support}
	makers   = []string{Operator, Developer}
	testers  = []string{Operator, Developer, QA}
)

// permissions is the closed list, in the order in which people read it.
var permissions = []permission{
	{DeviceRead, stands, everyone},
	{DeviceWrite, granted, makers},
	{DeviceMove, granted, []string{Operator, QA}},
	{TelemetryRead, stands, []string{Viewer, Operator, Developer, QA, Support}},
	{EnvironmentRead, stands, everyone},
	{EnvironmentWrite, granted, nil},
	{StampWrite, granted, []string{Operator}},
	{TenantRead, stands, everyone},
	{TenantWrite, granted, []string{Operator}},
	{EnrollmentRead, stands, everyone},
	{EnrollmentWrite, granted, []string{Operator}},
	{RouteRead, stands, everyone},
	{RouteWrite, granted, makers},
	{ReleaseRead, stands, everyone},
	{ReleaseWrite, granted, makers},
	{ReleaseTest, stands, testers},
	{ReleasePromote, granted, makers},
	{ReleaseApprove, stands, []string{QA, Approver}},
	{ReleaseStop, stands, []string{Operator, Developer, QA, Approver}},
	{FlagRead, stands, everyone},
	{FlagWrite, granted, makers},
	{FlagKill, stands, []string{Operator, Developer, QA, Approver}},
	{GrantApprove, stands, []string{Approver}},
	{SigningWrite, granted, nil},
	{QueryWrite, stands, []string{Operator, Developer, QA, Support}},
	{AlertWrite, stands, makers},
	{LogRead, stands, everyone},
	{IncidentWrite, stands, []string{Operator, Developer, QA, Support}},
	{SecretRead, granted, []string{Operator}},
	{SecretWrite, granted, []string{Operator}},
	{PeerWrite, granted, nil},
	{BackupRead, stands, everyone},
	{BackupRun, stands, []string{Operator}},
	{BackupWrite, granted, []string{Operator}},
	{RetentionRead, stands, everyone},
	{RetentionWrite, granted, nil},
	{DeviceRetire, granted, []string{Operator}},
	{DataErase, granted, nil},
	{DataExport, granted, nil},
	{RehearsalRead, stands, everyone},
	{RehearsalStart, stands, testers},
	{RehearsalRun, stands, []string{Operator}},
	{AuditRead, stands, []string{Auditor}},
	{AccessRead, stands, []string{Auditor}},
	{AccessAdmin, granted, nil},
}

// known finds a permission in the list.
func known(name Permission) (permission, bool) {
	i := slices.IndexFunc(permissions, func(p permission) bool { return p.name == name })
	if i < 0 {
		return permission{}, false
	}
	return permissions[i], true
}

// Known reports whether a permission is one that routes may ask for.
func (p Permission) Known() bool {
	_, found := known(p)
	return found || p == Own || p == Public
}

// Standing reports whether a role is enough for it in an environment that
// wants grants.
func (p Permission) Standing() bool {
	found, _ := known(p)
	return bool(found.standing)
}

// Roles are the built-in roles that have it.
func (p Permission) Roles() []string {
	found, _ := known(p)
	return append(slices.Clone(found.roles), Admin)
}

// human reports whether only people may have it: to agree to what somebody
// else asked for is not for a program.
func (p Permission) human() bool { return p == ReleaseApprove || p == GrantApprove }

// Permissions are all of them, in the order in which people read them.
func Permissions() []Permission {
	all := make([]Permission, len(permissions))
	for i, p := range permissions {
		all[i] = p.name
	}
	return all
}

// PermissionsOf are the permissions of a built-in role.
func PermissionsOf(role string) []Permission {
	return slices.DeleteFunc(Permissions(), func(p Permission) bool { return !slices.Contains(p.Roles(), role) })
}

// oneOf lists words for a sentence: "a, b or c".
func oneOf(words []string) string {
	if len(words) < 2 {
		return strings.Join(words, "")
	}
	return strings.Join(words[:len(words)-1], ", ") + " or " + words[len(words)-1]
}
