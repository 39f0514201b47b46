package incident

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/slipway/slipway/internal/control/audit"
	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/sqldb"
)

// The kinds of moments, in the order in which people suspect them.
const (
	Releases      = "release"
	Configuration = "configuration"
	Flags         = "flag"
	Access        = "access"
	Alerts        = "alert"
	Devices       = "device"
	IncidentNotes = "incident"
)

// Kinds are all of them.
var Kinds = []string{Releases, Configuration, Flags, Access, Alerts, Devices, IncidentNotes}

// Moment is one thing that happened.
type Moment struct {
	At          time.Time `json:"at"`
	Kind        string    `json:"kind" doc:"release, configuration, flag, access, alert, device or incident"`
	What        string    `json:"what"`
	Actor       string    `json:"actor,omitempty"`
	Object      string    `json:"object,omitempty"`
	Environment string    `json:"environment,omitempty"`
	Stamp       string    `json:"stamp,omitempty"`
	Failed      bool      `json:"failed,omitempty"`
}

// Window is what a timeline shows.
type Window struct {
	From, To    time.Time
	Environment string // and what is of no environment; empty is all
	Device      string // what happened to it, too
	Kinds       []string
}

// The most that a timeline shows, and how long it may be.
const (
	maxMoments = 2000
	maxWindow  = 31 * 24 * time.Hour
)

// DefaultLook is how far back somebody looks first.
const DefaultLook = 2 * time.Hour

// filled is a window with what it leaves open.
func (w Window) filled(now time.Time) (Window, error) {
	if w.To.IsZero() {
		w.To = now
	}
	if w.From.IsZero() {
		w.From = w.To.Add(-DefaultLook)
	}
	switch {
	case !w.From.Before(w.To):
		return w, problem.New(problem.Invalid, "it ends before it begins").At("to")
	case w.To.Sub(w.From) > maxWindow:
		return w, problem.New(problem.Invalid, "a timeline covers at most 31 days").At("from")
	}
	for _, k := range w.Kinds {
		if !slices.Contains(Kinds, k) {
			return w, problem.New(problem.Invalid, "a kind is one of %s, not %q", strings.Join(Kinds, ", "), k).At("kind")
		}
	}
	return w, nil
}

func (w Window) wants(kind string) bool { return len(w.Kinds) == 0 || slices.Contains(w.Kinds, kind) }

// Timeline is what happened in a window, the newest first. What cannot be had,
// such as metrics, is left out and said.
func (is *Incidents) Timeline(ctx context.Context, w Window) (all []Moment, missing string, err error) {
	if w, err = w.filled(is.now()); err != nil {
		return nil, "", err
	}
	for _, part := range []func(context.Context, Window) ([]Moment, error){is.changes, is.firings, is.said} {
		found, err := part(ctx, w)
		if err != nil {
			return nil, "", err
		}
		all = append(all, found...)
	}
	for _, part := range []func(context.Context, Window) ([]Moment, error){is.happened, is.ofDevice} {
		found, failure := part(ctx, w)
		if failure != nil {
			missing = problem.Of(failure).Message
		}
		all = append(all, found...)
	}
	all = slices.DeleteFunc(all, func(m Moment) bool { return !w.wants(m.Kind) })
	slices.SortStableFunc(all, func(a, b Moment) int { return b.At.Compare(a.At) })
	return all[:min(len(all), maxMoments)], missing, nil
}

// ByKind counts moments, for what changed at a glance.
func ByKind(all []Moment) map[string]int {
	counts := map[string]int{}
	for _, m := range all {
		counts[m.Kind]++
	}
	return counts
}

// changes are what people and the installation itself did, by the audit log.
// Why, and in detail, only the audit log says, to whom it may.
func (is *Incidents) changes(ctx context.Context, w Window) (all []Moment, err error) {
	entries, err := is.Audit.Changes(ctx, audit.Filter{From: w.From, To: w.To, Limit: audit.MaxPage})
	for _, e := range entries {
		kind := kindOf(e.Action)
		if kind == "" || w.Environment != "" && e.Environment != w.Environment && (e.Environment != "" || kind == Access) {
			continue
		}
		all = append(all, Moment{At: e.At, Kind: kind, What: e.Action, Actor: e.Actor, Object: e.Object, Environment: e.Environment, Failed: e.Outcome == audit.Failed})
	}
	return all, err
}

// areas are the kinds of actions by what these begin with; what only reads, or
// has moments of its own, is none.
var areas = map[string]string{
	"promotion": Releases, "rollout": Releases, "release": Releases, "artifact": "", "gate": Releases, "halt": Releases, "hold": Releases, "waiver": Releases,
	"blueprint": Configuration, "environment": Configuration, "signing": Releases, "test-results": "", "vulnerabilities": "", "verify": Releases, "rollback": Releases,
	"flag": Flags, "grant": Access, "account": Access, "role": Access, "token": Access, "session": Access, "accessReview": Access, "policy": Access, "peer": Access,
	"move": Devices, "device": Devices, "twin": Devices, "method": Devices, "command": Devices, "messages": Devices, "job": Devices, "upload": "", "query": "",
	"audit": "", "incident": "", "backup": "", "drill": "", "alert": Configuration, "receivers": Configuration,
}

// kindOf is the kind of an action, such as promotion.start; empty is none.
func kindOf(action string) string {
	area, verb, _ := strings.Cut(action, ".")
	if strings.HasPrefix(verb, "read") || strings.HasPrefix(verb, "secrets") {
		return ""
	}
	kind, known := areas[area]
	if !known {
		return Configuration
	}
	return kind
}

