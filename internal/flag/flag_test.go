package flag_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/twmb/murmur3"
	"pgregory.net/rapid"

	"github.com/slipway/slipway/internal/flag"
	"github.com/slipway/slipway/internal/problem"
)

var noon = time.Date(2026, 12, 1, 12, 0, 0, 0, time.UTC)

// setOf compiles a document whose flag f has the variants on and off, beside
// what the rest of it says.
func setOf(t testing.TB, rest string) *flag.Set {
	t.Helper()
	d, err := flag.Parse(json.RawMessage(`{"flags":{"f":{"variants":{"on":true,"off":false},` + rest + `}}}`))
	if err != nil {
		t.Fatal(err)
	}
	set, err := flag.Compile(d, nil)
	if err != nil {
		t.Fatal(err)
	}
	return set
}

// What flagd makes of each case; a disabled flag also tells its default, for
// clients that know no answer without a value.
func TestEvaluation(t *testing.T) {
	for name, c := range map[string]struct{ flag, want string }{
		"no targeting":                {`"state":"ENABLED","defaultVariant":"on"`, "on STATIC "},
		"empty targeting":             {`"state":"ENABLED","defaultVariant":"on","targeting":{}`, "on STATIC "},
		"targeting of null":           {`"state":"ENABLED","defaultVariant":"on","targeting":{"if":[false,"off"]}`, "on DEFAULT "},
		"unknown variant":             {`"state":"ENABLED","defaultVariant":"on","targeting":{"cat":["no","pe"]}`, "  GENERAL"},
		"a number":                    {`"state":"ENABLED","defaultVariant":"on","targeting":{"+":[1,2]}`, "  GENERAL"},
		"a rule chooses":              {`"state":"ENABLED","defaultVariant":"on","targeting":{"if":[{"==":[{"var":"tier"},"gold"]},"off","on"]}`, "off TARGETING_MATCH "},
		"true has no variant":         {`"state":"ENABLED","defaultVariant":"on","targeting":{"==":[1,1]}`, "  GENERAL"},
		"disabled":                    {`"state":"DISABLED","defaultVariant":"on"`, "on DISABLED "},
		"disabled without default":    {`"state":"DISABLED"`, " DISABLED "},
		"no default":                  {`"state":"ENABLED"`, " DEFAULT "},
		"nothing chosen, no default":  {`"state":"ENABLED","targeting":{"if":[false,"off"]}`, " DEFAULT "},
		"fractional without a key":    {`"state":"ENABLED","defaultVariant":"on","targeting":{"fractional":[["on",50],["off",50]]}`, "on DEFAULT "},
		"null is false in and":        {`"state":"ENABLED","defaultVariant":"on","targeting":{"if":[{"and":[true,{"var":"absent"}]},"off","on"]}`, "on TARGETING_MATCH "},
		"an invalid version is false": {`"state":"ENABLED","defaultVariant":"on","targeting":{"if":[{"and":[{"sem_ver":["x.y",">","1.0.0"]},true]},"off","on"]}`, "on TARGETING_MATCH "},
		"types that do not fit":       {`"state":"ENABLED","defaultVariant":"on","targeting":{"substr":[{"var":"list"},1]}`, "  GENERAL"},
		"the flag's own key":          {`"state":"ENABLED","defaultVariant":"on","targeting":{"if":[{"==":[{"var":"$flagd.flagKey"},"f"]},"off"]}`, "off TARGETING_MATCH "},
		"the time":                    {`"state":"ENABLED","defaultVariant":"on","targeting":{"if":[{">=":[{"var":"$flagd.timestamp"},1796126400]},"off"]}`, "off TARGETING_MATCH "},
	} {
		t.Run(name, func(t *testing.T) {
			r := setOf(t, c.flag).Evaluate("f", map[string]any{"tier": "gold", "list": []any{"a"}}, noon)
			if got := r.Variant + " " + r.Reason + " " + r.ErrorCode; got != c.want {
				t.Errorf("%q, not %q (%+v)", got, c.want, r)
			}
			if r.ErrorCode == "" && (r.Variant == "") != (len(r.Value) == 0) {
				t.Errorf("a value without a variant, or the reverse: %+v", r)
			}
		})
	}
	if r := setOf(t, `"state":"ENABLED"`).Evaluate("g", nil, noon); r.ErrorCode != flag.CodeNotFound {
		t.Errorf("%+v", r)
	}
}

func TestTrueAndFalseAreVariants(t *testing.T) {
	d, err := flag.Parse(json.RawMessage(`{"flags":{"b":{"state":"ENABLED","variants":{"true":"yes","false":"no"},"targeting":{"==":[{"var":"a"},1]}}}}`))
	if err != nil {
		t.Fatal(err)
	}
	set, err := flag.Compile(d, nil)
	if err != nil {
		t.Fatal(err)
	}
	for a, want := range map[float64]string{1: `"yes"`, 2: `"no"`} {
		if r := set.Evaluate("b", map[string]any{"a": a}, noon); string(r.Value) != want {
			t.Errorf("%+v", r)
		}
	}
}

