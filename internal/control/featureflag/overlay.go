package featureflag

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/slipway/slipway/internal/control/access"
	"github.com/slipway/slipway/internal/control/audit"
	"github.com/slipway/slipway/internal/flag"
	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/sqldb"
)

// Said is what an environment says of a flag, and who said so.
type Said struct {
	Environment string       `json:"environment"`
	Flag        string       `json:"flag"`
	Overlay     flag.Overlay `json:"overlay"`
	ETag        string       `json:"etag"`
	By          string       `json:"by"`
	Reason      string       `json:"reason"`
	At          time.Time    `json:"at"`
}

// Turn is one entry of a flag's history in an environment.
type Turn struct {
	Sequence    int64        `json:"sequence"`
	Environment string       `json:"environment"`
	Flag        string       `json:"flag"`
	Before      flag.Overlay `json:"before"`
	After       flag.Overlay `json:"after"`
	By          string       `json:"by"`
	Reason      string       `json:"reason"`
	At          time.Time    `json:"at"`
}

const selectSaid = "SELECT environment, flag, overlay, version, changed_by, reason, changed_at FROM flag_overlay"

func scanSaid(rows *sql.Rows) (s Said, err error) {
	var text []byte
	var version, at int64
	if err := rows.Scan(&s.Environment, &s.Flag, &text, &version, &s.By, &s.Reason, &at); err != nil {
		return s, err
	}
	s.ETag, s.At = strconv.FormatInt(version, 10), sqldb.Time(at)
	return s, json.Unmarshal(text, &s.Overlay)
}

// overlays are what each environment says, by flag.
func (f *Flags) overlays(ctx context.Context) (map[string]map[string]flag.Overlay, error) {
	all, err := sqldb.Rows(ctx, f.o.DB, scanSaid, selectSaid)
	by := map[string]map[string]flag.Overlay{}
	for _, s := range all {
		if by[s.Environment] == nil {
			by[s.Environment] = map[string]flag.Overlay{}
		}
		by[s.Environment][s.Flag] = s.Overlay
	}
	return by, err
}

// Edit is what somebody wants an environment to say of a flag.
type Edit struct {
	Environment string
	Flag        string
	Overlay     flag.Overlay // nothing leaves the flag as it is defined
	Reason      string
	IfMatch     string
}

// Set has an environment say something of a flag. A kill switch that is thrown
// stays so.
func (f *Flags) Set(ctx context.Context, actor access.Actor, e Edit) (Said, error) {
	if e.Overlay.Killed != "" {
		return Said{}, problem.New(problem.Invalid, "a kill switch is thrown and taken back by itself, not beside other changes").At("overlay.killed")
	}
	return f.edit(ctx, actor, "flag.set", e, func(_ flag.Flag, before flag.Overlay) (flag.Overlay, error) {
		after := e.Overlay
		after.Killed = before.Killed
		return after, nil
	})
}

// Kill gives everybody in an environment one variant, at once and whatever
// rules say: the one that switches the feature off, unless another is named.
// It asks no gate.
func (f *Flags) Kill(ctx context.Context, actor access.Actor, environment, key, variant, reason string) (Said, error) {
	return f.edit(ctx, actor, "flag.kill", Edit{Environment: environment, Flag: key, Reason: reason}, func(one flag.Flag, before flag.Overlay) (flag.Overlay, error) {
		if variant == "" {
			off, found := one.Off()
			if !found {
				return before, problem.New(problem.Invalid, "none of the variants of %s is off or false; say which everybody is to get: %s", key, strings.Join(slices.Sorted(maps.Keys(one.Variants)), ", ")).At("variant")
			}
			variant = off
		}
		if _, known := one.Variants[variant]; !known {
			return before, problem.New(problem.Invalid, "%s has no variant %q, only %s", key, variant, strings.Join(slices.Sorted(maps.Keys(one.Variants)), ", ")).At("variant")
		}
		before.Killed = variant
		return before, nil
	})
}

// Revive takes a kill switch back; the flag is what it was before.
func (f *Flags) Revive(ctx context.Context, actor access.Actor, environment, key, reason string) (Said, error) {
	return f.edit(ctx, actor, "flag.revive", Edit{Environment: environment, Flag: key, Reason: reason}, func(_ flag.Flag, before flag.Overlay) (flag.Overlay, error) {
		if before.Killed == "" {
			return before, problem.New(problem.Conflict, "the kill switch of %s is not thrown in %s", key, environment)
		}
		before.Killed = ""
		return before, nil
	})
}

const maxReason = 2000

