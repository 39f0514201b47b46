package featureflag

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/slipway/slipway/internal/flag"
	"github.com/slipway/slipway/internal/sqldb"
)

// Overview is a flag as people see it, with what it is in each environment.
type Overview struct {
	Key          string    `json:"key"`
	Description  string    `json:"description,omitempty"`
	Owner        string    `json:"owner,omitempty"`
	RemoveBy     string    `json:"removeBy,omitempty"`
	Devices      bool      `json:"devices,omitempty" doc:"Its value stands in the twins of devices"`
	Declared     bool      `json:"declared,omitempty" doc:"Declared beside releases"`
	Environments []Setting `json:"environments" doc:"In order of promotion; where it is not, it has no cell"`
	Findings     []Finding `json:"findings,omitempty"`
}

// Setting is a flag in one environment.
type Setting struct {
	Environment string           `json:"environment"`
	Release     string           `json:"release,omitempty" doc:"The release that defines it there"`
	Flag        flag.Flag        `json:"flag" doc:"As it is there"`
	Said        *Said            `json:"said,omitempty" doc:"What the environment says beside the definition"`
	Killed      bool             `json:"killed,omitempty"`
	Given       map[string]int64 `json:"given,omitempty" doc:"Evaluations of the last seven days by variant"`
}

// Finding is something about a flag that somebody should look at.
type Finding struct {
	Flag        string `json:"flag"`
	Environment string `json:"environment,omitempty"`
	Kind        string `json:"kind" enum:"ownerless,overdue,unused,settled,unexercised"`
	Text        string `json:"text"`
}

// The kinds of findings.
const (
	Ownerless   = "ownerless"   // its metadata names no owner
	Overdue     = "overdue"     // it was to be gone by now
	Unused      = "unused"      // nobody asked for it
	Settled     = "settled"     // everybody gets the same: the code could do without it
	Unexercised = "unexercised" // not all of its variants were tried before
)

// staleAfter is how many days nothing may happen to a flag before it is stale.
const staleAfter = 30

const recentDays = 7

// List returns every flag, in order of key.
func (f *Flags) List(ctx context.Context) ([]Overview, error) {
	if err := f.flush(ctx); err != nil {
		return nil, err
	}
	environments, err := f.o.Environments(ctx)
	if err != nil {
		return nil, err
	}
	declared, err := f.declared(ctx)
	if err != nil {
		return nil, err
	}
	standings, err := sqldb.Rows(ctx, f.o.DB, scanSaid, selectSaid)
	if err != nil {
		return nil, err
	}
	given, err := f.recent(ctx, dayOf(f.o.Now())-recentDays)
	if err != nil {
		return nil, err
	}
	views := map[string]*Overview{}
	for _, e := range environments {
		state, err := f.Of(Scope{Environment: e.Metadata.Name})
		if err != nil {
			continue // made a moment ago
		}
		for _, key := range state.Set.Keys() {
			if views[key] == nil {
				views[key] = &Overview{Key: key}
			}
			views[key].add(state, standings, given)
		}
	}
	for key := range declared {
		if views[key] == nil {
			views[key] = &Overview{Key: key}
			views[key].describe(declared[key])
		}
		views[key].Declared = true
	}
	all := make([]Overview, 0, len(views))
	for _, key := range slices.Sorted(maps.Keys(views)) {
		all = append(all, *views[key])
	}
	return f.judged(ctx, all)
}

func (v *Overview) add(s *State, standings []Said, given map[[2]string]map[string]int64) {
	one, _ := s.Set.Flag(v.Key)
	v.describe(one)
	c := Setting{Environment: s.Environment, Release: s.Release, Flag: one, Given: given[[2]string{s.Environment, v.Key}], Killed: one.Metadata[flag.MetaKilled] == true}
	for _, standing := range standings {
		if standing.Environment == s.Environment && standing.Flag == v.Key {
			c.Said = &standing
		}
	}
	v.Environments = append(v.Environments, c)
}

// describe takes from a flag's metadata what the view has not got yet: the
// environment nearest to production says it last.
func (v *Overview) describe(one flag.Flag) {
	text := func(name, before string) string {
		if s, ok := one.Metadata[name].(string); ok && s != "" {
			return s
		}
		return before
	}
	v.Description, v.Owner, v.RemoveBy = text("description", v.Description), text(flag.MetaOwner, v.Owner), text(flag.MetaRemoveBy, v.RemoveBy)
	v.Devices = one.Metadata[flag.MetaDevices] == true
}

// judged adds what somebody should look at.
func (f *Flags) judged(ctx context.Context, all []Overview) ([]Overview, error) {
	now := f.o.Now()
	given, err := f.recent(ctx, dayOf(now)-staleAfter)
	if err != nil {
		return nil, err
	}
	ever, err := f.recent(ctx, -1)
	if err != nil {
		return nil, err
	}
	for i := range all {
		all[i].Findings = Judge(now, all[i], given, ever)
	}
	return all, nil
}

// Judge finds what is amiss with a flag. given has the evaluations of the last
// thirty days, ever those of all time, by environment and flag.
func Judge(now time.Time, v Overview, given, ever map[[2]string]map[string]int64) (all []Finding) {
	add := func(environment, kind, format string, args ...any) {
		all = append(all, Finding{Flag: v.Key, Environment: environment, Kind: kind, Text: fmt.Sprintf(format, args...)})
	}
	if v.Owner == "" {
		add("", Ownerless, "nobody owns it; say metadata.owner")
	}
	if day, err := time.Parse(time.DateOnly, v.RemoveBy); err == nil && now.After(day.AddDate(0, 0, 1)) {
		add("", Overdue, "it was to be gone by %s", v.RemoveBy)
	}
	before := ""
	for _, c := range v.Environments {
		lately, always := given[[2]string{c.Environment, v.Key}], ever[[2]string{c.Environment, v.Key}]
		switch variant, share := most(lately); {
		case len(always) == 0: // new, or asked for by nobody at all: the last environment tells
		case sum(lately) == 0:
			add(c.Environment, Unused, "nobody has asked for it for %d days", staleAfter)
		case share == 1 && c.old(now):
			add(c.Environment, Settled, "everybody has got %s for %d days; the code could do without it", variant, staleAfter)
		}
		if upstream := ever[[2]string{before, v.Key}]; before != "" && sum(always) > 0 {
			if missing := missingUpstream(always, upstream); len(missing) > 0 {
				add(c.Environment, Unexercised, "%v is given out here and never was in %s", missing, before)
			}
		}
		before = c.Environment
	}
	return all
}

// old reports whether an environment has said the same of a flag for long.
func (c Setting) old(now time.Time) bool {
	return c.Said != nil && now.Sub(c.Said.At) > staleAfter*24*time.Hour
}

func missingUpstream(here, upstream map[string]int64) (missing []string) {
	for _, name := range slices.Sorted(maps.Keys(here)) {
		if upstream[name] == 0 {
			missing = append(missing, name)
		}
	}
	return missing
}
