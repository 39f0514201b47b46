package twin_test

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/stamp/twin"
)

var now = time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)

func fresh(t testing.TB, content *link.TwinContent) twin.Twin {
	t.Helper()
	tw, err := twin.New("d", content, now)
	if err != nil {
		t.Fatal(err)
	}
	return tw
}

func text(t testing.TB, view func() ([]byte, error)) string {
	t.Helper()
	b, err := view()
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestViewsOfAFreshTwin(t *testing.T) {
	tw := fresh(t, &link.TwinContent{Tags: []byte(`{"batch":"7"}`), Desired: []byte(`{"every":10}`)})
	if got := text(t, tw.DeviceView); got != `{"desired":{"$version":1,"every":10},"reported":{"$version":1}}` {
		t.Error(got)
	}
	want := `{"deviceId":"d","etag":"MQ==","properties":{"desired":{"$metadata":{"$lastUpdated":"2026-11-20T12:00:00.0000000Z","$lastUpdatedVersion":1,` +
		`"every":{"$lastUpdated":"2026-11-20T12:00:00.0000000Z","$lastUpdatedVersion":1}},"$version":1,"every":10},` +
		`"reported":{"$metadata":{"$lastUpdated":"2026-11-20T12:00:00.0000000Z"},"$version":1}},"tags":{"batch":"7"},"version":1}`
	if got := text(t, tw.ServiceView); got != want {
		t.Error(got)
	}
}

func TestServicePatchNotifiesAndCounts(t *testing.T) {
	tw := fresh(t, &link.TwinContent{Desired: []byte(`{"a":{"b":1,"c":2}}`)})
	changed, notice, err := tw.Patch([]byte(`{"deviceId":"x","tags":{"t":1},"properties":{"desired":{"a":{"b":null,"d":3},"$version":9},"reported":{"no":1}}}`), now.Add(time.Second))
	if err != nil {
		t.Fatal(err)
	}
	if string(notice) != `{"$version":2,"a":{"b":null,"d":3}}` {
		t.Errorf("notice %s", notice)
	}
	if got := text(t, changed.DeviceView); got != `{"desired":{"$version":2,"a":{"c":2,"d":3}},"reported":{"$version":1}}` {
		t.Error(got)
	}
	if changed.ETag() == tw.ETag() || !changed.Matches(`W/"`+changed.ETag()+`"`) || changed.Matches(tw.ETag()) || !changed.Matches(`"*"`) {
		t.Error("ETags do not tell editions apart")
	}
	tagged, notice, err := changed.Patch([]byte(`{"tags":null}`), now)
	if err != nil || notice != nil || len(tagged.Tags) != 0 || tagged.Desired.Version != 2 {
		t.Errorf("%v %s %+v", err, notice, tagged)
	}
	replaced, notice, err := changed.Replace([]byte(`{"properties":{"desired":{"z":1}}}`), now)
	if err != nil || string(notice) != `{"$version":3,"a":null,"z":1}` || len(replaced.Tags) != 0 {
		t.Errorf("%v %s %+v", err, notice, replaced)
	}
	cleared, notice, err := changed.Patch([]byte(`{"properties":{"desired":null}}`), now)
	if err != nil || string(notice) != `{"$version":3,"a":null}` || len(cleared.Desired.Values) != 0 {
		t.Errorf("%v %s", err, notice)
	}
}

func TestLimits(t *testing.T) {
	deep := strings.Repeat(`{"a":`, 10) + "1" + strings.Repeat("}", 10)
	many := func(n int) string {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, `%s"k%06d":%q`, map[bool]string{true: ",", false: ""}[i > 0], i, strings.Repeat("x", 993))
		}
		return "{" + b.String() + "}"
	}
	for name, c := range map[string]struct {
		patch string
		want  problem.Kind
	}{
		"fine":               {`{"a":1,"b":[1,"x",true,null,{"c":1.5}],"c":"é","d":4503599627370496}`, ""},
		"nothing":            {``, ""},
		"deepest":            {deep, ""},
		"too deep":           {`{"a":` + deep + `}`, problem.Invalid},
		"full":               {many(32), ""},
		"too full":           {many(33), problem.TooLarge},
		"long string":        {`{"a":"` + strings.Repeat("x", 4097) + `"}`, problem.TooLarge},
		"long key":           {`{"` + strings.Repeat("x", 1025) + `":1}`, problem.Invalid},
		"dot in key":         {`{"a":{"b.c":1}}`, problem.Invalid},
		"space in key":       {`{"a b":1}`, problem.Invalid},
		"empty key":          {`{"":1}`, problem.Invalid},
		"control in key":     {"{\"a\\u0001\":1}", problem.Invalid},
		"NUL in string":      {`{"a":"x\u0000"}`, problem.Invalid},
		"integer":            {`{"a":4503599627370497}`, problem.Invalid},
		"huge integer":       {`{"a":123456789012345678901234567890}`, problem.Invalid},
		"huge float":         {`{"a":1e999}`, problem.Invalid},
		"array":              {`[1]`, problem.Invalid},
		"text":               {`hello`, problem.Invalid},
		"two":                {`{} {}`, problem.Invalid},
		"not UTF-8":          {"{\"a\":\"\xff\"}", problem.Invalid},
		"bomb":               {strings.Repeat(`{"a":`, 50000), problem.Invalid},
		"too long":           {`{"a":"` + strings.Repeat(" ", 300000) + `"}`, problem.TooLarge},
		"reserved passed by": {`{"$metadata":{"x":1},"$version":5}`, ""},
	} {
		tw := fresh(t, nil)
		changed, err := tw.PatchReported([]byte(c.patch), now)
		if (c.want == "") != (err == nil) || err != nil && !problem.Is(err, c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
		if err != nil && !reflect.DeepEqual(changed, tw) {
			t.Errorf("%s: a refused patch changed the twin", name)
		}
	}
	if _, _, err := fresh(t, nil).Patch([]byte(`{"desired":{"a":1}}`), now); problem.Of(err).Field != "desired" {
		t.Errorf("a misplaced section: %v", err)
	}
}