// The hashes and places that flagd gives.
func TestFractionalIsFlagds(t *testing.T) {
	for text, want := range map[string][2]uint64{
		"headerColorfoo@bar.com": {4240531476, 98}, "headerColorfoo@test.com": {838143943, 19}, "flagdev-0001": {3148689040, 73}, "flagdev-0002": {320324294, 7}, "": {0, 0},
	} {
		if h := uint64(murmur3.StringSum32(text)); h != want[0] || h*100>>32 != want[1] {
			t.Errorf("%q: %d, %d", text, h, h*100>>32)
		}
	}
	d, err := flag.Parse(json.RawMessage(`{"flags":{"headerColor":{"state":"ENABLED","variants":{"red":"r","blue":"b","green":"g"},"defaultVariant":"red",
		"targeting":{"fractional":[["red",50],["blue",20],["green",30]]}},
		"seeded":{"state":"ENABLED","variants":{"red":"r","green":"g"},"targeting":{"fractional":[{"cat":["headerColor",{"var":"targetingKey"}]},["red",{"if":[true,70]}],["green",{"-":[0,5]}],["green",30]]}},
		"nobody":{"state":"ENABLED","variants":{"red":"r"},"defaultVariant":"red","targeting":{"fractional":[["red",0]]}}}}`))
	if err != nil {
		t.Fatal(err)
	}
	set, err := flag.Compile(d, nil)
	if err != nil {
		t.Fatal(err)
	}
	for who, want := range map[string]string{"foo@bar.com": "green green DEFAULT", "foo@test.com": "red red DEFAULT"} {
		context := map[string]any{"targetingKey": who}
		got := set.Evaluate("headerColor", context, noon).Variant + " " + set.Evaluate("seeded", context, noon).Variant + " " + set.Evaluate("nobody", context, noon).Reason
		if got != want {
			t.Errorf("%s: %s", who, got)
		}
		if _, changed := context["$flagd"]; changed {
			t.Error("the caller's context was changed")
		}
	}
}

// A first variant that grows loses nobody.
func TestAGrowingShareKeepsItsMembers(t *testing.T) {
	split := func(t *rapid.T, on int) *flag.Set {
		d, err := flag.Parse(json.RawMessage(fmt.Sprintf(`{"flags":{"f":{"state":"ENABLED","variants":{"on":1,"off":0},"targeting":{"fractional":[["on",%d],["off",%d]]}}}}`, on, 1000-on)))
		if err != nil {
			t.Fatal(err)
		}
		set, err := flag.Compile(d, nil)
		if err != nil {
			t.Fatal(err)
		}
		return set
	}
	rapid.Check(t, func(t *rapid.T) {
		small := rapid.IntRange(0, 1000).Draw(t, "small")
		large := rapid.IntRange(small, 1000).Draw(t, "large")
		who := map[string]any{"targetingKey": rapid.StringN(1, 20, 40).Draw(t, "who")}
		if split(t, small).Evaluate("f", who, noon).Variant == "on" && split(t, large).Evaluate("f", who, noon).Variant != "on" {
			t.Fatal("somebody was thrown out")
		}
	})
}

func TestVersions(t *testing.T) {
	for text, want := range map[string]bool{
		`["1.2.3","=","v1.2.3"]`: true, `["1.2","=","1.2.0"]`: true, `["1.2.3+build","=","1.2.3"]`: true, `["1.2.3","<","1.10.0"]`: true,
		`["1.2.3","^","1.9.0"]`: true, `["2.0.0","^","1.9.0"]`: false, `["1.2.9","~","1.2.0"]`: true, `["1.3.0","~","1.2.0"]`: false,
		`["1.0.0-rc.1","<","1.0.0"]`: true, `["1.0.0",">=","1.0.0"]`: true, `["1.0.0","!=","1.0.1"]`: true, `["a","=","a"]`: false, `["1.0.0","<>","1.0.0"]`: false,
	} {
		r := setOf(t, `"state":"ENABLED","targeting":{"if":[{"sem_ver":`+text+`},"on","off"]}`).Evaluate("f", nil, noon)
		if (r.Variant == "on") != want {
			t.Errorf("%s: %+v", text, r)
		}
	}
}

