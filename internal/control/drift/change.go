package drift

import (
	"encoding/json"
	"slices"
	"strings"

	"github.com/wI2L/jsondiff"
)

// Change is one place in which what is so is not what is declared.
type Change struct {
	Path     string          `json:"path" doc:"Where, as a JSON pointer; empty is all of it"`
	Class    Class           `json:"class"`
	Declared json.RawMessage `json:"declared,omitempty"`
	Live     json.RawMessage `json:"live,omitempty"`
}

// Compare returns the places in which two documents differ. Values that mean
// the same do not, nor do lists that only differ in their order where a path of
// sets, with * for any step, names them.
func Compare(declared, live json.RawMessage, sets []string) ([]Change, error) {
	d, ok := decoded(declared)
	l, also := decoded(live)
	switch {
	case !ok && !also:
		return nil, nil
	case !ok || d == nil && !empty(l):
		return []Change{{Class: Unmanaged, Live: live}}, nil
	case !also || l == nil && !empty(d):
		return []Change{{Class: Missing, Declared: declared}}, nil
	case Same(d, l):
		return nil, nil
	}
	d, l = aligned("", d, l, sets)
	patch, err := jsondiff.CompareWithoutMarshal(d, l)
	if err != nil {
		return nil, err
	}
	var all []Change
	for _, op := range patch {
		c := Change{Path: op.Path}
		switch op.Type {
		case jsondiff.OperationAdd:
			c.Class, c.Live, c.Path = Unmanaged, text(op.Value), strings.TrimSuffix(op.Path, "/-")
		case jsondiff.OperationRemove:
			c.Class, c.Declared = Missing, text(op.OldValue)
		default:
			c.Class, c.Declared, c.Live = Changed, text(op.OldValue), text(op.Value)
		}
		all = append(all, c)
	}
	slices.SortStableFunc(all, func(a, b Change) int { return strings.Compare(a.Path, b.Path) })
	return all, nil
}

func text(v any) json.RawMessage {
	raw, err := json.Marshal(v)
	if err != nil {
		return nil
	}
	return raw
}
