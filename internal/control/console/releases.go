package console

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/slipway/slipway/internal/control/access"
	"github.com/slipway/slipway/internal/control/gate"
	"github.com/slipway/slipway/internal/control/promotion"
	"github.com/slipway/slipway/internal/control/release"
	"github.com/slipway/slipway/internal/flag"
	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/resource"
)

var (
	releasesPage = newPage("releases.html")
	releasePage  = newPage("release.html", "release_parts.html", "gate.html")
)

const (
	releaseRows    = 50
	compared       = 50 // releases that one can be compared with from its page
	componentRows  = 100
	changesOfAPart = 200
)

type releasesView struct {
	base
	Rows []releaseRow
	Last int64 // where the next page begins
}

// releaseRow is a release and the environments that run it, or are about to.
type releaseRow struct {
	link.Release
	Runs, Comes []string
}

func (c *console) releases(w http.ResponseWriter, r *http.Request, s access.Session) error {
	before, err := strconv.ParseInt(r.URL.Query().Get("before"), 10, 64)
	if err != nil {
		before = 0 // the newest
	}
	all, err := c.Releases.List(r.Context(), before, releaseRows)
	if err != nil {
		return err
	}
	cells, err := c.Rollouts.Matrix(r.Context(), "")
	if err != nil {
		return err
	}
	runs, comes := map[string][]string{}, map[string][]string{}
	note := func(where map[string][]string, name, environment string) {
		if name != "" && !slices.Contains(where[name], environment) {
			where[name] = append(where[name], environment)
		}
	}
	for _, cell := range cells {
		note(runs, cell.Base, cell.Environment)
		note(comes, cell.Release, cell.Environment)
	}
	view := releasesView{base: inside(r, s, "releases", "Releases")}
	for _, one := range all {
		view.Rows = append(view.Rows, releaseRow{one, runs[one.Name], comes[one.Name]})
	}
	if len(all) == releaseRows {
		view.Last = all[len(all)-1].Counter
	}
	return show(w, r, http.StatusOK, releasesPage, "", view)
}

type releaseView struct {
	base
	Release    link.Release
	Flags      map[string]flag.Flag
	Config     string // as JSON
	Where      []whereView
	Standings  []standingView
	Diff       diffView
	Components componentsView
}

// whereView is a stamp on which a release runs or comes, and how many devices
// have it.
type whereView struct {
	Environment, Stamp string
	Rollout            string
	Devices, Total     int64
}

// standingView is what an environment makes of a release.
type standingView struct {
	Environment string
	Verified    *promotion.Verification
	Rejected    *promotion.Rejection
	Admitted    bool
	Reason      string // why it is not admitted
}

// diffView is how a release differs from another.
type diffView struct {
	Name   string
	From   string
	Others []string
	Parts  []diffPart
	Count  int
}

type diffPart struct {
	Part    string
	Changes []release.Change
	More    int
}

// componentsView is a page of what a release is made of.
type componentsView struct {
	Name   string
	Search string
	All    int
	Found  int
	Items  []release.Component
	Known  []gate.Finding // vulnerabilities, the worst first
}

func (c *console) release(w http.ResponseWriter, r *http.Request, s access.Session) error {
	name := r.PathValue("name")
	found, err := c.Releases.Get(r.Context(), name)
	if err != nil {
		return err
	}
	view := releaseView{base: inside(r, s, "releases", name), Release: found}
	if part := r.URL.Query().Get("part"); fromHTMX(r) && part == "components" {
		if view.Components, err = c.findComponents(r, name); err != nil {
			return err
		}
		return show(w, r, http.StatusOK, releasePage, "components", view.Components)
	}
	if view.Diff, err = c.findDiff(r, found); err != nil {
		return err
	}
	if fromHTMX(r) {
		return show(w, r, http.StatusOK, releasePage, "diff", view.Diff)
	}
	if err := c.fillRelease(r, &view); err != nil {
		return err
	}
	return show(w, r, http.StatusOK, releasePage, "", view)
}

// fillRelease adds to a release's page what is found elsewhere.
func (c *console) fillRelease(r *http.Request, view *releaseView) (err error) {
	ctx, spec := r.Context(), view.Release.Spec
	flags, err := resource.FlagsOf(spec)
	if err != nil {
		return err
	}
	view.Flags = flags.Flags
	if len(spec.Configuration) > 0 {
		text, err := json.MarshalIndent(spec.Configuration, "", "  ")
		if err != nil {
			return err
		}
		view.Config = string(text)
	}
	if view.Components, err = c.findComponents(r, view.Release.Name); err != nil {
		return err
	}
	cells, err := c.Rollouts.Matrix(ctx, view.Release.Name)
	if err != nil {
		return err
	}
	for _, cell := range cells {
		at := whereView{Environment: cell.Environment, Stamp: cell.Stamp, Devices: cell.OnBase, Total: cell.Total}
		if cell.Release == view.Release.Name {
			at.Rollout, at.Devices = cell.Rollout, cell.OnRelease
		}
		view.Where = append(view.Where, at)
	}
	view.Standings, err = c.findStandings(ctx, view.Release.Name)
	return err
}

