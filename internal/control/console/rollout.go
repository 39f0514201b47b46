package console

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"

	"github.com/slipway/slipway/internal/control/access"
	"github.com/slipway/slipway/internal/control/gate"
	"github.com/slipway/slipway/internal/control/rollout"
	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/resource"
)

var rolloutPage = newPage("rollout.html", "rollout_stamp.html", "census.html", "gate.html")

type rolloutView struct {
	base
	Way     wayView
	Devices censusList
}

// wayView is the part of a rollout's page that moves.
type wayView struct {
	rollout.View
	Rings  []ringView
	Sum    []censusPart // of all stamps
	Total  int64
	Events []rollout.Event // newest first
}

// Has reports whether the rollout is what a device is told by, or was until its
// release became what all of the stamp run.
func (v wayView) Has(u link.Update) bool {
	return u.Rollout == v.ID || u.Rollout == "" && u.Release == v.Release
}

// ringView is the stamps that a rollout comes to together.
type ringView struct {
	Ring   int
	Stamps []wayStamp
}

// wayStamp is a stamp of a rollout, drawn.
type wayStamp struct {
	rollout.StampView
	Rollout string
	Kept    rollout.Stamp // as it is stored
	Steps   []waveStep
	Parts   []censusPart
	Marks   []float64 // where waves end, in per cent of the bar
	Total   int64
	Rates   []rateView
	Models  []modelView
}

// waveStep is one wave of a stamp: over, on its way, or to come.
type waveStep struct {
	Name, Reach string
	State       string // the outcome of one that is over; now, or empty
	By          string
}

// rateView is how often something happens to devices with the release, beside
// the others.
type rateView struct {
	Name            string
	Updated, Others float64
	Most            float64 // the longer bar is as wide as there is room
	Evidence        float64 // per cent of what is proof that it is worse
}

// modelView is one kind of hardware in the census.
type modelView struct {
	Name     string
	Parts    []censusPart
	Total    int64
	Failures int64
}

// shownEvents is how much of what happened the page shows.
const shownRolloutEvents = 100

func (c *console) rollout(w http.ResponseWriter, r *http.Request, s access.Session) error {
	found, err := c.findRollout(r.Context(), r.PathValue("id"))
	if err != nil {
		return err
	}
	view := rolloutView{base: inside(r, s, "pipeline", found.Release+" on its way to "+found.Environment), Way: found}
	if view.Devices, err = c.listUpdates(r, found); err != nil {
		return err
	}
	return show(w, r, http.StatusOK, rolloutPage, "updates", view)
}

func (c *console) rolloutLive(w http.ResponseWriter, r *http.Request, _ access.Session) error {
	return c.live(w, r, pulseEvery, func(ctx context.Context, s *stream) error {
		found, err := c.findRollout(ctx, r.PathValue("id"))
		if err != nil {
			return err
		}
		return s.part(rolloutPage, "way", found)
	})
}

func (c *console) findRollout(ctx context.Context, id string) (wayView, error) {
	found, err := c.Rollouts.Show(ctx, id)
	if err != nil {
		return wayView{}, err
	}
	return newWayView(found), nil
}

func newWayView(v rollout.View) wayView {
	way := wayView{View: v, Events: latestFirst(v.Log, shownRolloutEvents)}
	var all, reached link.UpdateCensus
	for i, d := range v.Details {
		stamp := newWayStamp(v.Rollout, v.Stamps[i], d)
		if n := len(way.Rings); n == 0 || way.Rings[n-1].Ring != d.Ring {
			way.Rings = append(way.Rings, ringView{Ring: d.Ring})
		}
		ring := &way.Rings[len(way.Rings)-1]
		ring.Stamps = append(ring.Stamps, stamp)
		all, reached = sum(all, d.Devices), sum(reached, d.Reached)
	}
	way.Sum, way.Total = updateParts(reached, total(all)), max(total(all), total(reached))
	return way
}

func newWayStamp(r rollout.Rollout, kept rollout.Stamp, d rollout.StampView) wayStamp {
	s := wayStamp{StampView: d, Rollout: r.ID, Kept: kept, Total: max(total(d.Devices), total(d.Reached))}
	s.Parts = updateParts(d.Reached, total(d.Devices))
	for i, w := range r.Policy.Waves {
		s.Steps = append(s.Steps, stepOf(i+1, w, kept))
		if w.Share > 0 && w.Share < 1 {
			s.Marks = append(s.Marks, w.Share*100)
		}
	}
	if d.Updated.DeviceSeconds > 0 && d.Others.DeviceSeconds > 0 {
		s.Rates = ratesOf(r.Policy.Health, kept, d)
	}
	for _, name := range slices.Sorted(maps.Keys(d.ByHardware)) {
		census := d.ByHardware[name]
		s.Models = append(s.Models, modelView{cmp.Or(name, "not said"), updateParts(census, 0), total(census), census.Failures()})
	}
	return s
}

func stepOf(n int, w resource.Wave, s rollout.Stamp) waveStep {
	step := waveStep{Name: cmp.Or(w.Name, fmt.Sprint(n)), Reach: reachOf(w)}
	if s.State == rollout.Moving && s.Wave == n {
		step.State = "now"
	}
	for _, end := range s.Waves {
		if end.Wave == n {
			step.State, step.By = end.Outcome, end.By
		}
	}
	return step
}

// reachOf says how far a wave reaches.
func reachOf(w resource.Wave) string {
	var parts []string
	if w.Share > 0 {
		parts = append(parts, per(w.Share))
	}
	if w.Count > 0 {
		parts = append(parts, "≥ "+number(w.Count))
	}
	if w.Where != "" {
		parts = append(parts, "where "+short(w.Where, 40))
	}
	return strings.Join(parts, ", ")
}

