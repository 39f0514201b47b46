package release_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/slipway/slipway/internal/control/release"
	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/resource"
)

func specOf(t *testing.T, text string) link.ReleaseSpec {
	t.Helper()
	var s link.ReleaseSpec
	if err := json.Unmarshal([]byte(text), &s); err != nil {
		t.Fatal(err)
	}
	checked, err := resource.CheckRelease(s)
	if err != nil {
		t.Fatal(err)
	}
	return checked
}

const (
	digestA = `"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"`
	digestB = `"bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"`
)

func TestDiffSpeaksInSentences(t *testing.T) {
	before := release.Side{Spec: specOf(t, `{"software":[
		{"name":"firmware","version":"1.3","hardware":["b2","b1"],"artifacts":[{"file":"f","sha256":`+digestA+`}]},
		{"name":"firmware","version":"1.3","hardware":["c1"],"artifacts":[{"file":"g","sha256":`+digestA+`}]},
		{"name":"modem","version":"7"},{"name":"old","version":"1"}],
		"configuration":{"reportEvery":10,"led":{"on":true,"color":"red"},"gone":1},
		"routes":[{"name":"alerts","spec":{"endpoint":{"webhook":{"url":"https://a.example/x"}}}},{"name":"raw","spec":{"endpoint":{"archive":{"directory":"raw"}}}}],
		"flags":{"flags":{"fast":{"state":"ENABLED","variants":{"on":true,"off":false},"defaultVariant":"off"},"same":{"state":"ENABLED","variants":{"a":1}},"out":{"state":"DISABLED","variants":{"a":1}}}},
		"migrations":[{"name":"one","kind":"sql","up":"CREATE TABLE x (a int)"}]}`),
		Components: []release.Component{{Name: "openssl", Version: "3.0.1"}, {Name: "zlib", Version: "1"}, {Name: "dup", Version: "1"}, {Name: "dup", Version: "2"}}}
	after := release.Side{Spec: specOf(t, `{"type":"security","rollback":"forward-only","software":[
		{"name":"firmware","version":"1.4","hardware":["b1","b2"],"artifacts":[{"file":"f","sha256":`+digestB+`}]},
		{"name":"firmware","version":"1.3","hardware":["c1"],"artifacts":[{"file":"g","sha256":`+digestB+`}]},
		{"name":"modem","version":"7"},{"name":"new","version":"0.1"}],
		"configuration":{"reportEvery":30,"led":{"on":true,"color":"red"},"here":"x"},
		"routes":[{"name":"alerts","spec":{"endpoint":{"webhook":{"url":"https://b.example/x"}}}},{"name":"more","spec":{"endpoint":{"archive":{"directory":"more"}}}}],
		"flags":{"flags":{"fast":{"state":"DISABLED","variants":{"on":true,"off":false},"defaultVariant":"on"},"same":{"state":"ENABLED","variants":{"a":1.0}},"in":{"state":"ENABLED","variants":{"a":1}}}},
		"migrations":[{"name":"one","kind":"sql","up":"CREATE TABLE x (a int)"},{"name":"two","kind":"twin","up":".desired.y = 1"}]}`),
		Components: []release.Component{{Name: "openssl", Version: "3.0.2"}, {Name: "musl", Version: "1.2"}, {Name: "dup", Version: "1"}}}
	var got []string
	for _, c := range release.Diff(before, after) {
		got = append(got, c.Text)
	}
	want := []string{
		"it is a security release, not a feature release",
		"the way back from it is forward-only, not safe",
		"software firmware from 1.3 to 1.4 for b1, b2",
		"software firmware keeps its version 1.3 but is not the same for c1",
		"software new 0.1 added",
		"software old 1 removed",
		"configuration gone no longer set (it was 1)",
		`configuration here set to "x"`,
		"configuration reportEvery changed from 10 to 30",
		"route alerts changed, to https://b.example/x",
		"route more added, to directory more",
		"route raw removed, to directory raw",
		"flag fast: is DISABLED, not ENABLED, default changed from off to on",
		"flag in added",
		"flag out removed",
		"migration two added",
		"component dup 2 removed",
		"component musl 1.2 added",
		"component openssl from 3.0.1 to 3.0.2",
		"component zlib 1 removed",
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if same := release.Diff(after, after); len(same) != 0 {
		t.Errorf("with itself: %+v", same)
	}
}

// The other way round, what was added was removed, and as much of it.
func TestDiffIsSymmetric(t *testing.T) {
	side := rapid.Custom(func(t *rapid.T) release.Side {
		s := release.Side{Spec: link.ReleaseSpec{Type: "feature", Rollback: "safe", Configuration: map[string]any{}}}
		for _, name := range []string{"a", "b", "c"} {
			if rapid.Bool().Draw(t, "has "+name) {
				s.Spec.Software = append(s.Spec.Software, link.Software{Name: name, Version: rapid.SampledFrom([]string{"1", "2"}).Draw(t, "version"), Hardware: rapid.SampledFrom([][]string{nil, {"x"}, {"x", "y"}}).Draw(t, "hardware")})
			}
			if rapid.Bool().Draw(t, "sets "+name) {
				s.Spec.Configuration[name] = map[string]any{"v": rapid.IntRange(0, 2).Draw(t, "value")}
			}
			if rapid.Bool().Draw(t, "lists "+name) {
				s.Components = append(s.Components, release.Component{Name: name, Version: rapid.SampledFrom([]string{"1", "2", ""}).Draw(t, "component")})
			}
		}
		return s
	})
	rapid.Check(t, func(t *rapid.T) {
		a, b := side.Draw(t, "a"), side.Draw(t, "b")
		there, back := map[string]int{}, map[string]int{}
		for _, c := range release.Diff(a, b) {
			there[c.Part+c.Name+c.Action+c.Before+">"+c.After]++
		}
		turned := map[string]string{release.Added: release.Removed, release.Removed: release.Added, release.Changed: release.Changed}
		for _, c := range release.Diff(b, a) {
			back[c.Part+c.Name+turned[c.Action]+c.After+">"+c.Before]++
		}
		if fmt.Sprint(there) != fmt.Sprint(back) {
			t.Fatalf("there %v\nback %v", there, back)
		}
		if len(release.Diff(a, a)) != 0 {
			t.Fatal("differs from itself")
		}
	})
}

func TestEqualContentHasAnEqualDigest(t *testing.T) {
	one := specOf(t, `{"software":[{"name":"f","version":"1","hardware":["b","a"]}],"configuration":{"x":1,"y":{"b":2,"a":"<&>"}}}`)
	two := specOf(t, `{"configuration":{"y":{"a":"<&>","b":2.0},"x":1e0},"rollback":"safe","type":"feature","software":[{"version":"1","hardware":["a","b"],"name":"f"}]}`)
	other := specOf(t, `{"software":[{"name":"f","version":"1","hardware":["b","a"]}],"configuration":{"x":2,"y":{"b":2,"a":"<&>"}}}`)
	text, first, err := release.Canonical(one)
	if err != nil || string(text) != `{"configuration":{"x":1,"y":{"a":"<&>","b":2}},"rollback":"safe","software":[{"hardware":["a","b"],"name":"f","version":"1"}],"type":"feature"}` {
		t.Errorf("%s, %v", text, err)
	}
	if _, second, err := release.Canonical(two); err != nil || second != first {
		t.Errorf("%s and %s, %v", first, second, err)
	}
	if _, third, err := release.Canonical(other); err != nil || third == first {
		t.Errorf("other content has the digest %s, %v", third, err)
	}
	// What is read back is what was digested.
	var back link.ReleaseSpec
	if err := json.Unmarshal(text, &back); err != nil {
		t.Fatal(err)
	}
	if _, again, err := release.Canonical(back); err != nil || again != first {
		t.Errorf("read back it is %s, %v", again, err)
	}
}

func TestReadSBOM(t *testing.T) {
	for text, want := range map[string]string{
		`{"bomFormat":"CycloneDX","components":[{"group":"@acme","name":"core","version":"1","purl":"pkg:npm/core@1","components":[{"name":"inner"}]}]}`: "[{@acme/core 1 pkg:npm/core@1} {inner  }]",
		`{"bomFormat":"CycloneDX"}`: "[]",
		`{"spdxVersion":"SPDX-2.3","packages":[{"name":"zlib","versionInfo":"1.3","externalRefs":[{"referenceType":"cpe23Type","referenceLocator":"x"},{"referenceType":"purl","referenceLocator":"pkg:generic/zlib@1.3"}]}]}`: "[{zlib 1.3 pkg:generic/zlib@1.3}]",
	} {
		if got, err := release.ReadSBOM([]byte(text)); err != nil || fmt.Sprint(got) != want {
			t.Errorf("%s: %v, %v", text, got, err)
		}
	}
	deep := `{"bomFormat":"CycloneDX","components":` + strings.Repeat(`[{"name":"x","components":`, 60) + "[]" + strings.Repeat("}]", 60) + "}"
	for _, text := range []string{"", "[]", "{}", `{"bomFormat":"Other"}`, `{"spdxVersion":"SPDX-3.0"}`, `{"bomFormat":"CycloneDX","components":[{}]}`, `{"bomFormat":"CycloneDX","components":7}`, deep} {
		if got, err := release.ReadSBOM([]byte(text)); !problem.Is(err, problem.Invalid) {
			t.Errorf("%.60s: %v, %v", text, got, err)
		}
	}
}

func TestABillOfMaterialsTakesBoundedMemory(t *testing.T) {
	text := `{"bomFormat":"CycloneDX","components":[` + strings.Repeat("null,", 3_000_000) + "null]}"
	if _, err := release.ReadSBOM([]byte(text)); !problem.Is(err, problem.TooLarge) {
		t.Errorf("three million items: %v", err)
	}
	var many strings.Builder
	for i := range 60_000 {
		fmt.Fprintf(&many, `,{"name":"c%d"}`, i)
	}
	if _, err := release.ReadSBOM([]byte(`{"bomFormat":"CycloneDX","components":[` + many.String()[1:] + "]}")); !problem.Is(err, problem.TooLarge) {
		t.Errorf("sixty thousand components: %v", err)
	}
}

func FuzzReadSBOM(f *testing.F) {
	f.Add([]byte(`{"bomFormat":"CycloneDX","components":[{"name":"a","version":"1","components":[{"name":"b"}]}]}`))
	f.Add([]byte(`{"spdxVersion":"SPDX-2.3","packages":[{"name":"zlib","externalRefs":[{"referenceType":"purl","referenceLocator":"x"}]}]}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		all, err := release.ReadSBOM(text)
		if err != nil && problem.Is(err, problem.Internal) {
			t.Fatalf("a fault of ours: %v", err)
		}
		for _, c := range all {
			if c.Name == "" {
				t.Fatal("a component without a name")
			}
		}
	})
}
