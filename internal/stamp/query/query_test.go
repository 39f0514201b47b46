package query

import (
	"database/sql"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	_ "modernc.org/sqlite"
	"pgregory.net/rapid"
)

var facts = Facts{
	DeviceID: "sensor-1", Status: "enabled", Connected: true, LastActivity: 2e6, Enrollment: "line-7",
	Tags:     map[string]any{"batch": "7", "n": json.Number("3"), "odd key": true, "deep": map[string]any{"er": json.Number("1.5")}},
	Reported: map[string]any{"selfTest": "ok", "none": nil},
}

var cases = []struct {
	text string
	want bool
}{
	{"tags.batch='7'", true},
	{"tags.batch = 7", false},
	{"tags.batch != 7", false},
	{"tags.missing != 'x'", false},
	{"NOT tags.missing = 'x'", true},
	{"tags.n + 1 >= 4 AND tags.deep.er < 2", true},
	{"tags.n % 2 = 1", true},
	{"tags.n / 0 = 1 or tags.n / 0 != 1", false},
	{"tags['odd key'] = true", true},
	{"tags.[[odd key]] = TRUE", true},
	{"properties.reported.selfTest = \"ok\" and connectionState = 'Connected'", true},
	{"deviceId IN ['a', 'sensor-1']", true},
	{"deviceId NIN ['a']", true},
	{"tags.missing NIN ['a']", false},
	{"tags.missing + 1 NIN ['a', 1]", false},
	{"tags.n / 0 NIN [1]", false},
	{"STARTSWITH(deviceId, 'sens') AND CONTAINS(tags.batch, '7')", true},
	{"CONTAINS(tags.n, '3')", false},
	{"IS_DEFINED(tags.batch) AND NOT IS_DEFINED(tags.batch.x)", true},
	{"IS_NULL(properties.reported.none) AND IS_NUMBER(tags.n)", true},
	{"lastActivityTime > 1", true},
	{"(true)", true},
	{"-1 < tags.n", true},
	{"status = 'enabled' AND (tags.batch = '8' OR tags.batch = '7')", true},
}

func TestConditions(t *testing.T) {
	db := openDB(t)
	for _, c := range cases {
		condition, err := Parse(c.text)
		if err != nil {
			t.Errorf("%s: %v", c.text, err)
			continue
		}
		if got := condition.Eval(facts); got != c.want {
			t.Errorf("%s: %v in memory", c.text, got)
		}
		if got := inSQL(t, db, condition, facts); got != c.want {
			t.Errorf("%s: %v in SQL", c.text, got)
		}
		again, err := Parse(condition.String())
		if err != nil || again.String() != condition.String() {
			t.Errorf("%s prints as %s, %v", c.text, condition, err)
		}
	}
}

func TestFaultsNameTheirPlace(t *testing.T) {
	for text, want := range map[string]string{
		"":                                      "column 1: expected",
		"tags.batch = ":                         "column 14: expected",
		"tags.batch":                            "compare it",
		"batch = 1":                             "column 1: expected tags",
		"tags.a = 1 tags.b":                     "column 12: expected AND",
		"tags.a = 'x":                           "no closing",
		"tags.a =\n $":                          "line 2, column 2",
		"1 AND 2":                               "expected a comparison",
		"tags.a IN [tags.b]":                    "expected a constant",
		"tags['a\"b'] = 1":                      "quotation mark",
		strings.Repeat("(", 100):                "at most 32 deep",
		strings.Repeat("NOT ", 100) + "1=1":     "at most 32 deep",
		strings.Repeat("1=1 AND ", 200) + "1=1": "at most 256 parts",
		strings.Repeat("x", 9000):               "at most 8192 bytes",
	} {
		_, err := Parse(text)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.40q: %v, want %q", text, err, want)
		}
	}
}

func openDB(t testing.TB) *sql.DB {
	db, err := sql.Open("sqlite", ":memory:")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return db
}

var columns = Columns{DeviceID: "id", Status: "status", Connected: "connected", LastActivity: "active", Enrollment: "enrollment", Tags: "tags", Desired: "desired", Reported: "reported"}

type fataler interface{ Fatalf(string, ...any) }

