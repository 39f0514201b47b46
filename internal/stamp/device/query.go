package device

import (
	"context"
	"database/sql"

	"errors"
	"strings"
	"time"

	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/sqldb"

	"github.com/slipway/slipway/internal/stamp/query"
	"github.com/slipway/slipway/internal/stamp/twin"
)

const momentFormat = "2006-01-02T15:04:05.000000Z"

// moment is a column of microseconds as conditions compare it: text in order
// of time.
func moment(d sqldb.Dialect, column string) string {
	text := "strftime('%Y-%m-%dT%H:%M:%S', " + column + " / 1000000, 'unixepoch') || printf('.%06dZ', " + column + " % 1000000)"
	if d == sqldb.PostgreSQL {
		text = "to_char(to_timestamp(" + column + " / 1000000) AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS') || '.' || lpad((" + column + " % 1000000)::text, 6, '0') || 'Z'"
	}
	return "coalesce(" + text + ", '0001-01-01T00:00:00Z')"
}

// document is a column of JSON text as conditions look into it. PostgreSQL
// refuses to read a text with a NUL in it; what comes before and after that is
// compared.
func document(d sqldb.Dialect, column string) string {
	if d == sqldb.SQLite {
		return column
	}
	without := "regexp_replace(" + column + `, '(?<!\\)((\\\\)*)\\u0000', '\1', 'g')`
	return "(CASE WHEN strpos(" + column + `, '\u0000') = 0 THEN ` + column + " ELSE " + without + " END)::jsonb"
}

// columnsOf are where conditions over devices, or over modules, whose ids are
// "device/module", find what they speak of.
func columnsOf(d sqldb.Dialect, modules bool) query.Columns {
	edge := "(CASE d.edge WHEN 0 THEN '{\"iotEdge\":false}' ELSE '{\"iotEdge\":true}' END)"
	if d == sqldb.PostgreSQL {
		edge += "::jsonb"
	}
	columns := query.Columns{
		Fields: map[string]string{
			"deviceId": "d.device_id", "moduleId": "''", "status": "d.status", "statusReason": "d.status_reason", "enrollment": "d.enrollment", "tenant": "d.tenant",
			"generationId": "d.generation_id", "authenticationType": "d.auth_type", "modelId": "d.model_id", "deviceScope": "d.scope",
			"connectionState":  "(CASE d.connected WHEN 0 THEN 'Disconnected' ELSE 'Connected' END)",
			"lastActivityTime": moment(d, "d.last_activity"), "statusUpdateTime": moment(d, "d.status_at"),
			"version": "t.version", "etag": "''",
			"cloudToDeviceMessageCount": "(SELECT count(*) FROM command q WHERE q.device_id = d.device_id)",
		},
		Documents: map[string]string{
			"tags": document(d, "t.tags"), "desired": document(d, "t.desired"), "reported": document(d, "t.reported"),
			"configurations": document(d, "d.configurations"), "capabilities": edge,
		},
		Versions: map[string]string{"desired": "t.desired_version", "reported": "t.reported_version"},
	}
	if modules {
		columns.Fields["deviceId"], columns.Fields["moduleId"] = "d.module_of", "substr(d.device_id, length(d.module_of) + 2)"
	}
	return columns
}

// selection is a WHERE clause with its arguments.
type selection struct {
	dialect sqldb.Dialect
	terms   []string
	args    []any
}

func (s *selection) add(term string, args ...any) {
	s.terms, s.args = append(s.terms, term), append(s.args, args...)
}

func (s *selection) where() string { return strings.Join(s.terms, " AND ") }

