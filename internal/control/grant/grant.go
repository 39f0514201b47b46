// Package grant lets people act in an environment for a while: somebody asks,
// with a purpose, a scope and a length of time; others agree, none of whom
// asked; it begins, ends by itself, and is looked at afterwards. In an
// emergency people act at once, loudly, and owe the review. A grant is a
// document that pure functions carry from state to state; whoever checks one
// compares times, so that it is over when its time is, whoever sweeps or not.
package grant

import (
	"slices"
	"time"

	"github.com/slipway/slipway/internal/problem"
)

// State is where a grant stands.
type State string

// The states. Those from Denied on are for good.
const (
	Draft     State = "draft"
	Pending   State = "pending"
	Scheduled State = "scheduled" // approved, and begins later
	Active    State = "active"
	ReviewDue State = "reviewDue" // it was active, and somebody must look at it
	Denied    State = "denied"
	Expired   State = "expired" // its time passed before it was ever active
	Withdrawn State = "withdrawn"
	Reviewed  State = "reviewed"
)

// Over reports whether the state is for good.
func (s State) Over() bool { return slices.Contains([]State{Denied, Expired, Withdrawn, Reviewed}, s) }

// The ways in which a grant that was active ends.
const (
	EndExpired = "expired"
	EndRevoked = "revoked"
	EndEnded   = "ended" // by who had it
)

// Grant lets one person do some things in one environment for a while.
type Grant struct {
	ID          string `json:"id"`
	Environment string `json:"environment"`
	Person      string `json:"person" doc:"Who may act: the same for all their tokens and sessions"`
	Name        string `json:"name" doc:"What they are called"`
	By          string `json:"by" doc:"The person who asked, usually the same"`
	Sponsor     string `json:"sponsor,omitempty" doc:"The human who answers for it, if it is for a program"`
	Maker       string `json:"maker,omitempty" doc:"Who made the token by which it was asked for, if that is another person"`
	Request
	BreakGlass  bool        `json:"breakGlass,omitempty" doc:"It began at once, in an emergency"`
	State       State       `json:"state" enum:"draft,pending,scheduled,active,reviewDue,denied,expired,withdrawn,reviewed"`
	Needs       int         `json:"needs" doc:"How many people must agree"`
	Approvals   []Agreement `json:"approvals"`
	CreatedAt   time.Time   `json:"createdAt"`
	DecideBy    time.Time   `json:"decideBy" doc:"When the request expires unless enough people agree before"`
	ActiveAt    *time.Time  `json:"activeAt,omitempty" doc:"When it began"`
	Until       *time.Time  `json:"until,omitempty" doc:"When it ends, or has ended"`
	End         string      `json:"end,omitempty" enum:"expired,revoked,ended" doc:"How it ended after being active"`
	ReviewBy    *time.Time  `json:"reviewBy,omitempty" doc:"When somebody must have looked at it"`
	Review      string      `json:"review,omitempty" doc:"What was found"`
	ReviewedBy  string      `json:"reviewedBy,omitempty"`
	ReviewedAt  *time.Time  `json:"reviewedAt,omitempty"`
	AlarmedAt   *time.Time  `json:"alarmedAt,omitempty" doc:"When those who could have agreed were told that the glass is broken"`
	AlarmFailed string      `json:"alarmFailed,omitempty" doc:"Why they could not all be told yet"`
	Log         []Happened  `json:"log" doc:"What happened to it, oldest first"`
}

// Request is what somebody asks for. Another one is another grant: who agreed
// to this one has not agreed to that.
type Request struct {
	Purpose  string     `json:"purpose" enum:"troubleshooting,hotfix,performance,security,data,compliance,support,red-team"`
	Reason   string     `json:"reason"`
	Ticket   string     `json:"ticket,omitempty"`
	Scope    Extent     `json:"scope"`
	Seconds  int64      `json:"seconds" doc:"How long it lasts once it has begun"`
	StartsAt *time.Time `json:"startsAt,omitempty" doc:"When it begins; default as soon as it is approved"`
}

// Duration is how long the grant lasts once it has begun.
func (r Request) Duration() time.Duration { return time.Duration(r.Seconds) * time.Second }

// Agreement is somebody's word for a grant.
type Agreement struct {
	Person string    `json:"person"`
	Name   string    `json:"name"`
	Reason string    `json:"reason,omitempty"`
	At     time.Time `json:"at"`
	Maker  string    `json:"maker,omitempty" doc:"Who made the token by which they said so, if that is another person"`
}

