package console

import (
	"html/template"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/slipway/slipway/internal/control/access"
	"github.com/slipway/slipway/internal/control/audit"
	"github.com/slipway/slipway/internal/control/gateway"
	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/resource"
)

var (
	auditPage      = newPage("audit.html")
	auditEntryPage = newPage("audit_entry.html")
)

const auditRows = 100

type auditView struct {
	base
	Filter       audit.Filter
	From, To     string // as the fields have them
	Filtered     bool
	Environments []resource.Environment
	Entries      []audit.Entry
	Signed       audit.Checkpoint
	Witnesses    []audit.WitnessState
	Problem      string
	Newest       template.URL // the first page of what is selected
	Older        template.URL // the page after this; empty: there is none
}

// dayTime is how a browser writes a time in a field, which here is UTC.
const dayTime = "2006-01-02T15:04"

// auditFilterOf reads the fields of the explorer.
func auditFilterOf(q url.Values) (f audit.Filter, err error) {
	f = audit.Filter{Actor: q.Get("actor"), Action: q.Get("action"), Object: q.Get("object"), Environment: q.Get("environment"), Grant: q.Get("grant"), Request: q.Get("request"), Limit: auditRows + 1}
	for _, bound := range []struct {
		name string
		at   *time.Time
	}{{"from", &f.From}, {"to", &f.To}} {
		if text := q.Get(bound.name); text != "" {
			if *bound.at, err = time.Parse(dayTime, text); err != nil {
				return f, problem.New(problem.Invalid, "a time reads like 2026-11-28T09:00, not %q", text).At(bound.name)
			}
		}
	}
	if f.Before, err = strconv.ParseInt(q.Get("before"), 10, 64); err != nil || f.Before < 0 {
		f.Before = 0 // begins at the newest
	}
	return f, nil
}

// auditURL is the explorer with what is selected, from a sequence on.
func auditURL(q url.Values, before int64) template.URL {
	next := url.Values{}
	for _, name := range []string{"actor", "action", "object", "environment", "grant", "request", "from", "to"} {
		if value := q.Get(name); value != "" {
			next.Set(name, value)
		}
	}
	if before > 0 {
		next.Set("before", strconv.FormatInt(before, 10))
	}
	return template.URL("/audit?" + next.Encode()) // encoded just here
}

func (c *console) auditLog(w http.ResponseWriter, r *http.Request, s access.Session) error {
	q := r.URL.Query()
	view := auditView{base: inside(r, s, "audit", "Audit"), From: q.Get("from"), To: q.Get("to"), Newest: auditURL(q, 0)}
	view.Filtered = view.Newest != "/audit?"
	var err error
	if view.Environments, err = c.Environments.List(r.Context()); err != nil {
		return err
	}
	if view.Signed, err = c.Audit.Latest(r.Context()); err != nil {
		return err
	}
	if view.Witnesses, err = c.Audit.WitnessStates(r.Context()); err != nil {
		return err
	}
	status := http.StatusOK
	if view.Filter, err = auditFilterOf(q); err != nil {
		view.Problem, status = problem.Of(err).Message, http.StatusUnprocessableEntity
		return show(w, r, status, auditPage, "entries", view)
	}
	if view.Entries, err = c.Audit.List(r.Context(), s.Name, view.Filter); err != nil {
		return err
	}
	if len(view.Entries) > auditRows {
		view.Entries = view.Entries[:auditRows]
		view.Older = auditURL(q, view.Entries[auditRows-1].Sequence)
	}
	return show(w, r, status, auditPage, "entries", view)
}

type auditEntryView struct {
	base
	Entry    audit.Entry
	Proof    audit.Proof
	Recorded []gateway.Mark // the lines of records by which it came
	Refused  string         // why the proof does not hold; empty: it does
}

// auditEntry shows an entry, and checks its proof before it says so.
func (c *console) auditEntry(w http.ResponseWriter, r *http.Request, s access.Session) error {
	sequence, err := strconv.ParseInt(r.PathValue("sequence"), 10, 64)
	if err != nil {
		return problem.New(problem.NotFound, "there is no entry %q in the audit log", r.PathValue("sequence"))
	}
	view := auditEntryView{base: inside(r, s, "audit", "Audit entry "+strconv.FormatInt(sequence, 10))}
	if view.Entry, view.Proof, err = c.Audit.Show(r.Context(), s.Name, sequence); err != nil {
		return err
	}
	if view.Recorded, err = c.Gateway.Recorded(r.Context(), view.Entry.Request); err != nil {
		return err
	}
	if _, err := audit.VerifyProof(view.Proof, ""); err != nil {
		view.Refused = problem.Of(err).Message
	}
	return show(w, r, http.StatusOK, auditEntryPage, "", view)
}
