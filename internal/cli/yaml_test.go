package cli

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/slipway/slipway/internal/resource"
)

// What export writes must be read back as what it was, whatever people put
// into tags and keys.
func TestExportReadsBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		tags := rapid.MapOf(tricky(), anyValue(3)).Draw(t, "tags")
		text, err := json.Marshal(map[string]any{"environment": "test", "attestation": map[string]any{"symmetricKey": map[string]any{}}, "initialTwin": map[string]any{"tags": tags}})
		if err != nil {
			t.Fatal(err)
		}
		r := resource.Resource{APIVersion: resource.APIVersion, Kind: resource.KindEnrollmentGroup, Metadata: resource.Metadata{Name: "g"}, Spec: text}
		var out bytes.Buffer
		if err := writeDocuments(&out, []any{r, r}); err != nil {
			t.Fatal(err)
		}
		back, err := resource.Decode("export", out.Bytes())
		if err != nil || len(back) != 2 {
			t.Fatalf("%d documents, %v in\n%s", len(back), err, out.String())
		}
		for _, b := range back {
			if differences, err := compare(text, b.Spec); err != nil || len(differences) > 0 {
				t.Fatalf("%v: %s\nin %s", err, textOf(differences), out.String())
			}
		}
	})
}

func tricky() *rapid.Generator[string] {
	return rapid.OneOf(rapid.String(), rapid.StringMatching(`[-a-z0-9:# '"\n{}\[\],&*!|>%@]{1,12}`), rapid.SampledFrom([]string{
		"yes", "null", "~", "1e5", "0x1f", "1_000", "0o7", "2026-01-02", "-", "- a", "a: b", "", " ", "é", "\u2028", "\U0001F600", "#x", "a #b", "<<", "=", ".5", "+1", "12:30:45",
	}), rapid.Just("-----BEGIN CERTIFICATE-----\nMIIB+/=\nabc==\n-----END CERTIFICATE-----\n"))
}

func anyValue(depth int) *rapid.Generator[any] {
	leaves := []*rapid.Generator[any]{
		tricky().AsAny(), rapid.Map(rapid.Float64Range(-1e9, 1e9), func(f float64) any { return f + 0 }), rapid.Int64Range(-1<<53, 1<<53).AsAny(), rapid.Bool().AsAny(), rapid.Just[any](nil), rapid.Just(1e21).AsAny(), rapid.Just(1e-9).AsAny(),
	}
	if depth > 0 {
		leaves = append(leaves, rapid.SliceOfN(rapid.Deferred(func() *rapid.Generator[any] { return anyValue(depth - 1) }), 0, 3).AsAny(),
			rapid.MapOfN(tricky(), rapid.Deferred(func() *rapid.Generator[any] { return anyValue(depth - 1) }), 0, 3).AsAny())
	}
	return rapid.OneOf(leaves...)
}

func TestCertificatesStayReadable(t *testing.T) {
	text, err := yamlOf(map[string]string{"ca": "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n", "s": "1e5"})
	if err != nil || !strings.Contains(string(text), "ca: |\n") || !strings.Contains(string(text), `s: "1e5"`) {
		t.Errorf("%v\n%s", err, text)
	}
}
