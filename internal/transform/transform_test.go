package transform_test

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"

	"github.com/slipway/slipway/internal/transform"
)

func document(t testing.TB, text string) map[string]any {
	t.Helper()
	decoder := json.NewDecoder(strings.NewReader(text))
	decoder.UseNumber()
	var d map[string]any
	if err := decoder.Decode(&d); err != nil {
		t.Fatal(err)
	}
	return d
}

func TestPrograms(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		`.tags.site = .tags.location.site | del(.tags.location)`:           `{"tags":{"site":"hall-1"},"n":9007199254740993}`,
		`.tags |= with_entries(.key |= ascii_upcase)`:                      `{"tags":{"LOCATION":{"site":"hall-1"}},"n":9007199254740993}`,
		`if .tags.location then .ok = true else . end`:                     `{"tags":{"location":{"site":"hall-1"}},"n":9007199254740993,"ok":true}`,
		`walk(if type == "string" then ascii_upcase else . end)`:           `{"tags":{"location":{"site":"HALL-1"}},"n":9007199254740993}`,
		`.tags.location.site |= sub("hall-(?<n>.*)"; "H\(.n)") | .n = 1.5`: `{"tags":{"location":{"site":"H1"}},"n":1.5}`,
	} {
		p, err := transform.Parse(text)
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		got, err := p.Apply(t.Context(), document(t, `{"tags":{"location":{"site":"hall-1"}},"n":9007199254740993}`))
		if err != nil || !reflect.DeepEqual(got, document(t, want)) {
			t.Errorf("%s: %v, %v", text, got, err)
		}
	}
}

// TestWhatProgramsMayNot has programs that would not end, reach something, or
// make no document.
func TestWhatProgramsMayNot(t *testing.T) {
	t.Parallel()
	for _, text := range []string{
		`range(1e12)`, `def f: f; f`, `import "a" as a; .`, `env.PATH`, `$ENV.PATH`, `input`, `[repeat(1)]`, `until(false; .)`, `while(true; .)`, `[recurse(.)]`, `now`, `limit(3; .)`, `debug`, `input_filename`, `halt`, `"\(env)"`,
		`.a as [$x] | [$x, range(3)]`, `{a: env}`, `reduce range(9) as $i (0; .)`, `try env catch .`, `.[env]`, `getpath(["a", env])`, `{(env.A): 1}`, ``, `.a |`,
	} {
		if _, err := transform.Parse(text); err == nil {
			t.Errorf("%s was taken", text)
		}
	}
	for text, says := range map[string]string{
		`.a[]`: "nothing", `., .`: "several", `1`: "not an object", `error`: "failed", `.a = ("x" * 1000000)`: "bytes", `.a.b.c`: "",
	} {
		p, err := transform.Parse(text)
		if err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		if got, err := p.Apply(t.Context(), map[string]any{"a": []any{}}); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v, %v", text, got, err)
		}
	}
}

func TestSchemas(t *testing.T) {
	t.Parallel()
	s, err := transform.ParseSchema([]byte(`{"properties":{"tags":{"required":["site"],"properties":{"floor":{"type":"integer"}}}}}`))
	if err != nil {
		t.Fatal(err)
	}
	for text, want := range map[string]string{
		`{"tags":{"site":"a","floor":3}}`: "", `{"tags":{"floor":3}}`: "tags breaks required", `{"tags":{"site":"a","floor":"3"}}`: "tags.floor breaks type",
	} {
		if got := s.Breach(document(t, text)); got != want {
			t.Errorf("%s: %q", text, got)
		}
	}
	for _, text := range []string{`{"$ref":"file:///etc/passwd"}`, `{"$ref":"https://example.com/x"}`, `{"type":"nothing"}`, `{`} {
		if _, err := transform.ParseSchema([]byte(text)); err == nil {
			t.Errorf("%s was taken", text)
		}
	}
}

// FuzzPrograms reads any program; one that is taken ends, with a document or a
// reason.
func FuzzPrograms(f *testing.F) {
	f.Add(`.tags.a = 1 | del(.b)`, `{"tags":{}}`)
	f.Add(`with_entries(select(.key | test("^a")))`, `{"a":1,"b":[1,2]}`)
	f.Fuzz(func(t *testing.T, program, text string) {
		p, err := transform.Parse(program)
		var from map[string]any
		if err != nil || len(text) > 10_000 || json.Unmarshal([]byte(text), &from) != nil || from == nil {
			return
		}
		if got, err := p.Apply(t.Context(), from); err == nil {
			if _, err := json.Marshal(got); err != nil {
				t.Fatal(err)
			}
		}
	})
}
