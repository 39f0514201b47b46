package drift

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"encoding/json"
	"maps"
	"slices"
	"time"

	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/sqldb"
)

// declaredGroup is an enrolment group as it was declared through control.
type declaredGroup struct {
	name string
	spec []byte
	at   time.Time
}

// enrolments holds the groups that provisioning has against those declared.
// Single devices are not looked at one by one: there may be a million.
func (d *Drift) enrolments(ctx context.Context, v *view) error {
	asking, done := context.WithTimeout(ctx, askTime)
	defer done()
	have, err := d.o.Enrollments(asking)
	if err != nil {
		v.subjects = append(v.subjects, Subject{Kind: "enrolment", Object: "enrolment groups", Unseen: problem.Of(err).Message})
		return nil
	}
	declared, err := sqldb.Rows(ctx, d.o.DB, func(rows *sql.Rows) (g declaredGroup, err error) {
		var at int64
		err = rows.Scan(&g.name, &g.spec, &at)
		g.at = sqldb.Time(at)
		return g, err
	}, "SELECT name, spec, declared_at FROM declared_enrollment WHERE kind = ?", string(link.Group))
	if err != nil {
		return err
	}
	if declared, err = d.takeOver(ctx, declared, have, v.now); err != nil {
		return err
	}
	byName := map[string]Subject{}
	for _, g := range declared {
		var spec link.EnrollmentSpec
		if err := json.Unmarshal(g.spec, &spec); err != nil {
			return err
		}
		byName[g.name] = Subject{Environment: spec.Environment, Declared: g.spec, ChangedAt: g.at}
	}
	for _, e := range have {
		s := byName[e.Name]
		if s.Environment == "" {
			s.Environment = e.Spec.Environment
		}
		s.Live = text(withoutKeys(e.Spec))
		byName[e.Name] = s
	}
	for _, name := range slices.Sorted(maps.Keys(byName)) {
		s := byName[name]
		s.Kind, s.Object, s.SeenAt, s.Sets = "enrolment", "enrolment group/"+name, v.now, sets
		v.subjects = append(v.subjects, s)
	}
	return nil
}

// seeded marks that the groups which were there before anybody looked were
// taken for declared.
const seeded = "seeded"

// takeOver takes the groups that are there when it is first looked for
// declared: an installation may be older than this look.
func (d *Drift) takeOver(ctx context.Context, declared []declaredGroup, have []link.Enrollment, now time.Time) ([]declaredGroup, error) {
	_, done, err := sqldb.Row(ctx, d.o.DB, func(rows *sql.Rows) (s string, err error) { return s, rows.Scan(&s) }, "SELECT name FROM declared_enrollment WHERE kind = ?", seeded)
	if err != nil || done {
		return declared, err
	}
	for _, e := range have {
		if !slices.ContainsFunc(declared, func(g declaredGroup) bool { return g.name == e.Name }) {
			declared = append(declared, declaredGroup{e.Name, text(withoutKeys(e.Spec)), now})
		}
	}
	return declared, d.o.DB.Commit(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		for _, g := range declared {
			if _, err := tx.Exec(ctx, "INSERT INTO declared_enrollment (kind, name, spec, declared_at) VALUES (?, ?, ?, ?) ON CONFLICT (kind, name) DO NOTHING", string(link.Group), g.name, string(g.spec), sqldb.Micros(g.at)); err != nil {
				return err
			}
		}
		_, err := tx.Exec(ctx, "INSERT INTO declared_enrollment (kind, name, spec, declared_at) VALUES (?, '', '', ?) ON CONFLICT (kind, name) DO NOTHING", seeded, sqldb.Micros(now))
		return err
	})
}

// withoutKeys is an enrolment with its key as a digest.
func withoutKeys(s link.EnrollmentSpec) link.EnrollmentSpec {
	if k := s.Attestation.SymmetricKey; k != nil {
		sum := sha256.Sum256([]byte("slipway enrolment keys\x00" + k.PrimaryKey + "\x00" + k.SecondaryKey))
		s.Attestation.SymmetricKey = &link.SymmetricKey{PrimaryKey: "sha256:" + hex.EncodeToString(sum[:])}
	}
	return s
}