// narrow adds a condition, led by what an index can find of it.
func (s *selection) narrow(c *query.Condition, in query.Columns) error {
	for _, e := range c.Equalities() {
		switch {
		case e.Path[0] == "deviceId" || e.Path[0] == "enrollment" || e.Path[0] == "tenant":
			s.add(in.Fields[e.Path[0]]+" IN ("+marks(len(e.Values))+")", e.Values...)
		case e.Path[0] == "tags" && indexed(e.Values):
			args := []any{twin.TagPath(e.Path[1:])}
			for _, value := range e.Values {
				kept, err := twin.IndexedFor(s.dialect, value)
				if err != nil {
					return err
				}
				args = append(args, kept)
			}
			s.add("d.device_id IN (SELECT device_id FROM tag WHERE path = ? AND value IN ("+marks(len(e.Values))+"))", args...)
		}
	}
	render := c.SQLite
	if s.dialect == sqldb.PostgreSQL {
		render = c.PostgreSQL
	}
	text, args, err := render(in)
	s.add("("+text+")", args...)
	return err
}

func indexed(values []any) bool {
	for _, v := range values {
		if _, ok := twin.Indexed(v); !ok {
			return false
		}
	}
	return len(values) > 0
}

func marks(n int) string { return strings.TrimSuffix(strings.Repeat("?, ", n), ", ") }

// Query returns a page of devices that match a condition, in order of id.
func (ds *Devices) Query(ctx context.Context, req link.QueryDevices) (page link.Devices, err error) {
	limit := req.Limit
	if limit <= 0 || limit > link.MaxPage {
		limit = link.MaxPage
	}
	s := selection{dialect: ds.db.Dialect()}
	s.add("d.module_of IS NULL AND d.device_id <> ? AND d.device_id > ?", ds.Probe, req.After)
	if req.Tenant != "" {
		s.add("d.tenant = ?", req.Tenant)
	}
	if req.MinMessages > 0 {
		s.add("d.messages >= ?", req.MinMessages)
	}
	if req.Connected {
		s.add("d.connected = 1")
	}
	if req.Where != "" {
		condition, err := query.Parse(req.Where)
		if err != nil {
			return page, err
		}
		if err := s.narrow(condition, columnsOf(s.dialect, false)); err != nil {
			return page, err
		}
	}
	err = ds.each(ctx, selectSummary+" WHERE "+s.where()+" ORDER BY d.device_id LIMIT ?", append(s.args, limit+1), func(rows *sql.Rows) (bool, error) {
		d, err := scanSummary(rows)
		page.Items = append(page.Items, d)
		return true, err
	})
	if len(page.Items) > limit {
		page.Items, page.More = page.Items[:limit], true
	}
	return page, err
}

// each runs a query whose text will hardly come again and hands every row on
// until the receiver has enough.
func (ds *Devices) each(ctx context.Context, text string, args []any, row func(*sql.Rows) (more bool, err error)) error {
	rows, err := ds.db.QueryOnce(ctx, text, args...)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		if more, err := row(rows); err != nil || !more {
			return err
		}
	}
	return rows.Err()
}

// QueryTime bounds how long one statement may look through the twins.
const QueryTime = 20 * time.Second

// Result is a page of what a statement selects. Next is where the following
// page begins, empty on the last one.
type Result struct {
	Rows []twin.Document
	Next string
	// Whole says that rows are twins as they are, not projections or figures.
	Whole bool
}

// Run answers a statement over devices or modules, a page at a time; after is
// the Next of the page before. live brings an entry up to the moment.
func (ds *Devices) Run(ctx context.Context, s *query.Statement, after string, limit int, live func(Entry) Entry) (Result, error) {
	ctx, cancel := context.WithTimeout(ctx, QueryTime)
	defer cancel()
	result, err := ds.run(ctx, s, after, limit, live)
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		err = problem.New(problem.TimedOut, "the query took longer than %s; ask for less, or by an indexed property such as deviceId or a tag", QueryTime)
	}
	return result, err
}

