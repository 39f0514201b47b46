package grant

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/slipway/slipway/internal/control/access"
	"github.com/slipway/slipway/internal/control/audit"
	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/sqldb"
)

// Holding is a right that somebody has in an environment, for good.
type Holding struct {
	ID     string     `json:"id" doc:"Names the right, so that it can be taken away"`
	Person string     `json:"person"`
	Name   string     `json:"name"`
	Role   string     `json:"role"`
	Where  string     `json:"where" doc:"The places in which it holds"`
	Since  *time.Time `json:"since,omitempty"`
	UsedAt *time.Time `json:"usedAt,omitempty" doc:"When it was last used; never, as far as is known, if absent"`
	Unused []string   `json:"unused,omitempty" doc:"What it lets be done, and was not done for a long time"`
}

// Rights tells who has what for good, and takes it away.
type Rights interface {
	Holdings(ctx context.Context, environment string) ([]Holding, error)
	Take(ctx context.Context, tx *sqldb.Tx, actor access.Actor, id string) error
}

// AccessReview is somebody looking at everything that people may do in an
// environment, and have done there by grants.
type AccessReview struct {
	ID          string      `json:"id"`
	Environment string      `json:"environment"`
	By          string      `json:"by"`
	Person      string      `json:"person"`
	OpenedAt    time.Time   `json:"openedAt"`
	DoneAt      *time.Time  `json:"doneAt,omitempty" doc:"When the last right was decided on"`
	Rows        []ReviewRow `json:"rows"`
	Grants      []GrantUsed `json:"grants" doc:"Grants since the review before"`
}

// ReviewRow is a right, and what was decided on it.
type ReviewRow struct {
	Holding
	Decision  string     `json:"decision,omitempty" enum:"keep,remove"`
	Reason    string     `json:"reason,omitempty"`
	DecidedBy string     `json:"decidedBy,omitempty"`
	DecidedAt *time.Time `json:"decidedAt,omitempty"`
}

// GrantUsed is a grant with what it was used for.
type GrantUsed struct {
	ID         string     `json:"id"`
	Name       string     `json:"name"`
	Purpose    string     `json:"purpose"`
	BreakGlass bool       `json:"breakGlass,omitempty"`
	State      State      `json:"state"`
	ActiveAt   *time.Time `json:"activeAt,omitempty"`
	Uses       []Used     `json:"uses"`
	Unused     []string   `json:"unused,omitempty" doc:"What was asked for and never used"`
}

// Used is how often a permission of a grant was used.
type Used struct {
	Permission string    `json:"permission"`
	Count      int64     `json:"count"`
	LastAt     time.Time `json:"lastAt"`
}

// The decisions on a right.
const (
	Keep   = "keep"
	Remove = "remove"
)

// ReviewLife is how long an access review counts.
const ReviewLife = 90 * 24 * time.Hour

// Uses returns how often each permission of a grant was used.
func (gs *Grants) Uses(ctx context.Context, id string) ([]Used, error) {
	if err := gs.flush(ctx); err != nil {
		return nil, err
	}
	return sqldb.Rows(ctx, gs.o.DB, func(rows *sql.Rows) (u Used, err error) {
		var at int64
		err = rows.Scan(&u.Permission, &u.Count, &at)
		u.LastAt = sqldb.Time(at)
		return u, err
	}, "SELECT permission, uses, last_at FROM access_grant_use WHERE grant_id = ? ORDER BY permission", id)
}