func TestOverlays(t *testing.T) {
	d, err := flag.Parse(json.RawMessage(`{"flags":{"f":{"state":"ENABLED","variants":{"on":true,"off":false},"defaultVariant":"on","targeting":{"if":[true,"on"]},"metadata":{"owner":"ann","tags":["x"]}}},"metadata":{"version":"7"}}`))
	if err != nil {
		t.Fatal(err)
	}
	off := "off"
	for name, c := range map[string]struct {
		overlay flag.Overlay
		want    string
	}{
		"nothing":    {flag.Overlay{}, "on TARGETING_MATCH"},
		"disabled":   {flag.Overlay{State: flag.Disabled}, "on DISABLED"},
		"other rule": {flag.Overlay{Targeting: json.RawMessage(`{"if":[true,"off"]}`)}, "off TARGETING_MATCH"},
		"no rule":    {flag.Overlay{Targeting: json.RawMessage(`{}`), DefaultVariant: &off}, "off STATIC"},
		"killed":     {flag.Overlay{State: flag.Disabled, Targeting: json.RawMessage(`{"if":[true,"on"]}`), Killed: "off"}, "off STATIC"},
	} {
		set, err := flag.Compile(d, map[string]flag.Overlay{"f": c.overlay})
		if err != nil {
			t.Fatal(err)
		}
		r := set.Evaluate("f", nil, noon)
		if got := r.Variant + " " + r.Reason; got != c.want {
			t.Errorf("%s: %s", name, got)
		}
		if r.Metadata["owner"] != "ann" || r.Metadata["version"] != "7" || r.Metadata["tags"] != nil || (r.Metadata["killed"] == true) != (name == "killed") {
			t.Errorf("%s: %v", name, r.Metadata)
		}
	}
}

func TestWhatCannotBeEvaluatedIsRefused(t *testing.T) {
	deep := strings.Repeat(`{"!":`, 40) + "1" + strings.Repeat("}", 40)
	for name, c := range map[string]struct{ text, field string }{
		"a typing error":      {`{"flags":{"f":{"state":"ENABLED","variants":{"on":1},"targeting":{"iff":[1]}}}}`, "flags.f.targeting.iff"},
		"too deep":            {`{"flags":{"f":{"state":"ENABLED","variants":{"on":1},"targeting":` + deep + `}}}`, "flags.f.targeting"},
		"lists in lists":      {`{"flags":{"f":{"state":"ENABLED","variants":{"on":1},"targeting":{"map":[1,{"map":[1,{"map":[1,2]}]}]}}}}`, "flags.f.targeting"},
		"doubling":            {`{"flags":{"f":{"state":"ENABLED","variants":{"on":1},"targeting":{"reduce":[{"var":"l"},{"merge":[{"var":"accumulator"},{"var":"accumulator"}]},[1]]}}}}`, "flags.f.targeting.reduce"},
		"no such evaluator":   {`{"flags":{"f":{"state":"ENABLED","variants":{"on":1},"targeting":{"$ref":"x"}}}}`, "flags.f.targeting.$ref"},
		"nested evaluators":   {`{"flags":{"f":{"state":"ENABLED","variants":{"on":1},"targeting":{"$ref":"x"}}},"$evaluators":{"x":{"$ref":"x"}}}`, "flags.f.targeting"},
		"variants of a kind":  {`{"flags":{"f":{"state":"ENABLED","variants":{"on":1,"off":"x"}}}}`, "flags.f"},
		"no such state":       {`{"flags":{"f":{"state":"on","variants":{"on":1}}}}`, "flags.f"},
		"a key with a slash":  {`{"flags":{"a/b":{"state":"ENABLED","variants":{"on":1}}}}`, "flags.a/b"},
		"no such default":     {`{"flags":{"f":{"state":"ENABLED","variants":{"on":1},"defaultVariant":"x"}}}`, "flags.f"},
		"an unknown property": {`{"flags":{},"flagz":1}`, ""},
	} {
		_, err := flag.Parse(json.RawMessage(c.text))
		if !problem.Is(err, problem.Invalid) || !strings.HasPrefix(problem.Of(err).Field, c.field) {
			t.Errorf("%s: %v at %q", name, err, problem.Of(err).Field)
		}
	}
}

// Whatever a rule and a context are, evaluating them ends, without a panic.
func FuzzEvaluate(f *testing.F) {
	for _, rule := range []string{
		`{"fractional":[["on",1]]}`, `{"in":[{"var":"a"},["x"]]}`, `{"reduce":[{"var":"l"},{"+":[{"var":"current"},{"var":"accumulator"}]},0]}`, `{"sem_ver":[1,"=",2]}`,
		`{"if":[]}`, `{"var":[]}`, `{"and":[null]}`, `{"fractional":[null,[]]}`, `{"substr":["x",9,9]}`, `{"%":[1,0]}`, `{"missing_some":[1]}`,
	} {
		f.Add(rule, `{"targetingKey":"k","l":[1,2],"a":"x"}`)
	}
	f.Fuzz(func(t *testing.T, rule, context string) {
		d, err := flag.Parse(json.RawMessage(`{"flags":{"f":{"state":"ENABLED","variants":{"on":true,"off":false},"targeting":` + rule + `}}}`))
		if err != nil {
			return
		}
		set, err := flag.Compile(d, nil)
		if err != nil {
			t.Fatalf("it was checked, and does not compile: %v", err)
		}
		var data map[string]any
		if json.Unmarshal([]byte(context), &data) != nil {
			return
		}
		r := set.Evaluate("f", data, noon)
		if (r.ErrorCode == "") == (r.Reason == "") {
			t.Fatalf("%+v", r)
		}
	})
}
