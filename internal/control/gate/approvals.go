package gate

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/slipway/slipway/internal/control/access"
	"github.com/slipway/slipway/internal/control/audit"
	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/resource"
	"github.com/slipway/slipway/internal/sqldb"
)

// Approval is somebody's word on a promotion.
type Approval struct {
	Person      string     `json:"person"`
	Approves    bool       `json:"approves" doc:"false: they reject it"`
	Reason      string     `json:"reason"`
	At          time.Time  `json:"at"`
	WithdrawnAt *time.Time `json:"withdrawnAt,omitempty"`
	Maker       string     `json:"maker,omitempty" doc:"Who made the token by which they said so, if that is another person"`
}

const (
	maxWords     = 500  // of people on one promotion
	maxWordsSaid = 2000 // characters of a reason
)

// Approve records that somebody agrees to a promotion. Who asked for it cannot.
func (g *Gates) Approve(ctx context.Context, actor access.Actor, s Subject, reason string) error {
	if actor.Who() == s.Requester {
		return problem.New(problem.Denied, "%s asked for the promotion and cannot approve it; somebody else must", actor.Name)
	}
	return g.say(ctx, actor, s, true, reason)
}

// independent refuses an approval by who cannot be told from who asked, or from
// who has approved.
func (g *Gates) independent(ctx context.Context, q sqldb.Querier, actor access.Actor, s Subject) error {
	said, err := sqldb.Rows(ctx, q, scanApproval, selectApprovals+" AND approves = 1 AND withdrawn_at IS NULL", s.Promotion)
	if err != nil {
		return err
	}
	others := []string{s.Requester, s.Maker}
	for _, a := range said {
		if a.Person != actor.Who() { // whose word is given anew
			others = append(others, a.Person, a.Maker)
		}
	}
	return g.Independent(ctx, q, actor, others...)
}

// ByName tells people apart where nothing is known of accounts.
func ByName(_ context.Context, _ sqldb.Querier, actor access.Actor, others ...string) error {
	if slices.Contains(others, actor.Who()) {
		return problem.New(problem.Denied, "%s counts once; somebody else must approve", actor.Name)
	}
	return nil
}

// Reject records that somebody is against a promotion, which fails each gate
// of approvals that counts their word until they withdraw it. Who asked for it
// may.
func (g *Gates) Reject(ctx context.Context, actor access.Actor, s Subject, reason string) error {
	return g.say(ctx, actor, s, false, reason)
}

// say records the actor's word in place of one they gave before.
func (g *Gates) say(ctx context.Context, actor access.Actor, s Subject, approves bool, reason string) error {
	if err := checkReason(reason); err != nil {
		return err
	}
	promotion, action, number := s.Promotion, "promotion.reject", 0
	if approves {
		action, number = "promotion.approve", 1
	}
	return g.DB.Commit(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		n, _, err := sqldb.Row(ctx, tx, func(rows *sql.Rows) (n int, err error) { return n, rows.Scan(&n) }, "SELECT count(*) FROM approval WHERE promotion = ?", promotion)
		if err == nil && n >= maxWords {
			err = problem.New(problem.Conflict, "%d words are recorded on this promotion, the most there may be; ask for a new one", n)
		}
		if err != nil {
			return err
		}
		if approves {
			if err := g.independent(ctx, tx, actor, s); err != nil {
				return err
			}
		}
		if err := g.withdraw(ctx, tx, actor, promotion); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, "INSERT INTO approval (promotion, person, approves, reason, at, via) VALUES (?, ?, ?, ?, ?, ?)", promotion, actor.Who(), number, reason, sqldb.Micros(g.Now()), actor.Maker); err != nil {
			return err
		}
		return g.Audit.Record(ctx, tx, audit.Entry{Actor: actor.Name, Action: action, Object: "promotion/" + promotion, Outcome: audit.Done, Reason: reason})
	})
}

