package mask_test

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/slipway/slipway/internal/mask"
)

func masker(t interface{ Fatal(...any) }, p mask.Policy) *mask.Masker {
	m, err := mask.New(p, []byte("key"))
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func document(t interface{ Fatal(...any) }, text string) map[string]any {
	decoder := json.NewDecoder(strings.NewReader(text))
	decoder.UseNumber()
	var d map[string]any
	if err := decoder.Decode(&d); err != nil {
		t.Fatal(err)
	}
	return d
}

func TestMasking(t *testing.T) {
	m := masker(t, mask.Policy{
		Classes: map[string]string{"place": mask.Generalise},
		Fields: []mask.Rule{
			{Field: "tags.owner", Class: "personal"}, {Field: "tags.mail", Mask: mask.Fake, Format: "email"}, {Field: "tags.pin", Class: "secret"},
			{Field: "tags.lat", Class: "place", Step: 0.5}, {Field: "tags.town", Class: "place"}, {Field: "tags.since", Class: "place"}, {Field: "tags.users.*", Class: "personal", Keys: true},
			{Field: "tags.n", Class: "personal"}, {Field: "tags.plan.**", Class: "technical"},
		},
	})
	got := m.Document([]string{"tags"}, document(t, `{"owner":["Ada Lovelace","Ada Lovelace"],"mail":"ada@home.example","pin":{"a":"0000 1111"},"lat":48.371,"town":"Hamburg","since":"2024-05-17T10:00:00Z",
		"users":{"Bob the builder":"Bobs own"},"n":7,"plan":{"a":{"b":true}},"other":"what is this"}`))
	owners := got["owner"].([]any)
	if owners[0] != owners[1] || owners[0] == "Ada Lovelace" || !strings.HasSuffix(got["mail"].(string), "@example.com") || got["pin"] != nil || got["lat"] != json.Number("48.5") || got["town"] != "H" ||
		got["since"] != "2024-05-01T00:00:00Z" || got["n"] == json.Number("7") || got["other"] != nil || got["plan"].(map[string]any)["a"].(map[string]any)["b"] != true {
		t.Errorf("%v", got)
	}
	for key := range got["users"].(map[string]any) {
		if key == "Bob the builder" {
			t.Error("a name that is personal stands in the copy")
		}
	}
	if unknown := m.Seen().Unknown(); len(unknown) != 1 || unknown["tags.other"] != 1 {
		t.Errorf("%v have no rule", unknown)
	}
	for _, original := range []string{"Ada Lovelace", "0000 1111", "what is this", "Bob the builder"} {
		if !m.Seen().Has("so it is: "+original) && !m.Seen().Has(original) {
			t.Errorf("%q is not looked for", original)
		}
	}
}

func TestPolicies(t *testing.T) {
	for says, p := range map[string]mask.Policy{
		"there is no class":    {Fields: []mask.Rule{{Field: "tags.a", Class: "mine"}}},
		"formats":              {Fields: []mask.Rule{{Field: "tags.a", Mask: mask.Fake}}},
		"** stands at the end": {Fields: []mask.Rule{{Field: "tags.**.a", Class: "secret"}}},
		"a field reads":        {Fields: []mask.Rule{{Field: "tags..a", Class: "secret"}}},
		"a field without a":    {Unknown: "keep"},
		"a canary has":         {Canaries: []string{"short"}},
		"is done with a class": {Classes: map[string]string{"a": "burn"}},
	} {
		if err := p.Check(); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%q: %v", says, err)
		}
	}
}

// TestCopiesHaveNoneOfIt masks documents of any shape: none of what was masked
// is in what came out, and equal values have become equal ones.
func TestCopiesHaveNoneOfIt(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		value := rapid.StringMatching(`[a-zA-Z0-9 @._-]{8,30}`)
		people := rapid.SliceOfN(value, 1, 6).Draw(t, "people")
		m := masker(t, mask.Policy{Fields: []mask.Rule{{Field: "tags.personal.**", Class: "personal"}, {Field: "tags.ids.*", Class: "personal"}}, Unknown: rapid.SampledFrom([]string{"", mask.Drop, mask.Hash}).Draw(t, "unknown")})
		seen, numbers := map[string]string{}, map[int64]int64{}
		for i := range rapid.IntRange(1, 20).Draw(t, "documents") {
			who := rapid.SampledFrom(people).Draw(t, fmt.Sprint("who", i))
			id := rapid.Int64Range(0, 1<<40).Draw(t, fmt.Sprint("id", i))
			got := m.Document([]string{"tags"}, map[string]any{
				"personal": map[string]any{"name": who, "deep": []any{map[string]any{"name": who}}}, "ids": map[string]any{"n": json.Number(fmt.Sprint(id))}, "loose": who,
			})
			text, err := json.Marshal(got)
			if err != nil {
				t.Fatal(err)
			}
			if strings.Contains(string(text), who) {
				t.Fatalf("%s has %q in it", text, who)
			}
			name := got["personal"].(map[string]any)["name"].(string)
			if before, met := seen[who]; met && before != name {
				t.Fatalf("%q is %s and %s", who, before, name)
			}
			seen[who] = name
			n, err := got["ids"].(map[string]any)["n"].(json.Number).Int64()
			if before, met := numbers[id]; err != nil || met && before != n {
				t.Fatalf("%d is %d and %d, %v", id, before, n, err)
			}
			numbers[id] = n
		}
		if all := slices.Compact(slices.Sorted(maps.Values(numbers))); len(all) != len(numbers) {
			t.Fatalf("%d numbers became %d", len(numbers), len(all))
		}
	})
}

