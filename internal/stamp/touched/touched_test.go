package touched_test

import (
	"strconv"
	"testing"

	"pgregory.net/rapid"

	"github.com/slipway/slipway/internal/stamp/touched"
)

// TestNoTouchIsLost touches and takes in any order: a device that was touched is
// taken by name once, or every device is, after that.
func TestNoTouchIsLost(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := touched.New()
		owed := map[string]bool{}
		take := func(t *rapid.T) {
			ids, all := d.Take(rapid.IntRange(1, 5).Draw(t, "most"))
			if all {
				clear(owed)
			}
			for _, id := range ids {
				if !owed[id] {
					t.Fatalf("%s was not touched", id)
				}
				delete(owed, id)
			}
		}
		t.Repeat(map[string]func(*rapid.T){
			"touch": func(t *rapid.T) {
				id := rapid.StringMatching("[a-f]").Draw(t, "id")
				d.Touch(id)
				if !d.All() {
					owed[id] = true
				}
			},
			"everyone": func(*rapid.T) {
				d.TouchAll()
				clear(owed)
				owed["everyone"] = true
			},
			"take": take,
		})
		if d.None() != (len(owed) == 0) {
			t.Fatalf("nothing to look at: %t, but %v are owed", d.None(), owed)
		}
		for len(owed) > 0 {
			before := len(owed)
			take(t)
			if len(owed) == before {
				t.Fatalf("%v are not looked at", owed)
			}
		}
	})
}

// TestTooManyAreEverybody bounds what waits by name.
func TestTooManyAreEverybody(t *testing.T) {
	d := touched.New()
	for i := range touched.Most + 1 {
		d.Touch(strconv.Itoa(i))
	}
	select {
	case <-d.Bell():
	default:
		t.Error("nobody was told")
	}
	if ids, all := d.Take(1); !all || len(ids) != 0 {
		t.Errorf("%d devices by name, everyone: %t", len(ids), all)
	}
	if ids, all := d.Take(1); all || len(ids) != 0 {
		t.Errorf("%d devices and everyone: %t, once more", len(ids), all)
	}
}
