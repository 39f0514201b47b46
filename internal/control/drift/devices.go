package drift

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/resource"
)

// sample is what was seen of the twins of a stamp. A page is read at each look,
// so that a pass over all goes by slowly and costs the same however many there
// are; what counts is the last whole pass, or the one that is on where none is.
type sample struct {
	after      string // where the next page begins
	pass, last map[string]*Rollup
	whole      bool // last is a whole pass
	at         time.Time
}

// Rollup is how the twins of the devices of one model are on a stamp.
type Rollup struct {
	Environment string         `json:"environment"`
	Stamp       string         `json:"stamp"`
	Model       string         `json:"model" doc:"What devices say they are; none where they do not"`
	Looked      int64          `json:"looked" doc:"Devices that were looked at"`
	Same        int64          `json:"same" doc:"They report what is desired"`
	Changed     int64          `json:"changed" doc:"They report another value"`
	Missing     int64          `json:"missing" doc:"They report nothing of some of it"`
	Pending     int64          `json:"pending" doc:"They are away, or it was desired just now"`
	Paths       map[string]int `json:"paths,omitempty" doc:"Which properties are not as desired, and how often"`
	Whole       bool           `json:"whole" doc:"Every device of the stamp was looked at; else some"`
	At          time.Time      `json:"at"`
}

// maxPaths bounds the properties that are counted by name.
const maxPaths = 50

// deviceGrace is how long a device may take to report what is desired.
const deviceGrace = 5 * time.Minute

// devices reads a page of twins of each stamp and says what of their devices
// is not as it is to be.
func (d *Drift) devices(ctx context.Context, v *view) error {
	maps.DeleteFunc(d.samples, func(name string, _ *sample) bool {
		return !slices.ContainsFunc(v.stamps, func(s resource.Stamp) bool { return s.Metadata.Name == name })
	})
	pages := d.pages(ctx, v)
	for _, s := range v.stamps {
		name := s.Metadata.Name
		one := d.samples[name]
		if page := pages[name]; page != nil {
			one.take(*page, s.Spec.Environment, name, v.now)
		}
		if one == nil {
			continue
		}
		shown := one.shown()
		for _, model := range slices.Sorted(maps.Keys(shown)) {
			if r := shown[model]; r.Changed > 0 {
				v.subjects = append(v.subjects, r.subject())
			}
		}
		v.software(s.Spec.Environment, name, d.o.Fleet.Observed)
	}
	return nil
}

// pages asks each stamp that answers for its next twins, all at once. What was
// seen before of one that does not answer says by itself that it is old.
func (d *Drift) pages(ctx context.Context, v *view) map[string]*link.Rows {
	ctx, done := context.WithTimeout(ctx, askTime)
	defer done()
	var mu sync.Mutex
	pages := map[string]*link.Rows{}
	var asking sync.WaitGroup
	for _, s := range v.stamps {
		name := s.Metadata.Name
		if held := d.heldBy(name); held.why != "" || held.at.IsZero() {
			continue
		}
		if d.samples[name] == nil {
			d.samples[name] = &sample{pass: map[string]*Rollup{}}
		}
		after := d.samples[name].after
		asking.Go(func() {
			page, err := d.o.Sample(ctx, name, after)
			mu.Lock()
			defer mu.Unlock()
			if err == nil {
				pages[name] = &page
			}
		})
	}
	asking.Wait()
	return pages
}

// software adds a subject where devices of a stamp could not take what they
// are to run, by the stamp's own counts.
func (v *view) software(environment, stamp string, observed func(string) (link.Observed, bool)) {
	o, told := observed(stamp)
	if !told || o.Releases == nil || o.Releases.Devices.Failures() == 0 {
		return
	}
	c := o.Releases.Devices
	v.subjects = append(v.subjects, Subject{
		Environment: environment, Kind: "devices", Object: "software of devices on " + stamp, Stamp: stamp, SeenAt: o.At, Count: c.Failures(),
		Declared: text(map[string]any{"release": o.Releases.Base}), Live: text(map[string]any{"release": "another"}),
		Text: fmt.Sprintf("%d devices on %s do not run what they are to run: %d failed, %d went back by themselves", c.Failures(), stamp, c.Failed, c.RolledBack),
	})
}

