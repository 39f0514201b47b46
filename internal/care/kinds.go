// Package care is what a plane keeps, of whom, and for how long. Each plane
// names its holdings; retention, erasure and export all go by that one list,
// so that what is kept is also cleaned up, erased and handed out.
package care

import (
	"slices"
	"sort"

	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/problem"
)

// The planes that keep data.
const (
	Control      = "control"
	Provisioning = "provisioning"
	Stamp        = "stamp"
)

// Kind is one kind of data that a plane keeps.
type Kind struct {
	Name  string `json:"kind"`
	Plane string `json:"plane"`
	What  string `json:"what"`
	Days  int    `json:"days" doc:"How long it is kept; 0 is for good"`
	Floor int    `json:"floor" doc:"The fewest days it may be kept"`
	// Fixed says why nobody can set it.
	Fixed string `json:"fixed,omitempty" doc:"What else decides how long it is kept; it cannot be set here"`
}

// kinds is the closed list with the days that hold until somebody sets others.
// docs/how-to/data-care.md shows the same.
var kinds = []Kind{
	{"telemetry", Stamp, "what devices sent", 7, 1, ""},
	{"events", Stamp, "what happened to devices: connected, refused, updated", 30, 1, ""},
	{"uploads", Stamp, "files from devices", 90, 1, ""},
	{"dead-letters", Stamp, "messages that routes gave up", 30, 1, ""},
	{"jobs", Stamp, "what back ends had done to many devices", 30, 1, ""},
	{"left-twins", Stamp, "twins of devices that left the stamp; that they left is kept", 30, 1, ""},
	{"commands", Stamp, "messages that wait for devices, and what became of them", 0, 0, "their own time to live, 48 hours at most"},
	{"devices", Stamp, "identities, twins, what devices run", 0, 0, "the device itself: until it is moved, decommissioned or erased"},

	{"registration-history", Provisioning, "the steps of registrations; the latest of each is kept", 365, 30, ""},
	{"moves", Provisioning, "moves that have ended, with their devices", 365, 30, ""},
	{"certificates", Provisioning, "operational certificates, after they expired", 90, 1, ""},
	{"registrations", Provisioning, "where each device is; tombstones of those decommissioned", 0, 0, "the device itself: until it is erased"},

	{"sessions", Control, "people's sessions and sign-ins, after they expired", 30, 0, ""},
	{"tokens", Control, "tokens of the API and join tokens, after they expired", 90, 1, ""},
	{"peer-certificates", Control, "certificates of processes, after they expired", 90, 1, ""},
	{"recordings", Control, "what people did through the gateway", 365, 90, ""},
	{"exposures", Control, "how often variants of flags were given out", 400, 30, ""},
	{"flag-changes", Control, "what flags were before", 1095, 30, ""},
	{"promotions", Control, "promotions that have ended, with their gates, approvals and verifications; not of releases that stamps run", 1095, 90, ""},
	{"rollouts", Control, "rollouts that have ended; the last twenty of each environment are kept", 1095, 90, ""},
	{"test-results", Control, "what CI said of releases; not of releases that stamps run", 1095, 90, ""},
	{"silences", Control, "silences that are over", 90, 1, ""},
	{"drills", Control, "drills that have ended, with their evidence", 1095, 365, ""},
	{"readiness-scores", Control, "how ready environments were", 1095, 30, ""},
	{"artifacts", Control, "files that no release names", 30, 1, ""},
	{"audit-names", Control, "who and what in entries of the audit log; the entries stay, and their proofs", 0, 365, ""},
	{"audit", Control, "entries of the audit log, without names where those were erased", 0, 0, "for good: an entry less would break the proofs of all others"},
	{"access", Control, "grants and access reviews", 0, 0, "for good, as the audit log speaks of them"},
	{"decommissions", Control, "devices taken out of use", 0, 0, "the device itself: until it is erased"},
	{"legal-holds", Control, "legal holds, and who placed and lifted them", 0, 0, "for good; of a device until that is erased"},
	{"erasures", Control, "that something was erased, and the proof; of nobody who is named", 0, 0, "for good: it is the proof"},
	{"journal", Control, "lines of logs, and traces", 0, 0, "what the journal holds, 14 days at most unless it is configured otherwise"},
	{"metrics", Control, "what all planes count; no metric names a device", 0, 0, "metrics.days of the configuration"},
	{"backups", Control, "copies of every plane", 0, 0, "`slipway backup schedule`, and the lock of each vault"},
}

// Kinds are all kinds of data with the days that hold for each.
func Kinds(days map[string]int) []Kind {
	all := slices.Clone(kinds)
	for i, k := range all {
		if n, set := days[k.Name]; set && k.Fixed == "" {
			all[i].Days = n
		}
	}
	return all
}

// Of are the kinds of a plane that can be set.
func Of(plane string) (names []string) {
	for _, k := range kinds {
		if k.Plane == plane && k.Fixed == "" {
			names = append(names, k.Name)
		}
	}
	return names
}

// Days are the days of every kind that can be set.
func Days(set map[string]int) map[string]int {
	all := map[string]int{}
	for _, k := range Kinds(set) {
		if k.Fixed == "" {
			all[k.Name] = k.Days
		}
	}
	return all
}

// maxDays is a hundred years.
const maxDays = 36500

// CheckDays holds what somebody sets against the floors.
func CheckDays(set map[string]int) error {
	names := make([]string, 0, len(set))
	for name := range set {
		names = append(names, name)
	}
	sort.Strings(names)
	for _, name := range names {
		at := slices.IndexFunc(kinds, func(k Kind) bool { return k.Name == name })
		if at < 0 {
			return problem.New(problem.Invalid, "there is no kind of data %q; `slipway retention show` lists them", name).At("days." + name)
		}
		k, days := kinds[at], set[name]
		switch {
		case k.Fixed != "":
			return problem.New(problem.Invalid, "how long this is kept is not set here: %s", k.Fixed).At("days." + name)
		case days < 0 || days > maxDays:
			return problem.New(problem.Invalid, "must be 0 (for good) to %d days, not %d", maxDays, days).At("days." + name)
		case days > 0 && days < k.Floor:
			return problem.New(problem.Invalid, "must be at least %d days, or 0 for good, not %d", k.Floor, days).At("days." + name)
		}
	}
	return nil
}

// Held reports whether a hold is on a device, or on its tenant; what is of
// nobody known may be of any tenant.
func Held(holds []link.CareHold, device, tenant string) bool {
	owner, _ := link.SplitIdentity(device)
	return slices.ContainsFunc(holds, func(h link.CareHold) bool {
		return h.Device != "" && h.Device == owner || h.Tenant != "" && (tenant == "" || h.Tenant == tenant)
	})
}