// OpenReview begins to look at who may do what in an environment.
func (gs *Grants) OpenReview(ctx context.Context, actor access.Actor, environment string) (r AccessReview, err error) {
	by := PartyOf(actor)
	if err := gs.mayReview(ctx, by, environment); err != nil {
		return r, err
	}
	held, err := gs.o.Rights.Holdings(ctx, environment)
	if err != nil {
		return r, err
	}
	last, _, err := gs.LastReview(ctx, environment)
	if err != nil {
		return r, err
	}
	used, err := gs.usedSince(ctx, environment, last.OpenedAt)
	if err != nil {
		return r, err
	}
	err = gs.o.DB.Commit(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		n, _, err := sqldb.Row(ctx, tx, func(rows *sql.Rows) (n int64, err error) { return n, rows.Scan(&n) }, "SELECT coalesce(max(sequence), 0) + 1 FROM access_review")
		if err != nil {
			return err
		}
		r = AccessReview{ID: fmt.Sprintf("review-%d", n), Environment: environment, By: by.Name, Person: by.Person, OpenedAt: gs.now(), Rows: []ReviewRow{}, Grants: used}
		for _, h := range held {
			r.Rows = append(r.Rows, ReviewRow{Holding: h})
		}
		r.settle(gs.now())
		text, err := json.Marshal(r)
		if err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, "INSERT INTO access_review (id, environment, done_at, version, document) VALUES (?, ?, ?, 1, ?)", r.ID, environment, micros(r.DoneAt), string(text)); err != nil {
			return err
		}
		return gs.o.Audit.Record(ctx, tx, audit.Entry{Actor: actor.Name, Action: "accessReview.open", Object: "access-review/" + r.ID, Outcome: audit.Done, Detail: fmt.Sprintf("%s: %d rights, %d grants", environment, len(r.Rows), len(r.Grants))})
	})
	return r, err
}

// mayReview says who looks at an environment's rights: who decides on its
// grants, and is a person.
func (gs *Grants) mayReview(ctx context.Context, by Party, environment string) error {
	f, failed, err := gs.facts(ctx, gs.o.DB, environment)
	switch {
	case err != nil:
		return err
	case by.Person == "" || by.Program:
		return problem.New(problem.Denied, "who may do what is reviewed by a person, which %s is not", by.Name)
	case !f.Eligible(by.Person) && failed.err == nil:
		return problem.New(problem.Denied, "%s is not among those who decide on grants in %s", by.Name, environment)
	}
	return failed.err
}

// usedSince returns the grants of an environment since a time, with what they
// were used for.
func (gs *Grants) usedSince(ctx context.Context, environment string, since time.Time) (all []GrantUsed, err error) {
	all = []GrantUsed{}
	for before := int64(0); ; {
		page, next, err := gs.List(ctx, Filter{Environment: environment, Before: before, Limit: most})
		if err != nil {
			return nil, err
		}
		for _, g := range page {
			if g.CreatedAt.Before(since) {
				return all, nil
			}
			uses, err := gs.Uses(ctx, g.ID)
			if err != nil {
				return nil, err
			}
			u := GrantUsed{ID: g.ID, Name: g.Name, Purpose: g.Purpose, BreakGlass: g.BreakGlass, State: g.State, ActiveAt: g.ActiveAt, Uses: append([]Used{}, uses...)}
			if g.ActiveAt != nil {
				u.Unused = slices.DeleteFunc(slices.Clone(g.Scope.Permissions), func(p string) bool {
					return slices.ContainsFunc(uses, func(u Used) bool { return u.Permission == p })
				})
			}
			all = append(all, u)
		}
		if next == 0 || len(all) >= most {
			return all, nil
		}
		before = next
	}
}

// Count is how many rights were decided on in one way.
func (r AccessReview) Count(decision string) (n int) {
	for _, row := range r.Rows {
		if row.Decision == decision {
			n++
		}
	}
	return n
}

// settle marks a review as done when every right was decided on.
func (r *AccessReview) settle(now time.Time) {
	if r.DoneAt == nil && !slices.ContainsFunc(r.Rows, func(row ReviewRow) bool { return row.Decision == "" }) {
		r.DoneAt = &now
	}
}