// take counts a page, and begins anew after the last.
func (s *sample) take(page link.Rows, environment, stamp string, now time.Time) {
	for _, row := range page.Items {
		var t twin
		if json.Unmarshal(row, &t) != nil {
			continue
		}
		r := s.pass[t.ModelID]
		if r == nil {
			r = &Rollup{Environment: environment, Stamp: stamp, Model: t.ModelID, Paths: map[string]int{}}
			s.pass[t.ModelID] = r
		}
		r.At = now
		r.count(t, now)
	}
	s.at = now
	if s.after = page.Next; s.after == "" {
		s.last, s.pass, s.whole = s.pass, map[string]*Rollup{}, true
		for _, r := range s.last {
			r.Whole = true
		}
	}
}

// shown is what counts.
func (s *sample) shown() map[string]*Rollup {
	if s.whole {
		return s.last
	}
	return s.pass
}

// twin is as much of a device as is looked at.
type twin struct {
	DeviceID        string `json:"deviceId"`
	ModelID         string `json:"modelId"`
	ConnectionState string `json:"connectionState"`
	Properties      struct {
		Desired  map[string]any `json:"desired"`
		Reported map[string]any `json:"reported"`
	} `json:"properties"`
}

// count adds a device.
func (r *Rollup) count(t twin, now time.Time) {
	changed, missing := unlike(t)
	r.Looked++
	switch {
	case len(changed)+len(missing) == 0:
		r.Same++
		return
	case t.ConnectionState != "Connected" || now.Sub(desiredAt(t)) < deviceGrace:
		r.Pending++
		return
	case len(changed) > 0:
		r.Changed++
	default:
		r.Missing++
	}
	for _, path := range changed {
		if _, known := r.Paths[path]; known || len(r.Paths) < maxPaths {
			r.Paths[path]++
		}
	}
}

// unlike are the properties that are desired and reported otherwise, or not
// reported. What is ours, and metadata, is no property of the solution's.
func unlike(t twin) (changed, missing []string) {
	for key, want := range t.Properties.Desired {
		if strings.HasPrefix(key, "$") || key == link.UpdateProperty || key == link.FlagsProperty {
			continue
		}
		have, there := t.Properties.Reported[key]
		switch {
		case !there:
			missing = append(missing, key)
		case !within(want, have):
			changed = append(changed, key)
		}
	}
	return changed, missing
}

// within reports whether everything that is desired is reported; a device may
// report more.
func within(want, have any) bool {
	members, object := want.(map[string]any)
	reported, also := have.(map[string]any)
	if !object || !also {
		return Same(want, have)
	}
	for key, value := range members {
		if !within(value, reported[key]) {
			return false
		}
	}
	return true
}

// desiredAt is when a back end last desired something.
func desiredAt(t twin) time.Time {
	metadata, _ := t.Properties.Desired["$metadata"].(map[string]any)
	told, _ := metadata["$lastUpdated"].(string)
	at, err := time.Parse(time.RFC3339Nano, told)
	if err != nil {
		return time.Time{}
	}
	return at
}

// subject is a rollup in which devices report something else.
func (r Rollup) subject() Subject {
	model := r.Model
	if model == "" {
		model = "no model"
	}
	return Subject{
		Environment: r.Environment, Kind: "devices", Object: fmt.Sprintf("twins of %s on %s", model, r.Stamp), Stamp: r.Stamp, SeenAt: r.At, Count: r.Changed,
		Declared: text("as desired"), Live: text(r.worst()),
		Text: fmt.Sprintf("%d of %d devices of %s on %s report something else than is desired, most often %s", r.Changed, r.Looked, model, r.Stamp, r.worst()),
	}
}

// worst is the property that is most often not as desired.
func (r Rollup) worst() (path string) {
	for _, one := range slices.Sorted(maps.Keys(r.Paths)) {
		if r.Paths[one] > r.Paths[path] {
			path = one
		}
	}
	return path
}

// rollups are how the twins of all stamps are now.
func (d *Drift) rollups() (all []Rollup) {
	for _, stamp := range slices.Sorted(maps.Keys(d.samples)) {
		shown := d.samples[stamp].shown()
		for _, model := range slices.Sorted(maps.Keys(shown)) {
			r := *shown[model]
			r.Paths = maps.Clone(r.Paths)
			all = append(all, r)
		}
	}
	return all
}

// Devices are the rollups of all stamps, or of those of one environment, as of
// the last look.
func (d *Drift) Devices(environment string) (all []Rollup) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, r := range d.twins {
		if environment == "" || r.Environment == environment {
			all = append(all, r)
		}
	}
	return all
}
