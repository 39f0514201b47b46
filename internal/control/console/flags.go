package console

import (
	"context"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/slipway/slipway/internal/control/access"
	"github.com/slipway/slipway/internal/control/featureflag"
	"github.com/slipway/slipway/internal/flag"
	"github.com/slipway/slipway/internal/problem"
)

// Flags shows feature flags, and switches them.
type Flags interface {
	List(ctx context.Context) ([]featureflag.Overview, error)
	History(ctx context.Context, key string, limit int) ([]featureflag.Turn, error)
	Exposures(ctx context.Context, key string, days int) ([]featureflag.Exposure, error)
	Set(ctx context.Context, actor access.Actor, e featureflag.Edit) (featureflag.Said, error)
	Kill(ctx context.Context, actor access.Actor, environment, key, variant, reason string) (featureflag.Said, error)
	Revive(ctx context.Context, actor access.Actor, environment, key, reason string) (featureflag.Said, error)
}

var (
	flagsPage = newPage("flags.html", "flag_parts.html")
	flagPage  = newPage("flag.html", "flag_parts.html")
)

// flagsView is every flag with a column for each environment.
type flagsView struct {
	base
	Environments []string
	Rows         []flagRow
	Killed       int // switches that are thrown
}

type flagRow struct {
	featureflag.Overview
	Cells []*settingView // by environment; nil where the flag is not
}

// settingView is a flag in one environment.
type settingView struct {
	featureflag.Setting
	Shares []shareView
}

// shareView is how much of what was given out was one variant.
type shareView struct {
	Variant string
	Count   int64
	X, W    float64 // per cent
	Class   int     // a colour
}

// Word says what the flag is there, in short.
func (v settingView) Word() string {
	switch {
	case v.Killed:
		return "killed"
	case v.Flag.State == flag.Disabled:
		return "disabled"
	case len(v.Flag.Targeting) > 2:
		return "by rules"
	case v.Flag.DefaultVariant != nil:
		return *v.Flag.DefaultVariant
	}
	return "no default"
}

// Kind is the colour of its chip.
func (v settingView) Kind() string {
	switch {
	case v.Killed:
		return "fail"
	case v.Flag.State == flag.Disabled:
		return "frozen"
	case len(v.Flag.Targeting) > 2:
		return "running"
	}
	return "pass"
}

func viewOf(s featureflag.Setting) *settingView {
	v := &settingView{Setting: s}
	total, x := int64(0), 0.0
	for _, n := range s.Given {
		total += n
	}
	for i, name := range slices.Sorted(maps.Keys(s.Flag.Variants)) {
		if n := s.Given[name]; n > 0 {
			w := 100 * float64(n) / float64(total)
			v.Shares = append(v.Shares, shareView{Variant: name, Count: n, X: x, W: w, Class: i % 6})
			x += w
		}
	}
	return v
}

func (c *console) flags(w http.ResponseWriter, r *http.Request, s access.Session) error {
	environments, err := c.Environments.List(r.Context())
	if err != nil {
		return err
	}
	all, err := c.Flags.List(r.Context())
	if err != nil {
		return err
	}
	view := flagsView{base: inside(r, s, "flags", "Flags")}
	for _, e := range environments {
		view.Environments = append(view.Environments, e.Metadata.Name)
	}
	for _, f := range all {
		row := flagRow{Overview: f, Cells: make([]*settingView, len(view.Environments))}
		for _, setting := range f.Environments {
			if i := slices.Index(view.Environments, setting.Environment); i >= 0 {
				row.Cells[i] = viewOf(setting)
			}
			if setting.Killed {
				view.Killed++
			}
		}
		view.Rows = append(view.Rows, row)
	}
	return show(w, r, http.StatusOK, flagsPage, "", view)
}

// flagView is one flag with what was done with it.
type flagView struct {
	base
	featureflag.Overview
	Settings []*settingView
	Variants []variantView
	History  []featureflag.Turn
	Days     []flagDay
}

type variantView struct {
	Name, Value string
	Class       int // a colour
}

// flagDay is a bar: what was given out on one day, everywhere.
type flagDay struct {
	Day    string
	Total  int64
	Shares []shareView
	Height float64 // per cent of the tallest
	Top    float64 // what is left above it
}

const (
	flagDays    = 30
	flagHistory = 100
)

func (c *console) flag(w http.ResponseWriter, r *http.Request, s access.Session) error {
	key := r.PathValue("name")
	all, err := c.Flags.List(r.Context())
	if err != nil {
		return err
	}
	i := slices.IndexFunc(all, func(f featureflag.Overview) bool { return f.Key == key })
	if i < 0 {
		return problem.New(problem.NotFound, "there is no flag %q", key)
	}
	view := flagView{base: inside(r, s, "flags", key), Overview: all[i]}
	for _, setting := range all[i].Environments {
		view.Settings = append(view.Settings, viewOf(setting))
		for name, value := range setting.Flag.Variants {
			if !slices.ContainsFunc(view.Variants, func(v variantView) bool { return v.Name == name }) {
				view.Variants = append(view.Variants, variantView{Name: name, Value: string(value)})
			}
		}
	}
	slices.SortFunc(view.Variants, func(a, b variantView) int { return strings.Compare(a.Name, b.Name) })
	for i := range view.Variants {
		view.Variants[i].Class = i % 6
	}
	if view.History, err = c.Flags.History(r.Context(), key, flagHistory); err != nil {
		return err
	}
	exposures, err := c.Flags.Exposures(r.Context(), key, flagDays)
	if err != nil {
		return err
	}
	view.Days = daysOf(exposures, view.Variants)
	return show(w, r, http.StatusOK, flagPage, "", view)
}