// edit changes what an environment says of a flag that it has.
func (f *Flags) edit(ctx context.Context, actor access.Actor, action string, e Edit, change func(one flag.Flag, before flag.Overlay) (flag.Overlay, error)) (s Said, err error) {
	if e.Reason = strings.TrimSpace(e.Reason); e.Reason == "" || len(e.Reason) > maxReason {
		return s, problem.New(problem.Invalid, "say why, in 1 to %d characters", maxReason).At("reason")
	}
	state, err := f.Of(Scope{Environment: e.Environment})
	if err != nil {
		return s, err
	}
	one, found := state.Document.Flags[e.Flag]
	if !found {
		return s, problem.New(problem.NotFound, "there is no flag %q in %s", e.Flag, e.Environment)
	}
	err = f.o.DB.Commit(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		s, err = f.put(ctx, tx, actor, action, e, one, change)
		return err
	})
	return s, f.settled(ctx, err)
}

// put stores what an environment says of a flag, with its history.
func (f *Flags) put(ctx context.Context, tx *sqldb.Tx, actor access.Actor, action string, e Edit, one flag.Flag, change func(one flag.Flag, before flag.Overlay) (flag.Overlay, error)) (Said, error) {
	before, found, err := sqldb.Row(ctx, tx, scanSaid, selectSaid+" WHERE environment = ? AND flag = ?", e.Environment, e.Flag)
	if err != nil {
		return before, err
	}
	version := int64(0)
	if found {
		if version, err = strconv.ParseInt(before.ETag, 10, 64); err != nil {
			return before, err
		}
	}
	if err := matches(e.IfMatch, version); err != nil {
		return before, err
	}
	overlay, err := change(one, before.Overlay)
	if err != nil {
		return before, err
	}
	if err := one.Under(overlay).Check(e.Flag); err != nil {
		p := problem.Of(err)
		return before, p.At(strings.TrimSuffix("overlay."+p.Field, "."))
	}
	s := Said{Environment: e.Environment, Flag: e.Flag, Overlay: overlay, ETag: strconv.FormatInt(version+1, 10), By: actor.Name, Reason: e.Reason, At: f.o.Now().UTC().Truncate(time.Microsecond)}
	old, err := json.Marshal(before.Overlay)
	if err != nil {
		return s, err
	}
	fresh, err := json.Marshal(overlay)
	if err != nil {
		return s, err
	}
	if _, err := tx.Exec(ctx, `INSERT INTO flag_overlay (environment, flag, overlay, version, changed_by, reason, changed_at) VALUES (?, ?, ?, ?, ?, ?, ?)
		ON CONFLICT (environment, flag) DO UPDATE SET overlay = excluded.overlay, version = excluded.version, changed_by = excluded.changed_by, reason = excluded.reason, changed_at = excluded.changed_at`,
		s.Environment, s.Flag, string(fresh), version+1, s.By, s.Reason, sqldb.Micros(s.At)); err != nil {
		return s, err
	}
	if _, err := tx.Exec(ctx, "INSERT INTO flag_change (environment, flag, before, after, changed_by, reason, changed_at) VALUES (?, ?, ?, ?, ?, ?, ?)",
		s.Environment, s.Flag, string(old), string(fresh), s.By, s.Reason, sqldb.Micros(s.At)); err != nil {
		return s, err
	}
	return s, f.o.Audit.Record(ctx, tx, audit.Entry{Actor: actor.Name, Action: action, Object: "flag/" + e.Flag, Environment: e.Environment, Reason: e.Reason, Outcome: audit.Done, Detail: string(fresh)})
}

// History returns what environments said of a flag, newest first.
func (f *Flags) History(ctx context.Context, key string, limit int) ([]Turn, error) {
	return sqldb.Rows(ctx, f.o.DB, func(rows *sql.Rows) (c Turn, err error) {
		var before, after []byte
		var at int64
		if err := rows.Scan(&c.Sequence, &c.Environment, &c.Flag, &before, &after, &c.By, &c.Reason, &at); err != nil {
			return c, err
		}
		c.At = sqldb.Time(at)
		if err := json.Unmarshal(before, &c.Before); err != nil {
			return c, err
		}
		return c, json.Unmarshal(after, &c.After)
	}, "SELECT sequence, environment, flag, before, after, changed_by, reason, changed_at FROM flag_change WHERE flag = ? ORDER BY sequence DESC LIMIT ?", key, limit)
}

// Variance is how what one environment makes of a flag differs from what
// another does.
type Variance struct {
	Flag string       `json:"flag"`
	From flag.Overlay `json:"from" doc:"What the one says of it"`
	To   flag.Overlay `json:"to" doc:"What the other says of it"`
	Text string       `json:"text" doc:"The same in a sentence"`
	// Blocked says why it cannot be carried over.
	Blocked string `json:"blocked,omitempty"`
}