// Withdraw takes back the actor's word on a promotion.
func (g *Gates) Withdraw(ctx context.Context, actor access.Actor, promotion string) error {
	return g.DB.Commit(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		standing, err := sqldb.Rows(ctx, tx, scanApproval, selectApprovals+" AND person = ? AND withdrawn_at IS NULL", promotion, actor.Who())
		if err == nil && len(standing) == 0 {
			err = problem.New(problem.NotFound, "%s has said nothing on this promotion that could be withdrawn", actor.Name)
		}
		if err != nil {
			return err
		}
		if err := g.withdraw(ctx, tx, actor, promotion); err != nil {
			return err
		}
		return g.Audit.Record(ctx, tx, audit.Entry{Actor: actor.Name, Action: "promotion.withdraw", Object: "promotion/" + promotion, Outcome: audit.Done})
	})
}

func (g *Gates) withdraw(ctx context.Context, tx *sqldb.Tx, actor access.Actor, promotion string) error {
	_, err := tx.Exec(ctx, "UPDATE approval SET withdrawn_at = ? WHERE promotion = ? AND person = ? AND withdrawn_at IS NULL", sqldb.Micros(g.Now()), promotion, actor.Who())
	return err
}

const selectApprovals = "SELECT person, approves, reason, at, withdrawn_at, via FROM approval WHERE promotion = ?"

func scanApproval(rows *sql.Rows) (a Approval, err error) {
	var at int64
	var withdrawn sql.NullInt64
	err = rows.Scan(&a.Person, &a.Approves, &a.Reason, &at, &withdrawn, &a.Maker)
	a.At, a.WithdrawnAt = sqldb.Time(at), sqldb.NullTime(withdrawn)
	return a, err
}

// Approvals returns every word on a promotion, oldest first, with those
// withdrawn.
func (g *Gates) Approvals(ctx context.Context, promotion string) ([]Approval, error) {
	return sqldb.Rows(ctx, g.DB, scanApproval, selectApprovals+" ORDER BY sequence", promotion)
}

func (g *Gates) approvals(ctx context.Context, gate resource.ApprovalsGate, s Subject) Result {
	said, err := g.Approvals(ctx, s.Promotion)
	if err != nil {
		return failed(err)
	}
	return agreed(gate, s, said)
}

// agreed counts the distinct people who approve, among those whose word
// counts; one who rejects fails the gate.
func agreed(gate resource.ApprovalsGate, s Subject, said []Approval) Result {
	wanted := max(gate.Count, 1)
	r := Result{Threshold: fmt.Sprintf(">= %d people", wanted)}
	var people, against []string
	var counted []Approval
	for _, a := range said {
		if a.WithdrawnAt != nil || len(gate.From) > 0 && !slices.Contains(gate.From, a.Person) {
			continue
		}
		counted = append(counted, a)
		switch {
		case !a.Approves:
			against = append(against, fmt.Sprintf("%s (%s)", a.Person, a.Reason))
		case a.Person != s.Requester && !slices.Contains(people, a.Person):
			people = append(people, a.Person)
		}
	}
	value := float64(len(people))
	r.Samples, r.Value, r.Evidence = int64(len(people)), &value, evidenceOf(counted)
	switch {
	case len(against) > 0:
		r.Verdict, r.Reason = Fail, "rejected by "+strings.Join(against, " and ")
	case len(people) >= wanted:
		r.Verdict, r.Reason = Pass, "approved by "+strings.Join(people, " and ")
	default:
		r.Verdict, r.Reason = Pending, fmt.Sprintf("%d of %d people have approved; %s", len(people), wanted, whoMay(gate, s))
	}
	return r
}

func whoMay(gate resource.ApprovalsGate, s Subject) string {
	if len(gate.From) == 0 {
		return fmt.Sprintf("anybody but %s may", s.Requester)
	}
	others := slices.DeleteFunc(slices.Clone(gate.From), func(name string) bool { return name == s.Requester })
	return strings.Join(others, ", ") + " may"
}

// checkReason refuses to record something without why.
func checkReason(reason string) error {
	if strings.TrimSpace(reason) == "" || len(reason) > maxWordsSaid {
		return problem.New(problem.Invalid, "say why, in 1 to %d characters", maxWordsSaid).At("reason")
	}
	return nil
}