func inSQL(t fataler, db *sql.DB, c *Condition, f Facts) bool {
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
	where, args := c.SQLite(columns)
	all := append([]any{f.DeviceID, f.Status, f.Connected, f.LastActivity, f.Enrollment, doc(f.Tags), doc(f.Desired), doc(f.Reported)}, args...)
	var n int
	err := db.QueryRow("SELECT count(*) FROM (SELECT ? AS id, ? AS status, ? AS connected, ? AS active, ? AS enrollment, ? AS tags, ? AS desired, ? AS reported) WHERE "+where, all...).Scan(&n)
	if err != nil {
		t.Fatalf("%s as %s: %v", c, where, err)
	}
	return n == 1
}

func randomValue(t *rapid.T) any {
	return rapid.SampledFrom([]any{nil, true, false, json.Number("0"), json.Number("1"), json.Number("2.5"), json.Number("-3"), "a", "ab", "", "é'x", []any{json.Number("1")}, map[string]any{"x": json.Number("1")}}).Draw(t, "value")
}

func randomDocument(t *rapid.T) map[string]any {
	d := map[string]any{}
	for _, key := range rapid.SliceOfDistinct(rapid.SampledFrom([]string{"a", "b", "c d", "é"}), func(s string) string { return s }).Draw(t, "keys") {
		d[key] = randomValue(t)
	}
	return d
}

func randomOperand(t *rapid.T, depth int) string {
	simple := []string{"tags.a", "tags.b", "tags['c d']", "tags.é", "properties.reported.a", "properties.desired.a.x", "deviceId", "status", "connectionState", "1", "2.5", "-3", "'a'", "''", `'\u00e9\'x'`, "true", "false", "null"}
	if depth > 0 && rapid.IntRange(0, 3).Draw(t, "deeper") == 0 {
		return "(" + randomOperand(t, depth-1) + " " + rapid.SampledFrom([]string{"+", "-", "*", "/", "%"}).Draw(t, "op") + " " + randomOperand(t, depth-1) + ")"
	}
	return rapid.SampledFrom(simple).Draw(t, "operand")
}

func randomCondition(t *rapid.T, depth int) string {
	switch choice := rapid.IntRange(0, 6).Draw(t, "kind"); {
	case depth > 0 && choice == 0:
		return "(" + randomCondition(t, depth-1) + " AND " + randomCondition(t, depth-1) + ")"
	case depth > 0 && choice == 1:
		return "(" + randomCondition(t, depth-1) + " OR " + randomCondition(t, depth-1) + ")"
	case depth > 0 && choice == 2:
		return "NOT " + randomCondition(t, depth-1)
	case choice == 3:
		return fmt.Sprintf("%s %s ['a', 1, true]", randomOperand(t, 1), rapid.SampledFrom([]string{"IN", "NIN"}).Draw(t, "in"))
	case choice == 4:
		return rapid.SampledFrom([]string{"IS_DEFINED(tags.a)", "IS_NULL(tags.b)", "IS_STRING(tags.a)", "IS_BOOL(tags.a)", "STARTSWITH(tags.a, 'a')", "CONTAINS(tags.b, tags.a)"}).Draw(t, "call")
	}
	return randomOperand(t, 2) + " " + rapid.SampledFrom([]string{"=", "!=", "<", "<=", ">", ">="}).Draw(t, "cmp") + " " + randomOperand(t, 2)
}

func TestMemoryAndSQLAgree(t *testing.T) {
	db := openDB(t)
	rapid.Check(t, func(t *rapid.T) {
		f := Facts{DeviceID: "a", Status: "enabled", Connected: rapid.Bool().Draw(t, "connected"), Tags: randomDocument(t), Desired: randomDocument(t), Reported: randomDocument(t)}
		text := randomCondition(t, 3)
		condition, err := Parse(text)
		if err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		if memory, stored := condition.Eval(f), inSQL(t, db, condition, f); memory != stored {
			where, _ := condition.SQLite(columns)
			t.Fatalf("%s over %+v: %v in memory, %v in SQL %s", condition, f, memory, stored, where)
		}
	})
}

func FuzzParse(f *testing.F) {
	for _, c := range cases {
		f.Add(c.text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		condition, err := Parse(text)
		if err != nil {
			return
		}
		condition.Eval(facts)
		again, err := Parse(condition.String())
		if err != nil || again.String() != condition.String() {
			t.Errorf("%q prints as %q: %v", text, condition, err)
		}
	})
}
