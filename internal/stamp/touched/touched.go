// Package touched gathers the devices that something has happened to, until
// what follows from it has been looked at: configurations, releases and flags
// each look at a device again when it has changed, and at every device when
// they have.
package touched

import (
	"slices"
	"sync"
)

// Most is how many devices wait by name; when there are more, every device is
// looked at.
const Most = 50_000

// Devices wait to be looked at. Any goroutine may touch them; one takes them.
type Devices struct {
	bell chan struct{}

	mu  sync.Mutex
	ids map[string]struct{}
	all bool
}

// New returns an empty set.
func New() *Devices {
	return &Devices{bell: make(chan struct{}, 1), ids: map[string]struct{}{}}
}

// Touch says that a device has changed. It does not wait.
func (d *Devices) Touch(id string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.all {
		return
	}
	if d.ids[id] = struct{}{}; len(d.ids) > Most {
		d.everyone()
	}
	d.ring()
}

// TouchAll says that every device is to be looked at.
func (d *Devices) TouchAll() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.everyone()
	d.ring()
}

func (d *Devices) everyone() {
	d.all = true
	clear(d.ids)
}

func (d *Devices) ring() {
	select {
	case d.bell <- struct{}{}:
	default:
	}
}

// Bell has something in it after devices were touched. Whoever hears it takes
// until there is nothing more.
func (d *Devices) Bell() <-chan struct{} { return d.bell }

// None reports whether there is nothing to look at.
func (d *Devices) None() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return !d.all && len(d.ids) == 0
}

// All reports whether every device is to be looked at.
func (d *Devices) All() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.all
}

// Take takes at most so many devices, in their order, and whether every one is
// to be looked at; those it returns are touched no longer.
func (d *Devices) Take(most int) (ids []string, all bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	all, d.all = d.all, false
	for id := range d.ids {
		if len(ids) == most {
			break
		}
		ids = append(ids, id)
		delete(d.ids, id)
	}
	slices.Sort(ids)
	return ids, all
}