// Diff tells which flags are different in another environment from what they
// are in one, and what keeps them from being carried over.
func (f *Flags) Diff(ctx context.Context, from, to string) ([]Variance, error) {
	a, err := f.Of(Scope{Environment: from})
	if err != nil {
		return nil, err
	}
	b, err := f.Of(Scope{Environment: to})
	if err != nil {
		return nil, err
	}
	var all []Variance
	for _, key := range a.Set.Keys() {
		there, found := b.Set.Flag(key)
		here, _ := a.Set.Flag(key)
		d := Variance{Flag: key, From: a.Overlays[key], To: b.Overlays[key]}
		switch {
		case !found:
			d.Blocked = fmt.Sprintf("%s has no such flag before a release brings it", to)
			d.Text = fmt.Sprintf("%s is not in %s", key, to)
		case sameText(here, there):
			continue
		default:
			d.Text = key + ": " + words(here, there, from, to)
			if err := there.Under(d.From).Check(key); err != nil {
				d.Blocked = problem.Of(err).Message
			}
		}
		all = append(all, d)
	}
	return all, nil
}

func sameText(a, b any) bool {
	x, failed := json.Marshal(a)
	y, err := json.Marshal(b)
	return failed == nil && err == nil && string(x) == string(y)
}

// words say how a flag differs between two environments.
func words(a, b flag.Flag, from, to string) string {
	var all []string
	if a.State != b.State {
		all = append(all, fmt.Sprintf("%s in %s, %s in %s", a.State, from, b.State, to))
	}
	if x, y := defaultOf(a), defaultOf(b); x != y {
		all = append(all, fmt.Sprintf("the default is %s in %s, %s in %s", x, from, y, to))
	}
	if string(a.Targeting) != string(b.Targeting) {
		all = append(all, "the rules differ")
	}
	if (a.Metadata[flag.MetaKilled] == true) != (b.Metadata[flag.MetaKilled] == true) {
		all = append(all, "its kill switch is thrown in one of them")
	}
	if len(all) == 0 {
		return "the definitions differ"
	}
	return strings.Join(all, "; ")
}

func defaultOf(f flag.Flag) string {
	if f.DefaultVariant == nil {
		return "none"
	}
	return *f.DefaultVariant
}

// Promote carries what one environment says of flags over to the next one, as
// one change. Kill switches are not carried over. A flag that was not
// exercised with several variants where it comes from stays behind, and so do
// all others with it, unless force says that this is known.
func (f *Flags) Promote(ctx context.Context, actor access.Actor, from, to string, keys []string, reason string, force bool) ([]Said, error) {
	if reason = strings.TrimSpace(reason); reason == "" || len(reason) > maxReason {
		return nil, problem.New(problem.Invalid, "say why, in 1 to %d characters", maxReason).At("reason")
	}
	differences, err := f.Diff(ctx, from, to)
	if err != nil {
		return nil, err
	}
	chosen, err := choose(differences, keys, from, to)
	if err != nil {
		return nil, err
	}
	if err := f.flush(ctx); err != nil {
		return nil, err
	}
	target, err := f.Of(Scope{Environment: to})
	if err != nil {
		return nil, err
	}
	for _, d := range chosen {
		if err := f.exercised(ctx, from, d.Flag); err != nil && !force {
			return nil, err
		}
	}
	all := make([]Said, len(chosen))
	err = f.o.DB.Commit(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		for i, d := range chosen {
			e := Edit{Environment: to, Flag: d.Flag, Reason: reason + " (as in " + from + ")"}
			if all[i], err = f.put(ctx, tx, actor, "flag.promote", e, target.Document.Flags[d.Flag], func(_ flag.Flag, before flag.Overlay) (flag.Overlay, error) {
				after := d.From
				after.Killed = before.Killed
				return after, nil
			}); err != nil {
				return err
			}
		}
		return nil
	})
	return all, f.settled(ctx, err)
}

// choose takes the differences that are to be carried over.
func choose(all []Variance, keys []string, from, to string) (chosen []Variance, err error) {
	for _, key := range keys {
		if !slices.ContainsFunc(all, func(d Variance) bool { return d.Flag == key }) {
			return nil, problem.New(problem.Conflict, "flag %s is the same in %s and %s, or in neither", key, from, to).At("flags")
		}
	}
	for _, d := range all {
		named := slices.Contains(keys, d.Flag)
		if len(keys) > 0 && !named || len(keys) == 0 && d.Blocked != "" {
			continue
		}
		if d.Blocked != "" {
			return nil, problem.New(problem.Conflict, "flag %s cannot be carried over: %s", d.Flag, d.Blocked).At("flags")
		}
		chosen = append(chosen, d)
	}
	if len(chosen) == 0 {
		return nil, problem.New(problem.Conflict, "no flag differs between %s and %s", from, to)
	}
	return chosen, nil
}

// exercised refuses a flag of which not every variant was given out.
func (f *Flags) exercised(ctx context.Context, environment, key string) error {
	seen, err := f.variantsSeen(ctx, environment, key, "")
	if err != nil {
		return err
	}
	s, err := f.Of(Scope{Environment: environment})
	if err != nil {
		return err
	}
	one := s.Document.Flags[key]
	if missing := unseen(one, seen); len(missing) > 0 {
		return problem.New(problem.Conflict, "flag %s was not exercised in %s with %s; do so first, or say force", key, environment, strings.Join(missing, ", ")).At("flags")
	}
	return nil
}
