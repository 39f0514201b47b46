package fleet

import (
	"context"
	"database/sql"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/slipway/slipway/internal/control/access"
	"github.com/slipway/slipway/internal/control/audit"
	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/sqldb"
)

// Answer is a stamp's part of a query.
type Answer struct {
	Stamp string `json:"stamp"`
	link.Rows
	Problem string `json:"problem,omitempty" doc:"Why this stamp has not answered"`
}

// maxQuery bounds the text of a query.
const maxQuery = 8192

// Query runs a statement on one stamp, or on all of them (of an environment, if
// one is named), each for itself: figures are a stamp's own. A stamp that is
// away does not keep the others from answering.
func (f *Fleet) Query(ctx context.Context, environment, stamp string, req link.RunQuery) ([]Answer, error) {
	if len(req.Query) > maxQuery {
		return nil, problem.New(problem.Invalid, "a query has at most %d characters, not %d", maxQuery, len(req.Query)).At("query")
	}
	if stamp != "" {
		if _, err := f.environments.Stamp(ctx, stamp); err != nil {
			return nil, err
		}
		rows, err := stampAsk(ctx, f, stamp, link.QueryRun, req)
		return []Answer{{Stamp: stamp, Rows: rows}}, err
	}
	if req.After != "" {
		return nil, problem.New(problem.Invalid, "the next page is a stamp's own; name the stamp").At("stamp")
	}
	stamps, err := f.stampsOf(ctx, environment)
	if err != nil {
		return nil, err
	}
	answers, failures := make([]Answer, len(stamps)), make([]error, len(stamps))
	var asking sync.WaitGroup
	for i, name := range stamps {
		asking.Go(func() {
			answers[i].Stamp = name
			answers[i].Rows, failures[i] = stampAsk(ctx, f, name, link.QueryRun, req)
		})
	}
	asking.Wait()
	for i, err := range failures {
		if problem.Is(err, problem.Invalid) {
			return nil, err // it is the same everywhere
		}
		if err != nil {
			answers[i].Problem = problem.Of(err).Error()
		}
	}
	return answers, nil
}

// stampsOf names the stamps of an environment, or all of them.
func (f *Fleet) stampsOf(ctx context.Context, environment string) ([]string, error) {
	if environment != "" {
		if _, err := f.environments.Get(ctx, environment); err != nil {
			return nil, err
		}
	}
	all, err := f.environments.Stamps(ctx)
	var names []string
	for _, s := range all {
		if environment == "" || s.Spec.Environment == environment {
			names = append(names, s.Metadata.Name)
		}
	}
	return names, err
}

// SavedQuery is a query people keep under a name.
type SavedQuery struct {
	Name      string    `json:"name"`
	Query     string    `json:"query"`
	SavedBy   string    `json:"savedBy"`
	UpdatedAt time.Time `json:"updatedAt"`
}

var queryName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9 ._-]{0,62}$`)

const maxSaved = 500

// SavedQueries returns all of them in order of name.
func (f *Fleet) SavedQueries(ctx context.Context) ([]SavedQuery, error) {
	return sqldb.Rows(ctx, f.db, func(rows *sql.Rows) (q SavedQuery, err error) {
		var at int64
		err = rows.Scan(&q.Name, &q.Query, &q.SavedBy, &at)
		q.UpdatedAt = sqldb.Time(at)
		return q, err
	}, "SELECT name, query, saved_by, updated_at FROM saved_query ORDER BY name")
}

// SaveQuery keeps a query under a name, in place of what was there.
func (f *Fleet) SaveQuery(ctx context.Context, actor access.Actor, name, text string) error {
	switch {
	case !queryName.MatchString(name):
		return problem.New(problem.Invalid, "a name has 1 to 63 letters, digits, spaces and '._-', which %q does not", name).At("name")
	case strings.TrimSpace(text) == "" || len(text) > maxQuery:
		return problem.New(problem.Invalid, "a query has 1 to %d characters", maxQuery).At("query")
	}
	return f.db.Commit(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		n, _, err := sqldb.Row(ctx, tx, func(rows *sql.Rows) (n int, err error) { return n, rows.Scan(&n) }, "SELECT count(*) FROM saved_query WHERE name <> ?", name)
		if err == nil && n >= maxSaved {
			err = problem.New(problem.Conflict, "%d queries are saved already; delete some", n)
		}
		if err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, `INSERT INTO saved_query (name, query, saved_by, updated_at) VALUES (?, ?, ?, ?)
			ON CONFLICT (name) DO UPDATE SET query = excluded.query, saved_by = excluded.saved_by, updated_at = excluded.updated_at`,
			name, text, actor.Name, sqldb.Micros(time.Now())); err != nil {
			return err
		}
		return f.audit.Record(ctx, tx, audit.Entry{Actor: actor.Name, Action: "query.save", Object: "query/" + name, Outcome: audit.Done, Detail: detailOf([]byte(text))})
	})
}

// ForgetQuery deletes a saved query.
func (f *Fleet) ForgetQuery(ctx context.Context, actor access.Actor, name string) error {
	return f.db.Commit(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		n, err := tx.Exec(ctx, "DELETE FROM saved_query WHERE name = ?", name)
		if err == nil && n == 0 {
			err = problem.New(problem.NotFound, "there is no saved query %q", name)
		}
		if err != nil {
			return err
		}
		return f.audit.Record(ctx, tx, audit.Entry{Actor: actor.Name, Action: "query.forget", Object: "query/" + name, Outcome: audit.Done})
	})
}

// Jobs returns the jobs of all stamps, newest first.
func (f *Fleet) Jobs(ctx context.Context) ([]link.Job, error) {
	found, err := fromStamps(ctx, f, link.JobList, func(j link.Jobs) []link.Job { return j.Items })
	return found, err
}

// CancelJob ends a job of a stamp; devices whose turn has not come are left
// alone.
func (f *Fleet) CancelJob(ctx context.Context, actor access.Actor, stamp, id string) (link.Job, error) {
	return onStamp(ctx, f, actor, stamp, "job.cancel", id, link.JobCancel, link.JobRef{ID: id})
}

// Configurations returns the configurations of all stamps, with how far each
// is applied.
func (f *Fleet) Configurations(ctx context.Context) ([]link.Configuration, error) {
	return fromStamps(ctx, f, link.ConfigurationList, func(c link.Configurations) []link.Configuration { return c.Items })
}

// fromStamps puts together what stamps list; one that is away adds nothing.
func fromStamps[List, Item any](ctx context.Context, f *Fleet, call link.Call[link.None, List], items func(List) []Item) ([]Item, error) {
	stamps, err := f.stampsOf(ctx, "")
	if err != nil {
		return nil, err
	}
	lists := make([][]Item, len(stamps))
	var asking sync.WaitGroup
	for i, name := range stamps {
		asking.Go(func() {
			list, err := stampAsk(ctx, f, name, call, link.None{})
			if err != nil {
				return
			}
			lists[i] = items(list)
		})
	}
	asking.Wait()
	var all []Item
	for _, list := range lists {
		all = append(all, list...)
	}
	return all, nil
}
