package query

import (
	"database/sql"
	"encoding/json"
	"testing"

	_ "github.com/jackc/pgx/v5/stdlib"
	_ "modernc.org/sqlite"
	"pgregory.net/rapid"

	"github.com/slipway/slipway/internal/sqldb"
	"github.com/slipway/slipway/internal/sqldb/sqldbtest"
)

// engine is a database that a condition is rendered for.
type engine struct {
	name string
	db   *sql.DB
	from string // one row with the columns, of eight arguments
	// render is how the condition is written for it.
	render func(*Condition) (string, []any, error)
}

func openSQLite(t testing.TB) engine {
	db, err := sql.Open("sqlite", ":memory:")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return engine{
		"SQLite", db, "(SELECT ? AS id, ? AS status, ? AS connected, ? AS active, ? AS enrollment, ? AS tags, ? AS desired, ? AS reported)",
		func(c *Condition) (string, []any, error) { return c.SQLite(columns) },
	}
}

func openPostgres(t testing.TB) engine {
	db, err := sql.Open("pgx", sqldbtest.Postgres(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return engine{
		"PostgreSQL", db, "(SELECT ?::text AS id, ?::text AS status, ?::boolean AS connected, ?::text AS active, ?::text AS enrollment, ?::jsonb AS tags, ?::jsonb AS desired, ?::jsonb AS reported) d",
		func(c *Condition) (string, []any, error) { return c.PostgreSQL(columns) },
	}
}

type fataler interface{ Fatalf(string, ...any) }

// holds asks the database whether a condition holds for one device.
func (e engine) holds(t fataler, c *Condition, f Facts) bool {
	doc := func(d map[string]any) string {
		if d == nil {
			d = map[string]any{}
		}
		text, err := json.Marshal(d)
		if err != nil {
			t.Fatalf("%v", err)
		}
		return string(text)
	}
	where, args, err := e.render(c)
	if err != nil {
		t.Fatalf("%s: %v", c, err)
	}
	all := append([]any{f.DeviceID, f.Status, f.Connected, f.LastActivity, f.Enrollment, doc(f.Tags), doc(f.Desired), doc(f.Reported)}, args...)
	var n int
	text := "SELECT count(*) FROM " + e.from + " WHERE " + where
	if e.name == "PostgreSQL" {
		text = sqldb.Numbered(text)
	}
	if err := e.db.QueryRow(text, all...).Scan(&n); err != nil {
		t.Fatalf("%s as %s in %s: %v", c, where, e.name, err)
	}
	return n == 1
}

func TestConditions(t *testing.T) {
	engines := []engine{openSQLite(t), openPostgres(t)}
	for _, c := range cases {
		condition, err := Parse(c.text)
		if err != nil {
			t.Errorf("%s: %v", c.text, err)
			continue
		}
		if got := condition.Eval(facts); got != c.want {
			t.Errorf("%s: %v in memory", c.text, got)
		}
		for _, e := range engines {
			if got := e.holds(t, condition, facts); got != c.want {
				t.Errorf("%s: %v in %s", c.text, got, e.name)
			}
		}
		again, err := Parse(condition.String())
		if err != nil || again.String() != condition.String() {
			t.Errorf("%s prints as %s, %v", c.text, condition, err)
		}
	}
}

func TestMemoryAndDatabasesAgree(t *testing.T) {
	engines := []engine{openSQLite(t), openPostgres(t)}
	rapid.Check(t, func(t *rapid.T) {
		f := Facts{DeviceID: "a", Status: "enabled", Connected: rapid.Bool().Draw(t, "connected"), Tags: randomDocument(t), Desired: randomDocument(t), Reported: randomDocument(t)}
		text := randomCondition(t, 3)
		condition, err := Parse(text)
		if err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		memory := condition.Eval(f)
		for _, e := range engines {
			if stored := e.holds(t, condition, f); memory != stored {
				where, _, _ := e.render(condition)
				t.Fatalf("%s over %+v: %v in memory, %v in %s as %s", condition, f, memory, stored, e.name, where)
			}
		}
	})
}
