package drift

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/slipway/slipway/internal/resource"
)

// Likeness is what is held against another environment: an area of documents
// by their paths. Paths are those of blueprints, where they are in one.
type Likeness struct {
	Environment  string
	Blueprint    string
	PromotesFrom string
	Differs      []resource.Differing
	Areas        map[string]any // by area; as encoding/json reads it
	Release      int64          // counter of what it runs; 0 is nothing
}

// areas are those that are compared, with how much a place in each counts.
var areas = map[string]float64{
	"environment": 2, "stamps": 1, "routes": 2, "release": 3, "versions": 3, "flags": 2, "configurations": 2, "enrolments": 1, "limits": 1, "devices": 1,
}

// Standing is how one place of two environments compares.
type Standing string

// The standings.
const (
	Equal       Standing = "equal"
	Explained   Standing = "explained"   // it differs, and is meant to
	Unexplained Standing = "unexplained" // it differs, and nobody says why
)

// Item is one place in which two environments were compared and differ.
type Item struct {
	Area     string          `json:"area"`
	Path     string          `json:"path"`
	From     json.RawMessage `json:"from,omitempty"`
	To       json.RawMessage `json:"to,omitempty"`
	Standing Standing        `json:"standing" enum:"explained,unexplained"`
	Reason   string          `json:"reason,omitempty" doc:"Why it may differ, or what would explain it"`
	Text     string          `json:"text" doc:"In words"`
}

// Area is how one area compares.
type Area struct {
	Area        string `json:"area"`
	Compared    int    `json:"compared"`
	Equal       int    `json:"equal"`
	Explained   int    `json:"explained"`
	Unexplained int    `json:"unexplained"`
}

// Report is how alike two environments are.
type Report struct {
	From  string    `json:"from"`
	To    string    `json:"to"`
	Score float64   `json:"score" doc:"Equal and explained places out of those compared, weighted by area; 0 to 1"`
	At    time.Time `json:"at"`
	Areas []Area    `json:"areas"`
	Items []Item    `json:"items" doc:"What differs: first what nobody explains"`
	Gaps  []string  `json:"gaps,omitempty" doc:"What could not be looked at"`
}

// Compared is how many places were compared.
func (r Report) Compared() (n int) {
	for _, a := range r.Areas {
		n += a.Compared
	}
	return n
}

// Unexplained are the places that nobody explains.
func (r Report) Unexplained() (all []Item) {
	for _, item := range r.Items {
		if item.Standing == Unexplained {
			all = append(all, item)
		}
	}
	return all
}

// Parity holds two environments against one another.
func Parity(from, to Likeness, accepted []Acceptance, now time.Time) Report {
	r := Report{From: from.Environment, To: to.Environment, At: now, Areas: []Area{}, Items: []Item{}}
	all, good := 0.0, 0.0
	for _, name := range slices.Sorted(maps.Keys(areas)) {
		area := Area{Area: name}
		one, other := places(name, from.Areas[name]), places(name, to.Areas[name])
		keys := maps.Clone(one)
		maps.Copy(keys, other)
		for _, path := range slices.Sorted(maps.Keys(keys)) {
			area.Compared++
			a, there := one[path]
			b, also := other[path]
			if there == also && sameSet(a, b) {
				area.Equal++
				continue
			}
			item := Item{Area: name, Path: path, From: shown(a, there), To: shown(b, also), Standing: Unexplained}
			if item.Reason = explain(item, from, to, accepted, now); item.Reason != "" {
				item.Standing = Explained
				area.Explained++
			} else {
				area.Unexplained++
			}
			item.Text = fmt.Sprintf("%s is %s in %s and %s in %s", path, shortly(item.From), from.Environment, shortly(item.To), to.Environment)
			r.Items = append(r.Items, item)
		}
		all += areas[name] * float64(area.Compared)
		good += areas[name] * float64(area.Equal+area.Explained)
		if area.Compared > 0 {
			r.Areas = append(r.Areas, area)
		}
	}
	if all > 0 {
		r.Score = good / all
	}
	slices.SortStableFunc(r.Items, func(a, b Item) int { return cmp.Compare(b.Standing, a.Standing) })
	return r
}

func shown(v any, there bool) json.RawMessage {
	if !there {
		return nil
	}
	return text(v)
}

// sameSet is Same for lists of plain values in whatever order.
func sameSet(a, b any) bool {
	one, ok := a.([]any)
	other, also := b.([]any)
	if ok && also {
		one, other = paired(one, other)
		return Same(one, other)
	}
	return Same(a, b)
}

// explain tells why a place may differ; empty where nothing says so.
func explain(item Item, from, to Likeness, accepted []Acceptance, now time.Time) string {
	for _, e := range []Likeness{to, from} {
		for _, d := range e.Differs {
			below := item.Path == d.Path || strings.HasPrefix(item.Path, d.Path+".") || strings.HasPrefix(item.Path, d.Path+"[")
			scaled := d.Path == resource.PathScale && item.Area == "stamps" && strings.HasSuffix(item.Path, ".capacity")
			if below || scaled {
				return fmt.Sprintf("%s differs from blueprint %s: %s", e.Environment, e.Blueprint, d.Reason)
			}
		}
	}
	if item.Area == "release" || item.Area == "flags" {
		switch {
		case to.PromotesFrom == from.Environment && from.Release > to.Release:
			return fmt.Sprintf("a newer release is on its way from %s to %s", from.Environment, to.Environment)
		case from.PromotesFrom == to.Environment && to.Release > from.Release:
			return fmt.Sprintf("a newer release is on its way from %s to %s", to.Environment, from.Environment)
		}
	}
	for _, a := range accepted {
		f := Finding{Object: pair(from.Environment, to.Environment), Path: item.Path, Live: text([]json.RawMessage{orNull(item.From), orNull(item.To)})}
		if a.covers(f) && now.Before(a.Until) {
			return fmt.Sprintf("%s answers for it until %s: %s", a.Owner, a.Until.UTC().Format(time.DateOnly), a.Reason)
		}
	}
	return ""
}

func orNull(v json.RawMessage) json.RawMessage {
	if v == nil {
		return json.RawMessage("null")
	}
	return v
}

// pair names two environments as one object of acceptances.
func pair(from, to string) string { return "parity/" + from + "/" + to }

// places are the values below a node by their paths; items of lists go by
// their names, where they have some.
func places(path string, node any) map[string]any {
	all := map[string]any{}
	walk(path, node, all)
	return all
}

func walk(path string, node any, into map[string]any) {
	switch node := node.(type) {
	case nil:
	case map[string]any:
		for key, value := range node {
			walk(path+"."+key, value, into)
		}
	case []any:
		for i, value := range node {
			if _, object := value.(map[string]any); !object {
				into[path] = node
				return
			}
			walk(path+"["+cmp.Or(named(value), strconv.Itoa(i))+"]", value, into)
		}
	default:
		into[path] = node
	}
}
