package slipway

import (
	"encoding/json"
	"reflect"
	"slices"
	"testing"

	"github.com/hashicorp/terraform-plugin-go/tftypes"
	"pgregory.net/rapid"

	kinds "github.com/slipway/slipway/internal/resource"
)

func TestNamesAreSpelledAsTerraformSpellsThem(t *testing.T) {
	t.Parallel()
	for key, want := range map[string]string{
		"promotesFrom": "promotes_from", "secondaryCAReference": "secondary_ca_reference", "sha256": "sha256", "memoryMiB": "memory_mib", "jetStream": "jet_stream",
		"EnrollmentGroup": "enrollment_group", "SLO": "slo", "OnCall": "on_call", "x509": "x509", "maxAgeSeconds": "max_age_seconds",
	} {
		if got := snake(key); got != want {
			t.Errorf("%s becomes %s, not %s", key, got, want)
		}
	}
}

// TestEveryKindHasAForm: whatever kinds the API has, Terraform takes their
// attributes' names.
func TestEveryKindHasAForm(t *testing.T) {
	t.Parallel()
	for _, name := range kinds.Kinds {
		seen := map[string]bool{}
		for i, f := range kindOf(name).root.members {
			if seen[f.name] || i > 1 && slices.Contains(reserved, f.name) {
				t.Errorf("%s cannot have an attribute %s", name, f.name)
			}
			seen[f.name] = true
		}
		if len(seen) < 3 {
			t.Errorf("%s has only the attributes %v", name, seen)
		}
	}
}

type sample struct {
	Name   string                     `json:"name"`
	Count  int                        `json:"count,omitempty"`
	Share  float64                    `json:"share,omitempty"`
	On     bool                       `json:"on,omitempty"`
	Tags   []string                   `json:"tags,omitempty"`
	Parts  []part                     `json:"parts,omitempty"`
	Labels map[string]string          `json:"labels,omitempty"`
	Values map[string]json.RawMessage `json:"values,omitempty"`
	Rule   json.RawMessage            `json:"rule,omitempty"`
	Inner  *part                      `json:"inner,omitempty"`
}

type part struct {
	Key    string `json:"key,omitempty"`
	Secret string `json:"secret,omitempty" secret:"true"`
}

// TestWhatIsToldIsSaidAgain takes any document of the API through Terraform's
// values: what the installation tells, applied back, is the same document.
func TestWhatIsToldIsSaidAgain(t *testing.T) {
	t.Parallel()
	root := field{form: object, members: fieldsOf(reflect.TypeFor[sample]())}
	kind := typeOf(root)
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.StringMatching(`[a-z ]{1,6}`)
		document := rapid.SampledFrom([]string{`{"a":[1,2.5,null]}`, `true`, `"x"`, `[]`, `12`})
		raw := rapid.Map(document, func(s string) json.RawMessage { return json.RawMessage(s) })
		parts := rapid.Custom(func(t *rapid.T) part { return part{Key: text.Draw(t, "key")} })
		want := sample{
			Name: text.Draw(t, "name"), Count: rapid.IntRange(-5, 5_000_000_000).Draw(t, "count"), Share: rapid.Float64Range(0, 1).Draw(t, "share"), On: rapid.Bool().Draw(t, "on"),
			Tags: rapid.SliceOfN(text, 0, 3).Draw(t, "tags"), Parts: rapid.SliceOfN(parts, 0, 3).Draw(t, "parts"),
			Labels: rapid.MapOfN(text, text, 0, 3).Draw(t, "labels"), Values: rapid.MapOfN(text, raw, 0, 3).Draw(t, "values"), Rule: raw.Draw(t, "rule"),
		}
		sent, err := json.Marshal(want)
		if err != nil {
			t.Fatal(err)
		}
		var server map[string]any
		if err := decode(sent, &server); err != nil {
			t.Fatal(err)
		}
		told, err := root.told(kind, server, tftypes.NewValue(kind, nil), false)
		if err != nil {
			t.Fatal(err)
		}
		again, err := root.told(kind, server, told, false)
		if err != nil || !again.Equal(told) {
			t.Fatalf("told once more it differs: %v, %v (%v)", again, told, err)
		}
		said, known, err := root.spoken(told)
		if err != nil || !known {
			t.Fatalf("not said: %v, %v", known, err)
		}
		body, err := json.Marshal(said)
		if err != nil {
			t.Fatal(err)
		}
		var back sample
		if err := json.Unmarshal(body, &back); err != nil {
			t.Fatal(err)
		}
		if got, err := json.Marshal(back); err != nil || string(got) != string(sent) {
			t.Fatalf("said again it is\n%s, not\n%s (%v)", got, sent, err)
		}
	})
}

// typeOf is the type of a field's values, which the schemas give otherwise.
func typeOf(f field) tftypes.Type {
	switch f.form {
	case boolean:
		return tftypes.Bool
	case integer, number:
		return tftypes.Number
	case list:
		return tftypes.List{ElementType: typeOf(*f.of)}
	case mapping:
		return tftypes.Map{ElementType: typeOf(*f.of)}
	case object:
		all := map[string]tftypes.Type{}
		for _, m := range f.members {
			all[m.name] = typeOf(m)
		}
		return tftypes.Object{AttributeTypes: all}
	}
	return tftypes.String
}

// TestSecretsStayAsTheyAreKnown: the installation masks them or leaves them out.
func TestSecretsStayAsTheyAreKnown(t *testing.T) {
	t.Parallel()
	root := field{form: object, members: fieldsOf(reflect.TypeFor[part]())}
	kind := typeOf(root)
	known := tftypes.NewValue(kind, map[string]tftypes.Value{"key": tftypes.NewValue(tftypes.String, "k"), "secret": tftypes.NewValue(tftypes.String, "s3cret")})
	for _, server := range []map[string]any{{"key": "k", "secret": kinds.Mask}, {"key": "k"}} {
		if got, err := root.told(kind, server, known, false); err != nil || !got.Equal(known) {
			t.Errorf("told %v it is %v (%v)", server, got, err)
		}
		fresh, err := root.told(kind, server, tftypes.NewValue(kind, nil), false)
		var all map[string]tftypes.Value
		if err != nil || fresh.As(&all) != nil || !all["secret"].IsNull() {
			t.Errorf("a mask is taken for a secret: %v (%v)", fresh, err)
		}
	}
}