func (ds *Devices) run(ctx context.Context, s *query.Statement, after string, limit int, live func(Entry) Entry) (Result, error) {
	select {
	case ds.queries <- struct{}{}: // one at a time, so that a reader is left for connections
		defer func() { <-ds.queries }()
	case <-ctx.Done():
		return Result{}, ctx.Err()
	}
	sel, in := ds.from(s)
	if after != "" {
		sel.add("d.device_id > ?", after)
	}
	if s.Where != nil {
		if err := sel.narrow(s.Where, in); err != nil {
			return Result{}, err
		}
	}
	if row, ok := s.Counts(); ok {
		n, err := ds.count(ctx, sel)
		return Result{Rows: []twin.Document{row(n)}}, err
	}
	text := selectFor(s) + " WHERE " + sel.where() + " ORDER BY d.device_id"
	if s.Aggregates() {
		return ds.aggregate(ctx, s, text, sel.args)
	}
	return ds.page(ctx, s, text, sel.args, limit, live)
}

// from begins the selection of what a statement is over.
func (ds *Devices) from(s *query.Statement) (selection, query.Columns) {
	sel, modules := selection{dialect: ds.db.Dialect()}, s.From == query.FromModules
	if modules {
		sel.add("d.module_of IS NOT NULL")
	} else {
		sel.add("d.module_of IS NULL AND d.device_id <> ?", ds.Probe)
	}
	return sel, columnsOf(sel.dialect, modules)
}

// Whole is an identity with its twin, as conditions and statements look at it.
type Whole struct {
	Entry
	Document twin.Twin
}

func scanWhole(rows *sql.Rows) (w Whole, err error) {
	var entry entryRow
	var row twin.Row
	if err := rows.Scan(append(entry.into(), row.Into()...)...); err != nil {
		return w, err
	}
	if w.Entry, err = entry.read(); err != nil {
		return w, err
	}
	w.Document, err = row.Twin()
	return w, err
}

const selectWhole = "SELECT " + entryColumns + ", " + twin.Columns + " FROM device d JOIN twin t ON t.device_id = d.device_id LEFT JOIN ca c ON c.digest = d.ca"

// selectFor is selectWhole with nothing in place of what a statement does not
// show: reading a document takes longer than all else.
func selectFor(s *query.Statement) string {
	text := selectWhole
	for root, columns := range map[string][]string{
		"tags": {"t.tags"}, "desired": {"t.desired,", "t.desired_meta"}, "reported": {"t.reported,", "t.reported_meta"}, "configurations": {"d.configurations"},
	} {
		for _, column := range columns {
			if !s.Reads(root) {
				text = strings.Replace(text, column, strings.Replace(column, strings.TrimSuffix(column, ","), "'{}'", 1), 1)
			}
		}
	}
	if !s.Reads("cloudToDeviceMessageCount") {
		text = strings.Replace(text, queuedColumn, "0", 1)
	}
	return text
}

// Whole returns an identity with its twin.
func (ds *Devices) Whole(ctx context.Context, id string) (Whole, error) {
	w, found, err := sqldb.Row(ctx, ds.db, scanWhole, selectWhole+" WHERE d.device_id = ?", id)
	if err == nil && !found {
		err = notHere(id)
	}
	return w, err
}

// Wholes returns identities with their twins, devices and modules, with ids
// above after, in order of id.
func (ds *Devices) Wholes(ctx context.Context, after string, limit int) ([]Whole, error) {
	return sqldb.Rows(ctx, ds.db, scanWhole, selectWhole+" WHERE d.device_id > ? ORDER BY d.device_id LIMIT ?", after, limit)
}

func (ds *Devices) page(ctx context.Context, s *query.Statement, text string, args []any, limit int, live func(Entry) Entry) (Result, error) {
	result := Result{Rows: []twin.Document{}, Whole: s.Whole()}
	last := ""
	err := ds.each(ctx, text+" LIMIT ?", append(args, limit+1), func(rows *sql.Rows) (bool, error) {
		w, err := scanWhole(rows)
		if err != nil {
			return false, err
		}
		if len(result.Rows) == limit {
			result.Next = last
			return false, nil
		}
		last = w.ID
		w.Entry = live(w.Entry)
		if s.Whole() {
			result.Rows = append(result.Rows, w.Twin(w.Document))
		} else {
			result.Rows = append(result.Rows, s.Project(w))
		}
		return true, nil
	})
	return result, err
}