// TestScanner finds a value wherever it stands, in each way in which it may be
// written.
func TestScanner(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		value := rapid.StringMatching(`[a-zA-Z0-9äöü@._-]{12,30}`).Draw(t, "value")
		before := rapid.SliceOfN(rapid.Byte(), 0, 40).Draw(t, "before")
		behind := rapid.SliceOfN(rapid.Byte(), 0, 40).Draw(t, "behind")
		all := slices.Concat(before, []byte(value), behind)
		var escaped strings.Builder
		for _, r := range value {
			fmt.Fprintf(&escaped, `\u%04x`, r)
		}
		written := map[string][]byte{
			"plain": all, "base64": []byte(base64.StdEncoding.EncodeToString(all)), "base64 for URLs": []byte(base64.RawURLEncoding.EncodeToString(all)), "hex": []byte(hex.EncodeToString(all)),
			"HEX": []byte(strings.ToUpper(hex.EncodeToString(all))), "upper": []byte(strings.ToUpper(value)), "URL": []byte(url.QueryEscape(value)), "escapes": slices.Concat(before, []byte(escaped.String()), behind),
		}
		s := mask.NewScanner([]string{"another value", value})
		for how, text := range written {
			padded := slices.Concat(bytes.Repeat([]byte("x"), rapid.SampledFrom([]int{0, 3, 1<<20 - 9, 1 << 20}).Draw(t, "offset")), text)
			read, found, err := s.Scan(bytes.NewReader(padded))
			if err != nil || read != int64(len(padded)) || !slices.ContainsFunc(found, func(f mask.Found) bool { return f.Value == 1 }) {
				t.Fatalf("%s: %v in %d of %d bytes, %v", how, found, read, len(padded), err)
			}
		}
		if _, found, err := s.Scan(strings.NewReader(strings.Repeat("nothing of that kind ", 50))); err != nil || len(found) > 0 {
			t.Fatalf("%v, %v", found, err)
		}
	})
}

// FuzzMasking masks what it is given: nothing of a personal field is in what
// comes out, and nothing breaks.
func FuzzMasking(f *testing.F) {
	f.Add(`{"a":{"b":["x1234567",null,1.5,true]}}`, "tags.a.**", "hash", "")
	f.Add(`{"a":"someone@home"}`, "tags.*", "fake", "email")
	f.Add(`{"a":-9223372036854775808,"b":1e999}`, "tags.**", "hash", "")
	f.Add(`{"a":"x"}`, "orders:a.b", "generalise", "")
	f.Fuzz(func(t *testing.T, text, field, done, format string) {
		p := mask.Policy{Fields: []mask.Rule{{Field: field, Mask: done, Format: format}}, Unknown: mask.Drop}
		m, err := mask.New(p, []byte("key"))
		var from map[string]any
		decoder := json.NewDecoder(strings.NewReader(text))
		decoder.UseNumber()
		if err != nil || decoder.Decode(&from) != nil {
			return
		}
		got := m.Document([]string{"tags"}, from)
		encoded, err := json.Marshal(got)
		if err != nil {
			t.Fatal(err)
		}
		if done != mask.Keep && done != mask.Generalise && bytes.Contains(encoded, []byte("x1234567")) && !strings.Contains(field+format, "x1234567") && !strings.Contains(fmt.Sprint(slices.Collect(maps.Keys(from))), "x1234567") {
			if !keyed(from) {
				t.Fatalf("%s has it", encoded)
			}
		}
		m.Seen().Has(text)
		if _, _, err := mask.NewScanner([]string{text, field}).Scan(strings.NewReader(string(encoded))); err != nil {
			t.Fatal(err)
		}
	})
}

// keyed reports whether a name somewhere has what is looked for in it.
func keyed(value any) bool {
	switch value := value.(type) {
	case map[string]any:
		for key, one := range value {
			if strings.Contains(key, "x1234567") || keyed(one) {
				return true
			}
		}
	case []any:
		return slices.ContainsFunc(value, keyed)
	}
	return false
}
