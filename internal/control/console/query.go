package console

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"

	"github.com/slipway/slipway/internal/control/access"
	"github.com/slipway/slipway/internal/control/fleet"
	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/resource"
)

var queryPage = newPage("query.html")

const (
	queryRows    = 100
	queryColumns = 8
)

type queryView struct {
	base
	Text, Environment string
	Name              string // to save it under
	Environments      []resource.Environment
	Saved             []fleet.SavedQuery
	Tables            []queryTable
	Asked             bool
	Problem           string
}

// queryTable is a stamp's answer, set out in columns.
type queryTable struct {
	Stamp   string
	Columns []string
	Rows    [][]cell
	More    bool
	Problem string
}

// cell is one value, or what is below it as JSON.
type cell struct {
	Text   string
	Device string // whose page it leads to
	Number bool
}

func (c *console) query(w http.ResponseWriter, r *http.Request, s access.Session) error {
	q := r.URL.Query()
	view := queryView{base: inside(r, s, "query", "Query"), Text: q.Get("q"), Environment: q.Get("environment"), Name: q.Get("name")}
	return c.showQuery(w, r, http.StatusOK, view)
}

func (c *console) showQuery(w http.ResponseWriter, r *http.Request, status int, view queryView) error {
	ctx := r.Context()
	var err error
	if view.Environments, err = c.Environments.List(ctx); err != nil {
		return err
	}
	if view.Saved, err = c.Fleet.SavedQueries(ctx); err != nil {
		return err
	}
	if view.Text != "" && view.Problem == "" {
		view.Asked = true
		answers, err := c.Fleet.Query(ctx, view.Environment, "", link.RunQuery{Query: view.Text, Limit: queryRows})
		switch {
		case problem.Is(err, problem.Invalid):
			view.Problem, status = problem.Of(err).Message, http.StatusUnprocessableEntity
		case err != nil:
			return err
		}
		for _, a := range answers {
			view.Tables = append(view.Tables, tableOf(a))
		}
	}
	return show(w, r, status, queryPage, "", view)
}

// tableOf sets an answer out: simple values first, in the order of their names,
// then what is nested.
func tableOf(a fleet.Answer) queryTable {
	t := queryTable{Stamp: a.Stamp, More: a.Next != "", Problem: a.Problem}
	rows := make([]map[string]any, len(a.Items))
	seen := map[string]bool{} // and whether it is nested
	for i, item := range a.Items {
		if json.Unmarshal(item, &rows[i]) != nil {
			continue
		}
		for name, value := range rows[i] {
			_, object := value.(map[string]any)
			seen[name] = seen[name] || object
		}
	}
	names := slices.SortedFunc(maps.Keys(seen), func(x, y string) int { return strings.Compare(rank(x, seen[x]), rank(y, seen[y])) })
	t.Columns = names[:min(len(names), queryColumns)]
	for _, row := range rows {
		cells := make([]cell, len(t.Columns))
		for i, name := range t.Columns {
			cells[i] = cellOf(name, row[name])
		}
		t.Rows = append(t.Rows, cells)
	}
	return t
}

// rank puts the device first and nested values last.
func rank(name string, nested bool) string {
	switch {
	case name == "deviceId":
		return "0"
	case nested:
		return "2" + name
	}
	return "1" + name
}

func cellOf(name string, value any) cell {
	switch value := value.(type) {
	case nil:
		return cell{Text: "–"}
	case string:
		if name == "deviceId" {
			return cell{Text: value, Device: value}
		}
		return cell{Text: value}
	case float64:
		return cell{Text: fmt.Sprint(value), Number: true}
	}
	text, err := json.Marshal(value)
	if err != nil {
		return cell{Text: "?"}
	}
	return cell{Text: short(string(text), 160)}
}

func (c *console) saveQuery(w http.ResponseWriter, r *http.Request, s access.Session) error {
	form := r.PostForm
	err := c.Fleet.SaveQuery(r.Context(), s.Actor, form.Get("name"), form.Get("q"))
	if problem.Is(err, problem.Invalid) || problem.Is(err, problem.Conflict) {
		view := queryView{base: inside(r, s, "query", "Query"), Text: form.Get("q"), Name: form.Get("name"), Problem: problem.Of(err).Message}
		return c.showQuery(w, r, statusOf(problem.Of(err).Kind), view)
	}
	if err != nil {
		return err
	}
	http.Redirect(w, r, "/query", http.StatusSeeOther)
	return nil
}

func (c *console) forgetQuery(w http.ResponseWriter, r *http.Request, s access.Session) error {
	if err := c.Fleet.ForgetQuery(r.Context(), s.Actor, r.PostForm.Get("name")); err != nil && !problem.Is(err, problem.NotFound) {
		return err
	}
	http.Redirect(w, r, "/query", http.StatusSeeOther)
	return nil
}