// CountRows returns how many rows a statement selects.
func (ds *Devices) CountRows(ctx context.Context, s *query.Statement) (n int64, err error) {
	if s.Aggregates() {
		result, err := ds.Run(ctx, s, "", 1, func(e Entry) Entry { return e })
		return int64(len(result.Rows)), err
	}
	sel, in := ds.from(s)
	if s.Where != nil {
		if err := sel.narrow(s.Where, in); err != nil {
			return 0, err
		}
	}
	n, err = ds.count(ctx, sel)
	if s.Top > 0 {
		n = min(n, int64(s.Top))
	}
	return n, err
}

func (ds *Devices) count(ctx context.Context, sel selection) (n int64, err error) {
	err = ds.each(ctx, "SELECT count(*) FROM device d JOIN twin t ON t.device_id = d.device_id WHERE "+sel.where(), sel.args, func(rows *sql.Rows) (bool, error) {
		return true, rows.Scan(&n)
	})
	return n, err
}

func (ds *Devices) aggregate(ctx context.Context, s *query.Statement, text string, args []any) (Result, error) {
	figures := s.Collect()
	err := ds.each(ctx, text, args, func(rows *sql.Rows) (bool, error) {
		w, err := scanWhole(rows)
		if err != nil {
			return false, err
		}
		return true, figures.Add(w)
	})
	if err != nil {
		return Result{}, err
	}
	rows := figures.Rows()
	if s.Top > 0 && len(rows) > s.Top {
		rows = rows[:s.Top]
	}
	return Result{Rows: rows}, nil
}

// Lookup implements query.Names.
func (w Whole) Lookup(parts []string) (any, bool) {
	owner, module := link.SplitIdentity(w.ID)
	switch parts[0] {
	case "deviceId":
		return owner, true
	case "moduleId":
		return module, true
	case "status":
		return w.Status, true
	case "statusReason":
		return w.StatusReason, true
	case "enrollment":
		return w.Enrollment, true
	case "tenant":
		return w.Tenant, true
	case "generationId":
		return w.GenerationID, true
	case "authenticationType":
		return string(w.Auth.Type), true
	case "modelId":
		return w.ModelID, true
	case "deviceScope":
		return w.Scope, true
	case "connectionState":
		return w.ConnectionState(), true
	case "lastActivityTime":
		return momentOf(w.LastActivity), true
	case "statusUpdateTime":
		return momentOf(w.StatusAt), true
	case "version":
		return w.Document.Version, true
	case "etag":
		return w.Document.ETag(), true
	case "cloudToDeviceMessageCount":
		return w.Queued, true
	case "capabilities":
		return query.Dig(map[string]any{"iotEdge": w.Edge}, parts[1:])
	case "configurations":
		return query.Dig(w.Configurations, parts[1:])
	case "tags":
		return query.Dig(w.Document.Tags, parts[1:])
	case "desired":
		return w.section(w.Document.Desired, parts[1:])
	case "reported":
		return w.section(w.Document.Reported, parts[1:])
	}
	return nil, false
}

// section finds a property, or what the hub says of a section.
func (w Whole) section(s twin.Section, keys []string) (any, bool) {
	if len(keys) > 0 && keys[0] == "$version" {
		return s.Version, len(keys) == 1
	}
	if len(keys) > 0 && keys[0] == "$metadata" {
		return query.Dig(s.Meta, keys[1:])
	}
	return query.Dig(s.Values, keys)
}

func momentOf(t *time.Time) string {
	if t == nil {
		return never
	}
	return t.UTC().Format(momentFormat)
}