// daysOf puts what was given out into one bar a day.
func daysOf(exposures []featureflag.Exposure, variants []variantView) (days []flagDay) {
	counts, most := map[string]map[string]int64{}, int64(1)
	for _, e := range exposures {
		if counts[e.Day] == nil {
			counts[e.Day] = map[string]int64{}
		}
		counts[e.Day][e.Variant] += e.Evaluations
	}
	for _, day := range slices.Sorted(maps.Keys(counts)) {
		d := flagDay{Day: day}
		for _, n := range counts[day] {
			d.Total += n
		}
		most = max(most, d.Total)
		y := 0.0
		for i, v := range variants {
			if n := counts[day][v.Name]; n > 0 {
				h := 100 * float64(n) / float64(d.Total)
				d.Shares = append(d.Shares, shareView{Variant: v.Name, Count: n, X: y, W: h, Class: i % 6})
				y += h
			}
		}
		days = append(days, d)
	}
	for i := range days {
		days[i].Height = 100 * float64(days[i].Total) / float64(most)
		days[i].Top = 100 - days[i].Height
	}
	return days
}

// flagActs are what people can do about a flag in an environment.
var flagActs = map[string]act{
	"kill-flag": {named("Kill {flag} in {environment}"), "Everybody there gets the variant that is off, at once and whatever rules say. No gate is asked. It is taken back by one click.", "Kill", true, nil, "reason",
		func(c *console, ctx context.Context, actor access.Actor, f url.Values) error {
			_, err := c.Flags.Kill(ctx, actor, f.Get("environment"), f.Get("flag"), f.Get("variant"), f.Get("reason"))
			return err
		}},
	"revive-flag": {named("Take the kill switch of {flag} back in {environment}"), "The flag is again what it was before.", "Take it back", false, nil, "reason",
		func(c *console, ctx context.Context, actor access.Actor, f url.Values) error {
			_, err := c.Flags.Revive(ctx, actor, f.Get("environment"), f.Get("flag"), f.Get("reason"))
			return err
		}},
	"give-flag": {named("Give {variant} of {flag} in {environment}"), "It becomes the variant of all for whom no rule chooses. Rules stay as they are.", "Set", false, nil, "reason",
		func(c *console, ctx context.Context, actor access.Actor, f url.Values) error {
			variant := f.Get("variant")
			return c.editFlag(ctx, actor, f, func(o *flag.Overlay) { o.DefaultVariant, o.State = &variant, flag.Enabled })
		}},
	"disable-flag": {named("Disable {flag} in {environment}"), "Rules are not asked; everybody gets the default variant.", "Disable", false, nil, "reason",
		func(c *console, ctx context.Context, actor access.Actor, f url.Values) error {
			return c.editFlag(ctx, actor, f, func(o *flag.Overlay) { o.State = flag.Disabled })
		}},
	"enable-flag": {named("Enable {flag} in {environment}"), "Its rules are asked again.", "Enable", false, nil, "reason",
		func(c *console, ctx context.Context, actor access.Actor, f url.Values) error {
			return c.editFlag(ctx, actor, f, func(o *flag.Overlay) { o.State = flag.Enabled })
		}},
	"plain-flag": {named("Leave {flag} as it is defined in {environment}"), "What the environment said of it beside its definition is taken back; a kill switch stays.", "Take back", false, nil, "reason",
		func(c *console, ctx context.Context, actor access.Actor, f url.Values) error {
			return c.editFlag(ctx, actor, f, func(o *flag.Overlay) { *o = flag.Overlay{} })
		}},
}

// editFlag changes a part of what an environment says of a flag.
func (c *console) editFlag(ctx context.Context, actor access.Actor, f url.Values, change func(*flag.Overlay)) error {
	all, err := c.Flags.List(ctx)
	if err != nil {
		return err
	}
	e := featureflag.Edit{Environment: f.Get("environment"), Flag: f.Get("flag"), Reason: f.Get("reason")}
	for _, one := range all {
		for _, setting := range one.Environments {
			if one.Key == e.Flag && setting.Environment == e.Environment && setting.Said != nil {
				e.Overlay, e.IfMatch = setting.Said.Overlay, setting.Said.ETag
			}
		}
	}
	change(&e.Overlay)
	e.Overlay.Killed = ""
	_, err = c.Flags.Set(ctx, actor, e)
	return err
}
