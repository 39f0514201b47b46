package rehearse

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"sort"
	"strings"
	"time"

	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/sqldb"
	"github.com/slipway/slipway/internal/stamp/twin"
	"github.com/slipway/slipway/internal/transform"
)

// onTwins is how checks of twins are told.
const onTwins = "twins"

// twins carries out what the release does to twins.
func (x *run) twins(ctx context.Context) error {
	var wants *transform.Schema
	if reads := x.work.Release.Spec.Reads; reads != nil && len(reads.Twin) > 0 {
		var err error
		if wants, err = transform.ParseSchema(reads.Twin); err != nil {
			return err
		}
	}
	if err := x.readable(ctx, wants, "on data as it was"); err != nil {
		return err
	}
	migrated := false
	for _, m := range x.work.Release.Spec.Migrations {
		if m.Kind != "twin" {
			continue
		}
		migrated = true
		if err := x.migrateTwins(ctx, m); err != nil {
			return err
		}
	}
	if !migrated {
		x.verdict("migrate", onTwins, "", link.NothingToDo, "the release changes no twins")
		return nil
	}
	return x.readable(ctx, wants, "on migrated data")
}

// readable holds every twin against what the release's program expects.
func (x *run) readable(ctx context.Context, wants *transform.Schema, when string) error {
	if wants == nil {
		x.verdict("new code", onTwins, "", link.NothingToDo, "the release does not say what its program expects of twins (spec.reads.twin)")
		return nil
	}
	found := findings{}
	err := x.step("new code "+when, func() (string, error) {
		n := 0
		err := x.eachTwin(ctx, func(t stored) error {
			n++
			if breach := wants.Breach(t.document()); breach != "" {
				found.add(breach)
			}
			return nil
		})
		return fmt.Sprintf("%d twins", n), err
	})
	if err == nil {
		x.check("new code", onTwins, "", found.err("the release's program cannot read %d twins "+when), "the release's program reads every twin "+when)
	}
	return err
}

// findings count what was found, by what it is.
type findings map[string]int

func (f findings) add(what string) {
	if _, known := f[what]; known || len(f) < 200 {
		f[what]++
	}
}

// err is a failure of all of them; about is told how many documents they are of
// at most.
func (f findings) err(about string) error {
	if len(f) == 0 {
		return nil
	}
	all, total := slices.Sorted(maps.Keys(f)), 0
	sort.SliceStable(all, func(i, j int) bool { return f[all[i]] > f[all[j]] })
	for i, what := range all {
		total = max(total, f[what])
		all[i] = fmt.Sprintf("%s (%d times)", what, f[what])
	}
	return fmt.Errorf(about+": %s", total, strings.Join(all[:min(len(all), 5)], "; "))
}

// stored is a twin as the copy has it.
type stored struct {
	id                     string
	tags, desired, reports map[string]any
}

// document is a twin as programs of releases see it.
func (t stored) document() map[string]any {
	return map[string]any{"deviceId": t.id, "tags": t.tags, "properties": map[string]any{"desired": t.desired, "reported": t.reports}}
}

const pageOfTwins = 500

// page reads twins behind one.
func page(ctx context.Context, from *sqldb.Bench, after string) (all []stored, err error) {
	err = from.Each(ctx, fmt.Sprintf("SELECT device_id, tags, desired, reported FROM twin WHERE device_id > ? ORDER BY device_id LIMIT %d", pageOfTwins), func(row []any) error {
		t := stored{id: fmt.Sprint(text(row[0]))}
		for i, into := range []*map[string]any{&t.tags, &t.desired, &t.reports} {
			if *into, err = decode(fmt.Sprint(text(row[i+1]))); err != nil {
				return err
			}
			*into = transform.Canonical(*into)
		}
		all = append(all, t)
		return nil
	}, after)
	return all, err
}

func (x *run) eachTwin(ctx context.Context, do func(stored) error) error {
	for after := ""; ; {
		all, err := page(ctx, x.stamp, after)
		if err != nil || len(all) == 0 {
			return err
		}
		for _, t := range all {
			if err := do(t); err != nil {
				return err
			}
		}
		after = all[len(all)-1].id
	}
}

// twinMigration is one while it runs.
type twinMigration struct {
	link.Migration
	up, down   *transform.Program
	conditions map[string]*transform.Program
	reads      *transform.Schema // of the program that runs now; nil where it does not say

	changed, old                                 int64
	failed, lost, refused, broken, unread, norev findings
}