// reference is RFC 7396 as its text has it, in place.
func reference(target, patch any) any {
	p, ok := patch.(map[string]any)
	if !ok {
		return patch
	}
	result, ok := target.(map[string]any)
	if !ok {
		result = map[string]any{}
	}
	for key, value := range p {
		if value == nil {
			delete(result, key)
		} else {
			result[key] = reference(result[key], value)
		}
	}
	return result
}

func randomObject(t *rapid.T, depth int) map[string]any {
	o := map[string]any{}
	for _, key := range rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"a", "b", "c", "d"}), 0, 3, func(s string) string { return s }).Draw(t, "keys") {
		switch choice := rapid.IntRange(0, 4).Draw(t, "kind"); {
		case choice == 0:
			o[key] = nil
		case choice == 1 && depth > 0:
			o[key] = randomObject(t, depth-1)
		default:
			o[key] = float64(choice)
		}
	}
	return o
}

func TestMergeFollowsTheStandard(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		tw, err := twin.New("d", nil, now)
		if err != nil {
			t.Fatal(err)
		}
		var want any = map[string]any{}
		for range rapid.IntRange(1, 5).Draw(t, "patches") {
			patch, err := json.Marshal(randomObject(t, 3))
			if err != nil {
				t.Fatal(err)
			}
			next, err := tw.PatchReported(patch, now)
			if err != nil {
				t.Fatal(err)
			}
			if next.Reported.Version != tw.Reported.Version+1 || next.Version != tw.Version+1 {
				t.Fatalf("versions did not grow by one")
			}
			var decoded any
			if err := json.Unmarshal(patch, &decoded); err != nil {
				t.Fatal(err)
			}
			want, tw = reference(want, decoded), next
		}
		view, err := json.Marshal(tw.Reported.Values)
		if err != nil {
			t.Fatal(err)
		}
		wanted, err := json.Marshal(want)
		if err != nil {
			t.Fatal(err)
		}
		if string(view) != string(wanted) {
			t.Fatalf("got %s, want %s", view, wanted)
		}
		mirror(t, tw.Reported.Values, tw.Reported.Meta)
	})
}

// mirror checks that metadata has the shape of the values.
func mirror(t *rapid.T, values, meta map[string]any) {
	for key := range meta {
		if _, ok := values[key]; !ok && key[0] != '$' {
			t.Fatalf("metadata of %q outlived it", key)
		}
	}
	for key, value := range values {
		inner, ok := meta[key].(map[string]any)
		if !ok || inner["$lastUpdated"] == nil {
			t.Fatalf("%q has no metadata", key)
		}
		if object, ok := value.(map[string]any); ok {
			mirror(t, object, inner)
		}
	}
}

func FuzzPatch(f *testing.F) {
	f.Add([]byte(`{"tags":{"a":1},"properties":{"desired":{"b":null}}}`))
	f.Fuzz(func(t *testing.T, patch []byte) {
		tw, err := twin.New("d", &link.TwinContent{Desired: []byte(`{"b":{"c":1}}`)}, now)
		if err != nil {
			t.Fatal(err)
		}
		for _, change := range []twin.Change{twin.Twin.Patch, twin.Twin.Replace} {
			if changed, _, err := change(tw, patch, now); err == nil {
				if _, err := changed.ServiceView(); err != nil {
					t.Error(err)
				}
			}
		}
		if changed, err := tw.PatchReported(patch, now); err == nil {
			if _, err := changed.DeviceView(); err != nil {
				t.Error(err)
			}
		}
	})
}

func BenchmarkPatchReported(b *testing.B) {
	var doc strings.Builder
	for i := range 40 {
		fmt.Fprintf(&doc, `%s"key%02d":{"value":%d}`, map[bool]string{true: ",", false: ""}[i > 0], i, i)
	}
	tw := fresh(b, &link.TwinContent{Reported: []byte("{" + doc.String() + "}")})
	for b.Loop() {
		if _, err := tw.PatchReported([]byte(`{"key07":{"value":8}}`), now); err != nil {
			b.Fatal(err)
		}
	}
}