// findStandings is what each environment makes of a release: the last verdict
// on it there, whether it is kept out, and whether devices may install it.
func (c *console) findStandings(ctx context.Context, name string) (all []standingView, err error) {
	environments, err := c.Environments.List(ctx)
	if err != nil {
		return nil, err
	}
	verified, err := c.Promotions.Verifications(ctx, name)
	if err != nil {
		return nil, err
	}
	rejected, err := c.Promotions.Rejections(ctx, "")
	if err != nil {
		return nil, err
	}
	for _, env := range environments {
		one := standingView{Environment: env.Metadata.Name}
		if one.Admitted, one.Reason, err = c.Signing.Admitted(ctx, one.Environment, name); err != nil {
			return nil, err
		}
		if i := slices.IndexFunc(verified, func(v promotion.Verification) bool { return v.Environment == one.Environment }); i >= 0 {
			one.Verified = &verified[i]
		}
		if i := slices.IndexFunc(rejected, func(v promotion.Rejection) bool {
			return v.Environment == one.Environment && v.Release == name
		}); i >= 0 {
			one.Rejected = &rejected[i]
		}
		all = append(all, one)
	}
	return all, nil
}

// findDiff compares a release with the one asked for, or else with the one
// made before it.
func (c *console) findDiff(r *http.Request, of link.Release) (view diffView, err error) {
	view = diffView{Name: of.Name, From: r.URL.Query().Get("from")}
	newest, err := c.Releases.List(r.Context(), 0, compared)
	if err != nil {
		return view, err
	}
	before, err := c.Releases.List(r.Context(), of.Counter, 1)
	if err != nil {
		return view, err
	}
	for _, other := range append(before, newest...) {
		if other.Name != of.Name && !slices.Contains(view.Others, other.Name) {
			view.Others = append(view.Others, other.Name)
		}
	}
	if view.From == "" && len(before) > 0 {
		view.From = before[0].Name
	}
	if view.From == "" {
		return view, nil
	}
	if !slices.Contains(view.Others, view.From) {
		view.Others = append(view.Others, view.From)
	}
	changes, err := c.Releases.Diff(r.Context(), view.From, of.Name)
	view.Count = len(changes)
	for _, change := range changes {
		n := len(view.Parts)
		if n == 0 || view.Parts[n-1].Part != change.Part {
			view.Parts = append(view.Parts, diffPart{Part: change.Part})
			n++
		}
		part := &view.Parts[n-1]
		if len(part.Changes) >= changesOfAPart {
			part.More++
			continue
		}
		part.Changes = append(part.Changes, change)
	}
	return view, err
}

func (c *console) findComponents(r *http.Request, name string) (view componentsView, err error) {
	all, err := c.Releases.Components(r.Context(), name)
	view = componentsView{Name: name, Search: strings.TrimSpace(r.URL.Query().Get("component")), All: len(all)}
	for _, one := range all {
		if !strings.Contains(strings.ToLower(one.Name+" "+one.Version+" "+one.PURL), strings.ToLower(view.Search)) {
			continue
		}
		if view.Found++; view.Found <= componentRows {
			view.Items = append(view.Items, one)
		}
	}
	if err == nil && view.All > 0 {
		view.Known, err = c.Gates.Vulnerable(r.Context(), name)
	}
	return view, err
}

// Pieces says in short what software a release brings.
func (r releaseRow) Pieces() string {
	var all []string
	for _, s := range r.Spec.Software {
		if text := s.Name + " " + s.Version; !slices.Contains(all, text) {
			all = append(all, text)
		}
	}
	for _, other := range []struct {
		n         int
		one, many string
	}{{len(r.Spec.Configuration), "property", "properties"}, {len(r.Spec.Routes), "route", "routes"}, {len(r.Spec.Migrations), "migration", "migrations"}} {
		if other.n > 0 {
			all = append(all, plural(other.n, other.one, other.many))
		}
	}
	return strings.Join(all, ", ")
}

// Linked reports whether where a release was built from can be followed.
func (v releaseView) Linked() bool {
	return strings.HasPrefix(v.Release.Spec.Source, "https://") || strings.HasPrefix(v.Release.Spec.Source, "http://")
}

// Variants are a flag's variants in order of name, "off: false".
func (v releaseView) Variants(f flag.Flag) string {
	var all []string
	for _, name := range slices.Sorted(maps.Keys(f.Variants)) {
		all = append(all, fmt.Sprintf("%s: %s", name, f.Variants[name]))
	}
	return strings.Join(all, ", ")
}
