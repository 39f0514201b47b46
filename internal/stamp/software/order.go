package software

import (
	"bytes"
	"encoding/json"
	"slices"

	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/stamp/twin"
)

// For is what a release has for a kind of hardware.
func For(r *link.Release, hardware string) []link.Software {
	if r == nil {
		return nil
	}
	var all []link.Software
	for _, one := range r.Spec.Software {
		if len(one.Hardware) == 0 || slices.Contains(one.Hardware, hardware) {
			all = append(all, one)
		}
	}
	return all
}

// runs reports whether what runs is all of some software.
func runs(running map[string]string, all []link.Software) bool {
	for _, one := range all {
		if running[one.Name] != one.Version {
			return false
		}
	}
	return true
}

// strays returns the software that runs in another version than it should.
func strays(running map[string]string, all []link.Software) (name, version string, found bool) {
	for _, one := range all {
		if version, known := running[one.Name]; known && version != one.Version {
			return one.Name, version, true
		}
	}
	return "", "", false
}

// order is what a device was told last; ok is false where that is nothing.
func (s Standing) order(given *link.Release, environment string) (o link.UpdateOrder, ok bool) {
	all := For(given, s.GivenFor)
	if s.Order == 0 || len(all) == 0 {
		return o, false
	}
	return link.UpdateOrder{Order: s.Order, Release: given.Name, Digest: given.Digest, Environment: environment, Software: all, Back: s.Back}, true
}

// patch takes a twin's desired properties from what one release has there to
// what the next one has, and to an order, or none.
func patch(desired twin.Document, before, after *link.Release, o link.UpdateOrder, ordered bool) (twin.Document, error) {
	old, err := configurationOf(before)
	if err != nil {
		return nil, err
	}
	fresh, err := configurationOf(after)
	if err != nil {
		return nil, err
	}
	change := twin.Transition(old, fresh)
	if before == after {
		change = twin.Document{} // only the order may be amiss
	}
	present, had := desired[link.UpdateProperty]
	switch {
	case !ordered && had:
		change[link.UpdateProperty] = nil
	case ordered:
		wanted, err := asDocument(o)
		if err != nil {
			return nil, err
		}
		if !had || !same(present, wanted) {
			change[link.UpdateProperty] = wanted
			if old, ok := present.(twin.Document); ok {
				change[link.UpdateProperty] = twin.Transition(old, wanted)
			}
		}
	}
	return change, nil
}

// configurationOf are the desired properties that a release sets. The one that
// orders stand in is ours.
func configurationOf(r *link.Release) (twin.Document, error) {
	if r == nil || len(r.Spec.Configuration) == 0 {
		return twin.Document{}, nil
	}
	document, err := asDocument(r.Spec.Configuration)
	delete(document, link.UpdateProperty)
	return document, err
}

// asDocument is a value as twins hold it.
func asDocument(value any) (document twin.Document, err error) {
	text, err := json.Marshal(value)
	if err != nil {
		return nil, err
	}
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.UseNumber()
	return document, decoder.Decode(&document)
}

// same reports whether two values are the same text.
func same(a, b any) bool {
	x, failed := twin.Encode(a)
	y, err := twin.Encode(b)
	return failed == nil && err == nil && bytes.Equal(x, y)
}