func (x *run) newTwinMigration(m link.Migration) (t *twinMigration, err error) {
	t = &twinMigration{Migration: m, conditions: map[string]*transform.Program{}, failed: findings{}, lost: findings{}, refused: findings{}, broken: findings{}, unread: findings{}, norev: findings{}}
	if t.up, err = transform.Parse(m.Up); err != nil {
		return nil, err
	}
	if m.Down != "" {
		if t.down, err = transform.Parse(m.Down); err != nil {
			return nil, err
		}
	}
	for _, one := range m.Invariants {
		if t.conditions[one.Name], err = transform.Parse(one.Holds); err != nil {
			return nil, err
		}
	}
	if running := x.work.Running; running != nil && running.Spec.Reads != nil && len(running.Spec.Reads.Twin) > 0 {
		t.reads, err = transform.ParseSchema(running.Spec.Reads.Twin)
	}
	return t, err
}

// migrateTwins changes every twin, some at a time, and looks at each.
func (x *run) migrateTwins(ctx context.Context, m link.Migration) error {
	t, err := x.newTwinMigration(m)
	if err != nil {
		return err
	}
	rows, err := counted(ctx, x.stamp)
	if err != nil {
		return err
	}
	seen := link.RehearsedMigration{Name: m.Name, Kind: m.Kind, On: stampData}
	seen.Before, _ = x.stamp.Size(ctx)
	var total int64
	err = x.step("migrate twins: "+m.Name, func() (string, error) {
		begun := time.Now()
		w, err := x.watched(ctx, x.stamp, rows, func(func(uint32)) error {
			for after := ""; ; {
				n, last, err := x.migratePage(ctx, t, after)
				if total, after = total+n, last; err != nil || n == 0 {
					return err
				}
			}
		})
		if seen.Milliseconds = time.Since(begun).Milliseconds(); w != nil {
			w.into(&seen)
		}
		return fmt.Sprintf("%d of %d twins changed", t.changed, total), err
	})
	if err != nil {
		return err
	}
	seen.Rows = t.changed
	seen.After, _ = x.stamp.Size(ctx)
	x.e.Migrations = append(x.e.Migrations, seen)
	now, err := counted(ctx, x.stamp)
	if err != nil {
		return err
	}
	x.judgeTwins(t, total, fewer(map[string]int64{"twin": rows["twin"], "device": rows["device"]}, now, nil))
	return nil
}

// judgeTwins says what was found of a migration of twins.
func (x *run) judgeTwins(t *twinMigration, total int64, gone error) {
	failed := t.failed.err("%d twins could not be migrated")
	if failed == nil {
		failed = t.refused.err("%d twins are not what a hub takes")
	}
	x.check("migrate", onTwins, t.Name, failed, fmt.Sprintf("%d of %d twins changed", t.changed, total))
	lost := t.lost.err("values of %d twins are lost that the migration does not say it drops")
	if lost == nil {
		lost = gone
	}
	x.check("kept", onTwins, t.Name, lost, "no value is lost but what is dropped on purpose")
	if len(t.conditions) > 0 {
		x.check("invariants", onTwins, t.Name, t.broken.err("conditions that held of %d twins do not hold any more"), fmt.Sprintf("%d conditions hold of every twin of which they held", len(t.conditions)))
	}
	switch {
	case x.work.Running == nil:
		x.verdict("old code", onTwins, t.Name, link.NothingToDo, "no release runs there whose program could read the twins")
	case t.reads != nil && t.old == 0 && total > 0:
		x.verdict("old code", onTwins, t.Name, link.Inconclusive, fmt.Sprintf("no twin was as %s says that it reads them (its spec.reads.twin), even before", x.work.Running.Name))
	default:
		how := "what it reads"
		if t.reads == nil {
			how = "every name that was there, with a value of the same type; what it really reads it does not say (its spec.reads.twin)"
		}
		x.check("old code", onTwins, t.Name, t.unread.err("the program of "+x.work.Running.Name+", which runs there, cannot read %d twins any more"), x.work.Running.Name+", which runs there, finds "+how)
	}
	if t.down != nil {
		x.check("way back", onTwins, t.Name, t.norev.err("taking it back does not lead to %d twins as they were"), "taken back, every twin is as it was")
	}
}

// migratePage changes some twins in one transaction.
func (x *run) migratePage(ctx context.Context, t *twinMigration, after string) (n int64, last string, err error) {
	all, err := page(ctx, x.stamp, after)
	if err != nil || len(all) == 0 {
		return 0, "", err
	}
	made := make([]*stored, len(all))
	for i, before := range all {
		now, ok, err := t.apply(ctx, before)
		if err != nil {
			return 0, "", err
		}
		if ok && !reflect.DeepEqual(now, before) {
			t.changed++
			made[i] = &now
		}
	}
	x.turn.Lock()
	defer x.turn.Unlock()
	err = x.stamp.Within(ctx, true, func(w sqldb.Work) error {
		for i, now := range made {
			if now == nil {
				continue
			}
			if err := x.writeTwin(ctx, w, all[i], *now); err != nil {
				return err
			}
		}
		return nil
	})
	return int64(len(all)), all[len(all)-1].id, err
}

