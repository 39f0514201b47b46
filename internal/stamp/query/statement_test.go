package query

import (
	"encoding/json"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestStatements(t *testing.T) {
	fleet := []Facts{
		{DeviceID: "a", Tags: map[string]any{"site": "north", "n": json.Number("1")}},
		{DeviceID: "b", Tags: map[string]any{"site": "north", "n": json.Number("4")}},
		{DeviceID: "c", Tags: map[string]any{"n": json.Number("7")}},
	}
	for text, want := range map[string]string{
		"SELECT COUNT() AS total FROM devices":                                                `[{"total":3}]`,
		"select count(*) from devices where tags.site = 'south'":                              `[{"count":0}]`,
		"SELECT tags.site, COUNT() AS n, AVG(tags.n) AS mean FROM devices GROUP BY tags.site": `[{"mean":2.5,"n":2,"site":"north"},{"mean":7,"n":1}]`,
		"SELECT SUM(tags.n), MIN(tags.n), MAX(tags.n) FROM devices WHERE deviceId != 'a'":     `[{"max":7,"min":4,"sum":11}]`,
		"SELECT deviceId, tags.site AS 'where' FROM devices WHERE tags.n > 3":                 `[{"deviceId":"b","where":"north"},{"deviceId":"c"}]`,
		"SELECT MAX(deviceId) AS last, SUM(deviceId) AS none FROM devices":                    `[{"last":"c","none":0}]`,
	} {
		s, err := ParseStatement(text)
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		got, err := json.Marshal(run(t, s, fleet))
		if err != nil || string(got) != want {
			t.Errorf("%s gives %s, %v", text, got, err)
		}
	}
}

func run(t *testing.T, s *Statement, fleet []Facts) (rows []map[string]any) {
	c := s.Collect()
	for _, f := range fleet {
		if s.Where != nil && !s.Where.Eval(f) {
			continue
		}
		if !s.Aggregates() {
			rows = append(rows, s.Project(f))
		} else if err := c.Add(f); err != nil {
			t.Fatal(err)
		}
	}
	if s.Aggregates() {
		return c.Rows()
	}
	return rows
}

func TestStatementParts(t *testing.T) {
	s, err := ParseStatement("SELECT TOP 10 * FROM devices.modules WHERE configurations.[[my config]].status = 'Applied' AND moduleId = 'm'")
	if err != nil || s.Top != 10 || !s.Whole() || s.From != FromModules || s.Aggregates() {
		t.Fatalf("%+v, %v", s, err)
	}
	if want := "((configurations['my config'].status = 'Applied') AND (moduleId = 'm'))"; s.Where.String() != want {
		t.Errorf("where %s", s.Where)
	}
	for text, want := range map[string]string{
		"":                                                  "column 1: expected SELECT",
		"SELECT FROM devices":                               "expected tags",
		"SELECT * FROM twins":                               "expected devices",
		"SELECT TOP 0 * FROM devices":                       "a whole number above 0",
		"SELECT * FROM devices GROUP":                       "expected BY",
		"SELECT * FROM devices LIMIT 3":                     "expected WHERE",
		"SELECT * FROM devices WHERE 1":                     "compare it",
		"SELECT deviceId FROM devices.jobs":                 "selected as a whole",
		"SELECT * FROM devices GROUP BY tags.a":             "not *",
		"SELECT tags.b FROM devices GROUP BY tags.a":        "neither an aggregate",
		"SELECT tags.a, properties.reported.a FROM devices": "two columns are called a",
		"SELECT " + strings.Repeat("tags.a, ", 40) + "tags.b FROM devices": "at most 32",
	} {
		if _, err := ParseStatement(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.60q: %v, want %q", text, err, want)
		}
	}
}

// message is what a route looks at.
type message struct {
	body       any
	properties map[string]string
	tags       map[string]any
}

func (m message) Lookup(parts []string) (any, bool) {
	switch parts[0] {
	case "$body":
		return Dig(m.body, parts[1:])
	case "$twin":
		if parts[1] == "tags" {
			return Dig(m.tags, parts[2:])
		}
		return nil, false
	case "$contentType":
		return "application/json", true
	}
	v, ok := m.properties[parts[0]]
	return v, ok
}

func TestMessageConditions(t *testing.T) {
	m := message{
		map[string]any{"temperature": json.Number("41.5"), "name": "Pümp-7", "list": []any{}},
		map[string]string{"line": "7", "level": "12"}, map[string]any{"site": "north"},
	}
	for text, want := range map[string]bool{
		"$body.temperature > 40 AND line = '7'":                                                                     true,
		"$twin.tags.site = 'north' AND $contentType = 'application/json'":                                           true,
		"$twin.properties.reported.x = 1":                                                                           false,
		"AS_NUMBER(level) + 1 = 13":                                                                                 true,
		"AS_NUMBER($body.name) = 13 OR NOT IS_ARRAY($body.list)":                                                    false,
		"LENGTH($body.name) = 6 AND UPPER($body.name) = 'PÜMP-7'":                                                   true,
		"INDEX_OF($body.name, 'p') = 3 AND INDEX_OF(line, 'x') = -1":                                                true,
		"SUBSTRING($body.name, 1, 2) = 'üm' AND SUBSTRING(line, 9) = ''":                                            true,
		"CONCAT(line, '-', level) = '7-12'":                                                                         true,
		"FLOOR($body.temperature) = 41 AND CEILING($body.temperature) = 42 AND POWER(2, 3) = 8 AND SQRT(0 - 1) = 1": false,
		"ABS(-2) = 2 AND SIGN(-3) = -1 AND SQUARE(3) = 9":                                                           true,
		"deviceId = 'x'": false,
	} {
		c, err := ParseMessage(text)
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		if got := c.Eval(m); got != want {
			t.Errorf("%s: %v", text, got)
		}
		if again, err := ParseMessage(c.String()); err != nil || again.String() != c.String() {
			t.Errorf("%s prints as %s: %v", text, c, err)
		}
	}
}

// TestRenderingIsLinear holds a condition's SQL to a multiple of its text: an
// operand that is rendered twice doubles it with every level.
func TestRenderingIsLinear(t *testing.T) {
	const factor, base = 400, 2000
	check := func(fatalf func(string, ...any), text string) {
		condition, err := Parse(text)
		if err != nil {
			return
		}
		for name, render := range map[string]func() (string, []any, error){
			"SQLite":     func() (string, []any, error) { return condition.SQLite(columns) },
			"PostgreSQL": func() (string, []any, error) { return condition.PostgreSQL(columns) },
		} {
			sql, args, err := render()
			if err == nil && (len(sql) > base+factor*len(text) || len(args) > 4*len(text)) {
				fatalf("%d bytes become %d of %s with %d arguments: %.200s", len(text), len(sql), name, len(args), text)
			}
		}
	}
	for _, text := range []string{
		strings.Repeat("(", 30) + "tags.a" + strings.Repeat("+1)", 30) + " = 1",
		strings.Repeat("(", 30) + "tags.a" + strings.Repeat("= 1)", 30) + " = true",
		strings.Repeat("(", 30) + "tags.a" + strings.Repeat("%2)", 30) + " IN [" + strings.Repeat("1,", 400) + "'a']",
		"tags.a IN [" + strings.Repeat("1,'a',true,", 160) + "2]",
	} {
		check(t.Fatalf, text)
	}
	rapid.Check(t, func(t *rapid.T) { check(t.Fatalf, randomCondition(t, 12)) })
}

func FuzzParseStatement(f *testing.F) {
	f.Add("SELECT TOP 3 tags.a AS b, COUNT() FROM devices WHERE tags.a = 1 GROUP BY tags.a")
	f.Add("SELECT * FROM devices.jobs")
	f.Fuzz(func(t *testing.T, text string) {
		s, err := ParseStatement(text)
		if err != nil {
			return
		}
		c := s.Collect()
		if err := c.Add(facts); err != nil {
			t.Error(err)
		}
		c.Rows()
		s.Project(facts)
	})
}