func ratesOf(policy *resource.WaveHealth, kept rollout.Stamp, d rollout.StampView) []rateView {
	hourly := func(n int64, h link.Health) float64 { return 3600 * float64(n) / h.DeviceSeconds }
	rates := []rateView{
		{Name: "Reconnects, an hour each", Updated: hourly(d.Updated.Reconnects, d.Updated), Others: hourly(d.Others.Reconnects, d.Others)},
		{Name: "Messages, an hour each", Updated: hourly(d.Updated.Messages, d.Updated), Others: hourly(d.Others.Messages, d.Others)},
	}
	if policy != nil && policy.Compare != nil && kept.Compared != nil {
		found := gate.Comparison(*kept.Compared).Proof(*policy.Compare)
		rates[0].Evidence, rates[1].Evidence = 100*found.Reconnects, 100*max(found.Louder, found.Quieter)
	}
	for i := range rates {
		rates[i].Most = max(rates[i].Updated, rates[i].Others)
	}
	return rates
}

func total(c link.UpdateCensus) int64 {
	return c.Updated + c.Pending + c.Failed + c.RolledBack + c.Unreachable + c.Exempt
}

func sum(a, b link.UpdateCensus) link.UpdateCensus {
	return link.UpdateCensus{Updated: a.Updated + b.Updated, Pending: a.Pending + b.Pending, Failed: a.Failed + b.Failed,
		RolledBack: a.RolledBack + b.RolledBack, Unreachable: a.Unreachable + b.Unreachable, Exempt: a.Exempt + b.Exempt}
}

// updateParts lays the states of a census side by side, and then those devices
// of all that it does not reach.
func updateParts(n link.UpdateCensus, all int64) []censusPart {
	parts := []censusPart{
		{Name: "Updated", State: string(link.UpdateDone), Count: int(n.Updated), Meaning: "says it runs the release"},
		{Name: "Pending", State: string(link.UpdatePending), Count: int(n.Pending), Meaning: "works on it, or waits to be told"},
		{Name: "Failed", State: string(link.UpdateFailed), Count: int(n.Failed), Meaning: "tried as often as it may, or said nothing in time"},
		{Name: "Rolled back", State: string(link.UpdateRolledBack), Count: int(n.RolledBack), Meaning: "tried, and went back by itself"},
		{Name: "Unreachable", State: string(link.UpdateUnreachable), Count: int(n.Unreachable), Meaning: "not connected since it was to be told"},
		{Name: "Exempt", State: string(link.UpdateExempt), Count: int(n.Exempt), Meaning: "the release has nothing for it"},
		{Name: "Not reached", State: "beyond", Count: int(max(0, all-total(n))), Meaning: "runs what it ran; a later wave comes to it"},
	}
	whole, x := max(all, total(n)), 0.0
	for i := range parts {
		parts[i].X, parts[i].Width = x, portion(float64(parts[i].Count), float64(whole))
		x += parts[i].Width
	}
	return parts
}

// censusList is a page of the devices of one stamp.
type censusList struct {
	Stamp, State string
	States       []link.UpdateState
	Items        []link.Update
	Reasons      []reasonCount // of those on the page, the most frequent first
	Last         string        // where the next page begins
	Problem      string
}

type reasonCount struct {
	Reason string
	Count  int
}

const (
	updateRows   = 100
	shownReasons = 8
)

// listUpdates lists devices of the stamp that is asked for, or else of one that
// is on its way, or else of the first that the rollout has come to.
func (c *console) listUpdates(r *http.Request, way wayView) (list censusList, err error) {
	q := r.URL.Query()
	list = censusList{Stamp: q.Get("stamp"), State: q.Get("state"), States: link.UpdateStates}
	for _, look := range []func(rollout.Stamp) bool{
		func(s rollout.Stamp) bool { return s.State == rollout.Moving },
		func(s rollout.Stamp) bool { return s.BeganAt != nil },
	} {
		if i := slices.IndexFunc(way.Stamps, look); i >= 0 {
			list.Stamp = cmp.Or(list.Stamp, way.Stamps[i].Name)
		}
	}
	if list.Stamp == "" {
		return list, nil
	}
	page, err := c.Fleet.Updates(r.Context(), list.Stamp, link.ListUpdates{State: link.UpdateState(list.State), After: q.Get("after"), Limit: updateRows})
	if known := problem.Of(err); err != nil && known.Kind != problem.Internal {
		list.Problem = known.Message
		return list, nil
	}
	list.Items, list.Reasons = page.Items, reasonsOf(page.Items)
	if n := len(page.Items); page.More && n > 0 {
		list.Last = page.Items[n-1].DeviceID
	}
	return list, err
}

func reasonsOf(items []link.Update) (all []reasonCount) {
	counts := map[string]int{}
	for _, u := range items {
		counts[u.Reason]++
	}
	for reason, n := range counts {
		if reason != "" {
			all = append(all, reasonCount{reason, n})
		}
	}
	slices.SortFunc(all, func(a, b reasonCount) int {
		return cmp.Or(b.Count-a.Count, strings.Compare(a.Reason, b.Reason))
	})
	return all[:min(len(all), shownReasons)]
}

// Verdict is the worst of how a stamp's wave is judged.
func (s wayStamp) Verdict() gate.Verdict {
	if len(s.Verdicts) == 0 {
		return ""
	}
	verdict, _ := gate.Combine(s.Verdicts, false)
	return verdict
}