// writeTwin stores a twin as the hub would have: with the versions that grow,
// and the index of its tags.
func (x *run) writeTwin(ctx context.Context, w sqldb.Work, before, now stored) error {
	texts := make([]any, 0, 6)
	for _, part := range []map[string]any{now.tags, now.desired, metadata(now.desired), now.reports, metadata(now.reports)} {
		encoded, err := twin.Encode(part)
		if err != nil {
			return err
		}
		texts = append(texts, string(encoded))
	}
	edited, desired := 0, 0
	if !reflect.DeepEqual(before.desired, now.desired) {
		edited, desired = 1, 1
	}
	retagged := !reflect.DeepEqual(before.tags, now.tags)
	if retagged {
		edited = 1
	}
	err := w.Exec(ctx, fmt.Sprintf(`UPDATE twin SET version = version + 1, etag_version = etag_version + %d, desired_version = desired_version + %d,
		tags = ?, desired = ?, desired_meta = ?, reported = ?, reported_meta = ? WHERE device_id = ?`, edited, desired), append(texts, now.id)...)
	if err != nil || !retagged {
		return err
	}
	if err := w.Exec(ctx, "DELETE FROM tag WHERE device_id = ?", now.id); err != nil {
		return err
	}
	rows, err := tagRows(x.stamp.Dialect(), now.id, nil, now.tags)
	for _, row := range rows {
		if err := w.Exec(ctx, "INSERT INTO tag (path, value, device_id) VALUES (?, ?, ?)", row...); err != nil {
			return err
		}
	}
	return err
}

// apply changes one twin and looks at what became of it; ok is false where it
// stays as it is because that failed.
func (t *twinMigration) apply(ctx context.Context, before stored) (now stored, ok bool, err error) {
	document := before.document()
	made, err := t.up.Apply(ctx, document)
	if ctx.Err() != nil {
		return now, false, ctx.Err()
	}
	if err == nil {
		now, err = storedOf(before.id, made)
	}
	if err != nil {
		t.failed.add(told(err))
		return now, false, nil
	}
	if err := acceptable(now); err != nil {
		t.refused.add(told(err))
		return now, false, nil
	}
	t.look(ctx, before, now)
	if t.down != nil {
		back, err := t.down.Apply(ctx, now.document())
		if err != nil {
			t.norev.add(told(err))
		} else if !reflect.DeepEqual(back, document) {
			t.norev.add("it is another document")
		}
	}
	return now, true, nil
}

// look holds a twin as it is against what it was.
func (t *twinMigration) look(ctx context.Context, before, now stored) {
	for _, field := range lost(before.sections(), now.sections(), t.Drops) {
		t.lost.add(field)
	}
	for name, condition := range t.conditions {
		held, err := condition.Holds(ctx, before.document())
		if err != nil || !held {
			continue
		}
		if holds, err := condition.Holds(ctx, now.document()); err != nil || !holds {
			t.broken.add(name)
		}
	}
	if t.reads == nil {
		for _, breach := range reshaped(before.sections(), now.sections()) {
			t.unread.add(breach)
		}
		return
	}
	if t.reads.Breach(before.document()) == "" {
		t.old++
		if breach := t.reads.Breach(now.document()); breach != "" {
			t.unread.add(breach)
		}
	}
}

// sections are a twin's documents by the names that fields begin with.
func (t stored) sections() map[string]any {
	return map[string]any{"tags": t.tags, "desired": t.desired, "reported": t.reports}
}

// storedOf takes apart what a program made of a twin.
func storedOf(id string, made map[string]any) (t stored, err error) {
	t.id = id
	properties, _ := made["properties"].(map[string]any)
	var isTags, isDesired, isReported bool
	t.tags, isTags = made["tags"].(map[string]any)
	t.desired, isDesired = properties["desired"].(map[string]any)
	t.reports, isReported = properties["reported"].(map[string]any)
	switch {
	case made["deviceId"] != id:
		return t, fmt.Errorf("deviceId is not what it was")
	case !isTags || !isDesired || !isReported:
		return t, fmt.Errorf("tags, properties.desired and properties.reported are not three objects")
	case len(made) != 3 || len(properties) != 2:
		return t, fmt.Errorf("there is more beside tags and properties, which a twin does not have")
	}
	return t, nil
}

// acceptable holds a twin against what a hub takes.
func acceptable(t stored) error {
	var content link.TwinContent
	for _, part := range []struct {
		from map[string]any
		into *json.RawMessage
	}{{t.tags, &content.Tags}, {t.desired, &content.Desired}, {t.reports, &content.Reported}} {
		text, err := twin.Encode(part.from)
		if err != nil {
			return err
		}
		*part.into = text
	}
	_, err := twin.New(t.id, &content, time.Unix(0, 0))
	return err
}
