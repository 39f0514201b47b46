// Package release keeps the immutable sets of what runs, on devices and beside
// them, and tells in words how two of them differ.
package release

import (
	"bytes"
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"time"

	"github.com/slipway/slipway/internal/control/access"
	"github.com/slipway/slipway/internal/control/artifact"
	"github.com/slipway/slipway/internal/control/audit"
	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/resource"
	"github.com/slipway/slipway/internal/sqldb"
)

// Releases are the releases of an installation.
type Releases struct {
	db        *sqldb.DB
	artifacts *artifact.Artifacts
	audit     *audit.Log
	now       func() time.Time
}

// New returns the releases kept in db, of artifacts.
func New(db *sqldb.DB, artifacts *artifact.Artifacts, log *audit.Log, now func() time.Time) *Releases {
	return &Releases{db, artifacts, log, now}
}

const selectReleases = "SELECT name, digest, counter, spec, created_at, created_by FROM release"

func scan(rows *sql.Rows) (r link.Release, err error) {
	var spec []byte
	var created int64
	if err := rows.Scan(&r.Name, &r.Digest, &r.Counter, &spec, &created, &r.CreatedBy); err != nil {
		return r, err
	}
	r.CreatedAt = sqldb.Time(created)
	return r, json.Unmarshal(spec, &r.Spec)
}

// Get returns a release.
func (r *Releases) Get(ctx context.Context, name string) (link.Release, error) {
	return r.GetIn(ctx, r.db, name)
}

// GetIn is Get as part of a change.
func (r *Releases) GetIn(ctx context.Context, q sqldb.Querier, name string) (link.Release, error) {
	one, found, err := sqldb.Row(ctx, q, scan, selectReleases+" WHERE name = ?", name)
	if err == nil && !found {
		err = problem.New(problem.NotFound, "there is no release %q", name)
	}
	return one, err
}

// List returns releases whose counter is smaller than before (0: the newest),
// newest first.
func (r *Releases) List(ctx context.Context, before int64, limit int) ([]link.Release, error) {
	if before <= 0 {
		before = 1 << 62
	}
	return sqldb.Rows(ctx, r.db, scan, selectReleases+" WHERE counter < ? ORDER BY counter DESC LIMIT ?", before, limit)
}

// Create makes a release. Made again with the same content it is the one that
// is there; other content needs another name.
func (r *Releases) Create(ctx context.Context, actor access.Actor, name string, spec link.ReleaseSpec) (made link.Release, err error) {
	if err := resource.CheckName(resource.KindRelease, name); err != nil {
		return made, err
	}
	if spec, err = resource.CheckRelease(spec); err != nil {
		return made, err
	}
	components, err := r.components(ctx, spec.SBOM)
	if err != nil {
		return made, err
	}
	list, err := json.Marshal(components)
	if err != nil {
		return made, err
	}
	err = r.db.Commit(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		used, err := r.use(ctx, tx, spec)
		if err != nil {
			return err
		}
		text, digest, err := Canonical(used.spec)
		if err != nil {
			return err
		}
		old, found, err := sqldb.Row(ctx, tx, scan, selectReleases+" WHERE name = ?", name)
		switch {
		case err != nil:
			return err
		case found && old.Digest == digest:
			made = old
			return nil
		case found:
			return problem.New(problem.Conflict, "release %s is there with other content, and a release does not change; choose another name", name).At("metadata.name")
		case len(text) > resource.MaxReleaseSpec:
			return problem.New(problem.TooLarge, "a release has at most %d bytes beside its artifacts, not %d", resource.MaxReleaseSpec, len(text)).At("spec")
		}
		now := r.now().UTC().Truncate(time.Microsecond)
		if _, err := tx.Exec(ctx, "INSERT INTO release (name, digest, spec, components, created_at, created_by) VALUES (?, ?, ?, ?, ?, ?)",
			name, digest, string(text), string(list), sqldb.Micros(now), actor.Name); err != nil {
			return err
		}
		for sha256 := range used.artifacts {
			if _, err := tx.Exec(ctx, "INSERT INTO release_artifact (release, sha256) VALUES (?, ?)", name, sha256); err != nil {
				return err
			}
		}
		if made, err = r.GetIn(ctx, tx, name); err != nil {
			return err
		}
		return r.audit.Record(ctx, tx, audit.Entry{Actor: actor.Name, Action: "release.create", Object: "release/" + name, Outcome: audit.Done, After: "sha256:" + digest})
	})
	return made, err
}

// using is a release whose artifacts are all here.
type using struct {
	spec      link.ReleaseSpec
	artifacts map[string]artifact.File
}

