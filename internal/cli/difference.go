package cli

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/resource"
)

// difference is one field that is not the same on both sides; nothing stands
// for a field that is not there.
type difference struct {
	Field  string `json:"field"`
	Before string `json:"before,omitempty"`
	After  string `json:"after,omitempty"`
}

// textOf shows differences line by line, old before new.
func textOf(all []difference) string {
	var b strings.Builder
	for _, d := range all {
		if d.Before != "" {
			fmt.Fprintf(&b, "- %s: %s\n", d.Field, clean(d.Before))
		}
		if d.After != "" {
			fmt.Fprintf(&b, "+ %s: %s\n", d.Field, clean(d.After))
		}
	}
	return b.String()
}

// compare returns the fields in which two JSON documents differ, in order.
func compare(before, after json.RawMessage) ([]difference, error) {
	old, err := flatten(before)
	if err != nil {
		return nil, err
	}
	fresh, err := flatten(after)
	if err != nil {
		return nil, err
	}
	fields := maps.Clone(old)
	maps.Copy(fields, fresh)
	var all []difference
	for _, field := range slices.Sorted(maps.Keys(fields)) {
		if old[field] != fresh[field] {
			all = append(all, masked(difference{field, old[field], fresh[field]}))
		}
	}
	return all, nil
}

// flatten returns the leaves of a JSON document by their path.
func flatten(text json.RawMessage) (map[string]string, error) {
	leaves := map[string]string{}
	if len(text) == 0 {
		return leaves, nil
	}
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.UseNumber()
	var value any
	if err := decoder.Decode(&value); err != nil {
		return nil, err
	}
	return leaves, leavesOf("", value, leaves)
}

func leavesOf(path string, value any, into map[string]string) error {
	members, nested := value.(map[string]any)
	if nested && (len(members) > 0 || path == "") {
		for key, inner := range members {
			if err := leavesOf(strings.TrimPrefix(path+"."+key, "."), inner, into); err != nil {
				return err
			}
		}
		return nil
	}
	text, err := json.Marshal(value)
	into[path] = string(text)
	return err
}

// masked hides keys but still tells one from another.
func masked(d difference) difference {
	if !strings.HasSuffix(d.Field, "maryKey") && !strings.HasSuffix(d.Field, "daryKey") {
		return d
	}
	for _, side := range []*string{&d.Before, &d.After} {
		if *side != "" {
			sum := sha256.Sum256([]byte(*side))
			*side = "(key " + hex.EncodeToString(sum[:4]) + ")"
		}
	}
	return d
}

// namesKeys tells whether a resource declares symmetric keys, so that the
// stored ones have to be read to compare them.
func namesKeys(r resource.Resource) bool {
	spec, err := resource.SpecOf[link.EnrollmentSpec](r)
	key := spec.Attestation.SymmetricKey
	return err == nil && strings.HasPrefix(r.Kind, resource.KindEnrollment) && key != nil && key.PrimaryKey+key.SecondaryKey != ""
}

// withKeys puts keys into what the server would store, which it shows without
// them: those declared, and those kept where none is declared.
func withKeys(shown, stored, declared resource.Resource) (json.RawMessage, error) {
	after, err := resource.SpecOf[link.EnrollmentSpec](shown)
	if err != nil {
		return nil, err
	}
	wanted, err := resource.SpecOf[link.EnrollmentSpec](declared)
	if err != nil {
		return nil, err
	}
	var kept link.SymmetricKey
	if len(stored.Spec) > 0 {
		before, err := resource.SpecOf[link.EnrollmentSpec](stored)
		if err != nil {
			return nil, err
		}
		if before.Attestation.SymmetricKey != nil {
			kept = *before.Attestation.SymmetricKey
		}
	}
	given := *wanted.Attestation.SymmetricKey
	after.Attestation.SymmetricKey = &link.SymmetricKey{
		PrimaryKey: cmp.Or(given.PrimaryKey, kept.PrimaryKey), SecondaryKey: cmp.Or(given.SecondaryKey, kept.SecondaryKey),
	}
	return json.Marshal(after)
}
