package place

import (
	"context"
	"database/sql"
	"slices"

	"github.com/slipway/slipway/internal/control/access"
	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/sqldb"
)

// Thing is something known by an id or a name that is of one environment.
type Thing string

// The things that are looked up.
const (
	Promotion       Thing = "promotion"
	Rollout         Thing = "rollout"
	Hold            Thing = "hold"
	Halt            Thing = "halt"
	Waiver          Thing = "waiver"
	Route           Thing = "route"
	Grant           Thing = "grant"
	AccessReview    Thing = "access review"
	Rehearsal       Thing = "rehearsal"
	Incident        Thing = "incident"
	Individual      Thing = "enrolment"
	EnrollmentGroup Thing = "enrolment group"
)

// queries find the environment of what control keeps. An empty one is every
// environment.
var queries = map[Thing]string{
	Promotion:    "SELECT environment FROM promotion WHERE id = ?",
	Rollout:      "SELECT environment FROM rollout WHERE id = ?",
	Hold:         "SELECT environment FROM hold WHERE id = ?",
	Halt:         "SELECT environment FROM halt WHERE id = ?",
	Waiver:       "SELECT environment FROM waiver WHERE id = ?",
	Route:        "SELECT environment FROM route WHERE name = ?",
	Grant:        "SELECT environment FROM access_grant WHERE id = ?",
	AccessReview: "SELECT environment FROM access_review WHERE id = ?",
	Rehearsal:    "SELECT environment FROM rehearsal WHERE id = ?",
	Incident:     "SELECT environment FROM incident WHERE id = ?",
	stamp:        "SELECT environment FROM stamp WHERE name = ?",
}

const stamp Thing = "stamp"

// Finder looks up where things are.
type Finder struct {
	DB *sqldb.DB // control's
	// Device returns where a device is.
	Device func(ctx context.Context, id string) (access.Place, error)
	// Enrollment returns an enrolment, which provisioning keeps.
	Enrollment func(ctx context.Context, ref link.EnrollmentRef) (link.Enrollment, error)
}

func text(rows *sql.Rows) (s string, err error) { return s, rows.Scan(&s) }

// every is each environment, and any that is declared meanwhile.
func (f *Finder) every(ctx context.Context) ([]access.Place, error) {
	names, err := sqldb.Rows(ctx, f.DB, text, "SELECT name FROM environment")
	all := []access.Place{{}}
	for _, name := range names {
		all = append(all, access.Place{Environment: name})
	}
	return all, err
}

func (f *Finder) stamp(ctx context.Context, name string) (access.Place, error) {
	environment, err := f.environmentOf(ctx, stamp, name)
	return access.Place{Environment: environment, Stamp: name}, err
}

func (f *Finder) device(ctx context.Context, id string) (access.Place, error) {
	owner, _ := link.SplitIdentity(id)
	return f.Device(ctx, owner)
}

// maxLookups is how many devices are looked up one by one; more count as being
// everywhere.
const maxLookups = 100

// devices returns the places of devices, each once.
func (f *Finder) devices(ctx context.Context, ids []string) (all []access.Place, err error) {
	if len(ids) == 0 || len(ids) > maxLookups {
		return f.every(ctx)
	}
	for _, id := range ids {
		at, err := f.device(ctx, id)
		if problem.Is(err, problem.NotFound) {
			continue // whoever moves it is told that
		}
		if err != nil {
			return nil, err
		}
		if !slices.Contains(all, at) {
			all = append(all, at)
		}
	}
	return all, nil
}

func (f *Finder) environmentOf(ctx context.Context, what Thing, id string) (string, error) {
	switch what {
	case Individual:
		e, err := f.Enrollment(ctx, link.EnrollmentRef{Kind: link.Individual, Name: id})
		return e.Spec.Environment, err
	case EnrollmentGroup:
		e, err := f.Enrollment(ctx, link.EnrollmentRef{Kind: link.Group, Name: id})
		return e.Spec.Environment, err
	}
	environment, found, err := sqldb.Row(ctx, f.DB, text, queries[what], id)
	if err == nil && !found {
		err = problem.New(problem.NotFound, "there is no %s %q", what, id)
	}
	return environment, err
}