// use looks up every artifact and fills in what is known of it. It copies what
// it changes, as a change may run twice.
func (r *Releases) use(ctx context.Context, tx *sqldb.Tx, spec link.ReleaseSpec) (using, error) {
	u := using{spec: spec, artifacts: map[string]artifact.File{}}
	fill := func(at string, from []link.Artifact) ([]link.Artifact, error) {
		var all []link.Artifact
		for i, a := range from {
			f, err := r.artifacts.Use(ctx, tx, a.SHA256)
			if err != nil {
				return nil, unusable(err, fmt.Sprintf("%s[%d].sha256", at, i))
			}
			if a.Size != 0 && a.Size != f.Size {
				return nil, problem.New(problem.Invalid, "artifact %s has %d bytes, not %d", a.SHA256, f.Size, a.Size).At(fmt.Sprintf("%s[%d].size", at, i))
			}
			u.artifacts[f.SHA256] = f
			all = append(all, link.Artifact{File: a.File, Size: f.Size, SHA256: f.SHA256, SHA1: f.SHA1, MD5: f.MD5})
		}
		return all, nil
	}
	u.spec.Software = nil
	for i, s := range spec.Software {
		var err error
		if s.Artifacts, err = fill(fmt.Sprintf("spec.software[%d].artifacts", i), s.Artifacts); err != nil {
			return u, err
		}
		u.spec.Software = append(u.spec.Software, s)
	}
	u.spec.Routes = nil
	for i, route := range spec.Routes {
		if p := route.Spec.Processor; p != nil {
			filled, err := fill(fmt.Sprintf("spec.routes[%d].spec.processor.artifact", i), []link.Artifact{p.Artifact})
			if err != nil {
				return u, err
			}
			processor := *p
			processor.Artifact, route.Spec.Processor = filled[0], &processor
		}
		u.spec.Routes = append(u.spec.Routes, route)
	}
	var err error
	u.spec.SBOM, err = fill("spec.sbom", spec.SBOM)
	return u, err
}

// unusable says of an artifact that is not here that the release is at fault.
func unusable(err error, at string) error {
	if problem.Is(err, problem.NotFound) || problem.Is(err, problem.NotReady) {
		return problem.New(problem.Invalid, "%s", problem.Of(err).Message).At(at)
	}
	return err
}

// Canonical returns a release's content in the one form that it has, and the
// hex SHA-256 of that: members in order of name, no spaces, numbers as short
// as they can be.
func Canonical(spec link.ReleaseSpec) (text []byte, digest string, err error) {
	plain, err := json.Marshal(spec)
	if err != nil {
		return nil, "", err
	}
	var value any
	if err := json.Unmarshal(plain, &value); err != nil {
		return nil, "", err
	}
	var b bytes.Buffer
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(value); err != nil {
		return nil, "", err
	}
	text = bytes.TrimSuffix(b.Bytes(), []byte("\n"))
	sum := sha256.Sum256(text)
	return text, hex.EncodeToString(sum[:]), nil
}

// Delete removes a release that was never let into an environment.
func (r *Releases) Delete(ctx context.Context, actor access.Actor, name string) error {
	return r.db.Commit(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		promoted, found, err := sqldb.Row(ctx, tx, func(rows *sql.Rows) (at sql.NullInt64, err error) { return at, rows.Scan(&at) }, "SELECT promoted_at FROM release WHERE name = ?", name)
		switch {
		case err != nil:
			return err
		case !found:
			return problem.New(problem.NotFound, "there is no release %q", name)
		case promoted.Valid:
			return problem.New(problem.Conflict, "release %s was let into an environment at %s, and stays so that what ran can always be told", name, sqldb.Time(promoted.Int64).Format(time.RFC3339))
		}
		if _, err := tx.Exec(ctx, "DELETE FROM release_artifact WHERE release = ?", name); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, "DELETE FROM release WHERE name = ?", name); err != nil {
			return err
		}
		return r.audit.Record(ctx, tx, audit.Entry{Actor: actor.Name, Action: "release.delete", Object: "release/" + name, Outcome: audit.Done})
	})
}

// Promoted notes that a release was let into an environment: from then on it
// cannot be deleted.
func (r *Releases) Promoted(ctx context.Context, tx *sqldb.Tx, name string) error {
	_, err := tx.Exec(ctx, "UPDATE release SET promoted_at = ? WHERE name = ? AND promoted_at IS NULL", sqldb.Micros(r.now()), name)
	return err
}

// Components returns what the bills of materials of a release list.
func (r *Releases) Components(ctx context.Context, name string) ([]Component, error) {
	text, found, err := sqldb.Row(ctx, r.db, func(rows *sql.Rows) (text []byte, err error) { return text, rows.Scan(&text) }, "SELECT components FROM release WHERE name = ?", name)
	if err != nil {
		return nil, err
	}
	if !found {
		return nil, problem.New(problem.NotFound, "there is no release %q", name)
	}
	var all []Component
	return all, json.Unmarshal(text, &all)
}

// Diff tells how release b differs from release a.
func (r *Releases) Diff(ctx context.Context, a, b string) ([]Change, error) {
	var sides [2]Side
	for i, name := range []string{a, b} {
		one, err := r.Get(ctx, name)
		if err != nil {
			return nil, err
		}
		components, err := r.Components(ctx, name)
		if err != nil {
			return nil, err
		}
		sides[i] = Side{one.Spec, components}
	}
	return Diff(sides[0], sides[1]), nil
}