// Decide confirms a right, or takes it away. Nobody decides on their own.
func (gs *Grants) Decide(ctx context.Context, actor access.Actor, id, right, decision, reason string) (r AccessReview, err error) {
	by := PartyOf(actor)
	switch {
	case decision != Keep && decision != Remove:
		return r, problem.New(problem.Invalid, "a right is kept or removed; %q is neither", decision).At("decision")
	case decision == Remove && strings.TrimSpace(reason) == "" || len(reason) > maxReason:
		return r, problem.New(problem.Invalid, "say why it is taken away, in 1 to %d characters", maxReason).At("reason")
	}
	shown, err := gs.AccessReview(ctx, id)
	if err != nil {
		return r, err
	}
	if err := gs.mayReview(ctx, by, shown.Environment); err != nil {
		return r, err
	}
	err = gs.o.DB.Commit(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		if r, err = readReview(ctx, tx, id); err != nil {
			return err
		}
		i := slices.IndexFunc(r.Rows, func(row ReviewRow) bool { return row.ID == right })
		switch {
		case i < 0:
			return problem.New(problem.NotFound, "review %s has no right %q", id, right)
		case r.Rows[i].Decision != "":
			return problem.New(problem.Conflict, "%s has decided on %s already: %s", r.Rows[i].DecidedBy, right, r.Rows[i].Decision)
		case r.Rows[i].Person == by.Person:
			return problem.New(problem.Denied, "the right is %s's own; somebody else decides on it", by.Name)
		}
		if holder := r.Rows[i].Person; holder != "" {
			if err := gs.independent(ctx, tx, by, holder); err != nil {
				return err
			}
		}
		now := gs.now()
		row := &r.Rows[i]
		row.Decision, row.Reason, row.DecidedBy, row.DecidedAt = decision, reason, by.Name, &now
		r.settle(now)
		text, err := json.Marshal(r)
		if err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, "UPDATE access_review SET done_at = ?, version = version + 1, document = ? WHERE id = ?", micros(r.DoneAt), string(text), id); err != nil {
			return err
		}
		if decision == Remove {
			if err := gs.o.Rights.Take(ctx, tx, actor, right); err != nil {
				return err
			}
		}
		return gs.o.Audit.Record(ctx, tx, audit.Entry{Actor: actor.Name, Action: "accessReview." + decision, Object: "access-review/" + id, Outcome: audit.Done, Detail: fmt.Sprintf("%s: %s, %s; %s", row.Name, row.Role, row.Where, reason)})
	})
	return r, err
}

// independent refuses to have somebody decide on the right of who cannot be
// told from them.
func (gs *Grants) independent(ctx context.Context, q sqldb.Querier, by Party, holder string) error {
	kin, err := gs.o.People.Kin(ctx, q, by.Person, by.Maker, holder)
	if err == nil && kin {
		err = problem.New(problem.Denied, "%s cannot be told from %s, whose account they made or invited in the last %d days, or the other way round; somebody else decides on it", by.Name, holder, kinDays)
	}
	return err
}

func scanReview(rows *sql.Rows) (r AccessReview, err error) {
	var text []byte
	if err = rows.Scan(&text); err != nil {
		return r, err
	}
	return r, json.Unmarshal(text, &r)
}

func readReview(ctx context.Context, q sqldb.Querier, id string) (AccessReview, error) {
	r, found, err := sqldb.Row(ctx, q, scanReview, "SELECT document FROM access_review WHERE id = ?", id)
	if err == nil && !found {
		err = problem.New(problem.NotFound, "there is no access review %q", id)
	}
	return r, err
}

// AccessReview returns a review.
func (gs *Grants) AccessReview(ctx context.Context, id string) (AccessReview, error) {
	return readReview(ctx, gs.o.DB, id)
}

// AccessReviews returns the reviews of an environment, or of all if none is
// named, newest first.
func (gs *Grants) AccessReviews(ctx context.Context, environment string) ([]AccessReview, error) {
	return sqldb.Rows(ctx, gs.o.DB, scanReview, "SELECT document FROM access_review WHERE ? = '' OR environment = ? ORDER BY sequence DESC LIMIT 200", environment, environment)
}

// LastReview returns the newest review of an environment that is done, if there
// is one.
func (gs *Grants) LastReview(ctx context.Context, environment string) (AccessReview, bool, error) {
	return sqldb.Row(ctx, gs.o.DB, scanReview, "SELECT document FROM access_review WHERE environment = ? AND done_at IS NOT NULL ORDER BY done_at DESC, sequence DESC LIMIT 1", environment)
}