// Happened is something that happened to a grant.
type Happened struct {
	At     time.Time `json:"at"`
	What   string    `json:"what" doc:"What somebody did, or what its time did: requested, changed, approved, began, expired…"`
	State  State     `json:"state" doc:"What it came to"`
	By     string    `json:"by,omitempty"`
	Reason string    `json:"reason,omitempty"`
}

// maxLog is how many changes are kept.
const maxLog = 200

// Robot is who acts where nobody did.
const Robot = "slipway"

// become gives a grant its next state.
func (g *Grant) become(s State, what, by, reason string, at time.Time) {
	g.State = s
	if len(g.Log) >= maxLog {
		g.Log = slices.Delete(slices.Clone(g.Log), 1, 2)
	}
	g.Log = append(g.Log[:len(g.Log):len(g.Log)], Happened{at, what, s, by, reason})
}

// isFor reports whether a person is one of those whom the grant is for: who may
// act, who asked, and who answers for a program. None of them counts as one
// who agrees.
func (g Grant) isFor(person string) bool {
	return person == g.Person || person == g.By || g.Sponsor != "" && person == g.Sponsor
}

// On reports whether the grant is active at a moment. It goes by the times
// alone: a grant that nobody has looked at since is over all the same.
func (g Grant) On(now time.Time) bool {
	return g.State == Active && g.Until != nil && now.Before(*g.Until)
}

// Overdue reports whether somebody should have looked at the grant by now.
func (g Grant) Overdue(now time.Time) bool {
	return g.State == ReviewDue && g.ReviewBy != nil && !now.Before(*g.ReviewBy)
}

// Party is somebody who says something of a grant, however they came: by a
// token, the console, or somebody else's hand.
type Party struct {
	Person  string // the same for all their tokens and sessions
	Name    string
	Program bool   // a service account or an agent
	Sponsor string // the human who answers for a program
	Maker   string // who made the token they came by, if that is another person
}

// Extent says what a grant lets be done, and on what. A list that is empty
// bounds nothing, but permissions must be named.
type Extent struct {
	Permissions []string `json:"permissions" maxItems:"40" doc:"What may be done, such as device.write"`
	Stamps      []string `json:"stamps,omitempty" maxItems:"100" doc:"Only on these stamps"`
	Tenants     []string `json:"tenants,omitempty" maxItems:"100" doc:"Only for these tenants"`
	Devices     []string `json:"devices,omitempty" maxItems:"100" doc:"Only on these devices"`
}

// Target is what something is about to be done to; what is empty is not known,
// or is more than one.
type Target struct{ Stamp, Tenant, Device string }

// Covers reports whether the scope lets something be done to a target. A bound
// on what is not known of the target is not met.
func (s Extent) Covers(permission string, t Target) bool {
	in := func(list []string, name string) bool {
		return len(list) == 0 || name != "" && slices.Contains(list, name)
	}
	return slices.Contains(s.Permissions, permission) && in(s.Stamps, t.Stamp) && in(s.Tenants, t.Tenant) && in(s.Devices, t.Device)
}

// The limits of what is asked for.
const (
	maxNames  = 100
	maxName   = 200
	maxReason = 2000
	maxTicket = 500
	maxAhead  = 30 * 24 * time.Hour
	minLife   = time.Minute
)

func (s Extent) check(known func(permission string) bool) error {
	if len(s.Permissions) == 0 {
		return problem.New(problem.Invalid, "name what is to be done, such as device.write").At("scope.permissions")
	}
	for field, list := range map[string][]string{"permissions": s.Permissions, "stamps": s.Stamps, "tenants": s.Tenants, "devices": s.Devices} {
		if len(list) > maxNames {
			return problem.New(problem.Invalid, "at most %d are named, not %d; leave the list empty for all", maxNames, len(list)).At("scope." + field)
		}
		for _, name := range list {
			if name == "" || len(name) > maxName {
				return problem.New(problem.Invalid, "a name has 1 to %d characters", maxName).At("scope." + field)
			}
		}
	}
	for _, p := range s.Permissions {
		if !known(p) {
			return problem.New(problem.Invalid, "%q is no permission that a grant can give; /api/v1/roles lists them with the roles that have them", p).At("scope.permissions")
		}
	}
	return nil
}