// firings are when alerts began, and when they ended.
func (is *Incidents) firings(ctx context.Context, w Window) (all []Moment, err error) {
	from, to := sqldb.Micros(w.From), sqldb.Micros(w.To)
	found, err := episodes(ctx, is.DB, "(began_at >= ? OR ended_at >= ?) AND began_at < ?", from, from, to)
	for _, e := range found {
		if w.Environment != "" && e.Environment != "" && e.Environment != w.Environment {
			continue
		}
		m := Moment{At: e.BeganAt, Kind: Alerts, What: strings.TrimSuffix(e.Name+" fires: "+e.Summary, ": "), Object: e.Incident, Environment: e.Environment, Stamp: e.Stamp, Failed: e.Severity == "page"}
		if !e.BeganAt.Before(w.From) {
			all = append(all, m)
		}
		if e.EndedAt != nil && !e.EndedAt.Before(w.From) && e.EndedAt.Before(w.To) {
			m.At, m.What, m.Failed = *e.EndedAt, e.Name+" fires no more", false
			all = append(all, m)
		}
	}
	return all, err
}

// said are notes on incidents, and that they were opened.
func (is *Incidents) said(ctx context.Context, w Window) (all []Moment, err error) {
	found, err := list(ctx, is.DB, "opened_at < ? AND changed_at >= ? ORDER BY sequence DESC LIMIT 200", sqldb.Micros(w.To), sqldb.Micros(w.From))
	if err != nil {
		return nil, err
	}
	for _, i := range found {
		if w.Environment != "" && i.Environment != "" && i.Environment != w.Environment {
			continue
		}
		of := Moment{Kind: IncidentNotes, Object: i.ID, Environment: i.Environment, Stamp: i.Stamp}
		if !i.OpenedAt.Before(w.From) {
			of.At, of.Actor, of.What = i.OpenedAt, i.OpenedBy, "opened: "+i.Title
			all = append(all, of)
		}
		notes, err := notes(ctx, is.DB, i.ID)
		if err != nil {
			return all, err
		}
		for _, n := range notes {
			if !n.At.Before(w.From) && n.At.Before(w.To) && n.Kind != KindAlert {
				of.At, of.Actor, of.What = n.At, n.Actor, n.Kind+": "+n.Text
				all = append(all, of)
			}
		}
	}
	return all, nil
}

// counted are what happens to devices, as metrics count it, and from how many on
// it is worth a moment.
var counted = []struct {
	query, words string
	least        float64
}{
	{`sum by (environment, stamp) (increase(slipway_hub_disconnects_total{%[1]s}[%[2]s]))`, "connections ended", 5},
	{`sum by (environment, stamp) (increase(slipway_hub_connects_total{result=~"refused|failed|throttled",%[1]s}[%[2]s]))`, "connections were turned away", 1},
	{`sum by (environment, stamp) (increase(slipway_hub_messages_total{result="failed",%[1]s}[%[2]s]))`, "messages failed", 1},
	{`sum by (environment, stamp) (increase(slipway_hub_methods_total{result="failed",%[1]s}[%[2]s]))`, "methods failed", 1},
	{`sum by (environment, stamp) (increase(slipway_route_dead_letters{%[1]s}[%[2]s]))`, "messages became dead letters", 1},
	{`sum by (environment, stamp) (delta(slipway_update_devices{group="all",state="failed",%[1]s}[%[2]s]))`, "updates failed", 1},
	{`increase(slipway_provisioning_assigned_total{%[1]s}[%[2]s])`, "devices were assigned a stamp", 1},
}

// happened are what happened to devices, by the stretch of time.
func (is *Incidents) happened(ctx context.Context, w Window) (all []Moment, err error) {
	if !w.wants(Devices) || is.Lines == nil {
		return nil, nil
	}
	step := max(w.To.Sub(w.From)/48, 2*time.Minute).Round(time.Second)
	for _, c := range counted {
		matcher := ""
		if w.Environment != "" && !strings.HasPrefix(c.query, "increase(slipway_provisioning") {
			matcher = fmt.Sprintf("environment=%q", w.Environment)
		}
		lines, _, err := is.Lines(ctx, fmt.Sprintf(c.query, matcher, step), w.From, w.To, step)
		if err != nil {
			return all, err
		}
		for _, l := range lines {
			for _, p := range l.Points {
				if p.Value >= c.least {
					all = append(all, Moment{At: p.At, Kind: Devices, What: fmt.Sprintf("%.0f %s within %s", p.Value, c.words, step), Environment: l.Labels["environment"], Stamp: l.Labels["stamp"]})
				}
			}
		}
	}
	return all, nil
}

// deviceEvents are as many of a device's as are looked at.
const deviceEvents = 500

// ofDevice are what happened to one device.
func (is *Incidents) ofDevice(ctx context.Context, w Window) (all []Moment, err error) {
	if w.Device == "" || is.Events == nil {
		return nil, nil
	}
	at, err := is.Where(ctx, w.Device)
	if err != nil || w.Environment != "" && at.Environment != w.Environment {
		return nil, err
	}
	page, err := is.Events(ctx, "", link.ReadLog{DeviceID: w.Device, Last: true, Limit: deviceEvents})
	for _, r := range page.Items {
		if r.EnqueuedTime.Before(w.From) || !r.EnqueuedTime.Before(w.To) {
			continue
		}
		all = append(all, Moment{At: r.EnqueuedTime, Kind: Devices, What: cmp.Or(r.Kind, "event"), Object: "device/" + w.Device})
	}
	return all, err
}
