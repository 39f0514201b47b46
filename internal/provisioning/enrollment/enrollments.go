package enrollment

import (
	"bytes"
	"context"
	"encoding/json"
	"strings"
	"sync"
	"time"

	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/provisioning/attestation"
	"github.com/slipway/slipway/internal/provisioning/authority"
	"github.com/slipway/slipway/internal/sqldb"
)

// Enrollments are all enrolments of the plane.
type Enrollments struct {
	db     *sqldb.DB
	secret []byte // of which keys for TPMs are made
	now    func() time.Time

	mu     sync.Mutex
	groups *attestation.Groups // nil when they must be read again
}

// New returns the enrolments kept in db. Keys for TPMs are made of the secret.
func New(db *sqldb.DB, secret []byte, now func() time.Time) *Enrollments {
	return &Enrollments{db: db, secret: secret, now: now}
}

// Challenge is a key sealed for the TPM that a device shows, by which it can
// prove that it has it.
func (e *Enrollments) Challenge(claim attestation.Claim) ([]byte, error) {
	return attestation.Challenge(e.secret, claim.RegistrationID, *claim.TPM, e.now())
}

// Put creates or replaces an enrolment. Putting what is there already changes
// nothing, so that an unchanged file can be applied again.
func (e *Enrollments) Put(ctx context.Context, req link.PutEnrollment) (link.Enrollment, error) {
	var result stored
	apply := func(ctx context.Context, q sqldb.Querier) (changed bool, err error) {
		before, found, err := load(ctx, q, req.Kind, req.Name)
		if err != nil {
			return false, err
		}
		if found && req.New {
			return false, problem.New(problem.Conflict, "there is an enrolment %q already", before.Name)
		}
		if err := match(req.IfMatch, before.ETag, found, req.Name); err != nil {
			return false, err
		}
		if req.Spec, err = authority.Fill(ctx, q, req.Spec); err != nil {
			return false, err
		}
		result, changed, err = replaced(before, found, req, e.now())
		return changed, err
	}
	if req.DryRun {
		_, err := apply(ctx, e.db)
		return result.Enrollment, err
	}
	err := e.db.Commit(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		changed, err := apply(ctx, tx)
		if err != nil || !changed {
			return err
		}
		if err := save(ctx, tx, result); err != nil || result.version == 1 {
			return err
		}
		// The devices' stamps are told in the background, however many they are.
		_, err = tx.Exec(ctx, "INSERT INTO renewal (kind, name, after) VALUES (?, ?, '') ON CONFLICT (kind, name) DO UPDATE SET after = ''", string(result.Kind), result.Name)
		return err
	})
	e.forget()
	return result.Enrollment, err
}

// replaced is the enrolment after a put.
func replaced(before stored, found bool, req link.PutEnrollment, now time.Time) (after stored, changed bool, err error) {
	now = now.UTC().Truncate(time.Microsecond)
	after = stored{Enrollment: link.Enrollment{Kind: req.Kind, Name: req.Name, CreatedAt: now, UpdatedAt: now}, version: 1}
	var old *link.EnrollmentSpec
	if found {
		old = &before.Spec
		after.Name, after.CreatedAt, after.version = before.Name, before.CreatedAt, before.version+1
	}
	after.Spec = complete(req.Spec, old)
	after.ETag = etag(after.version)
	if err := validate(after.Enrollment); err != nil {
		return stored{}, false, err
	}
	if found && same(after.Spec, before.Spec) {
		return before, false, nil
	}
	return after, true, nil
}

func same(a, b link.EnrollmentSpec) bool {
	left, errLeft := json.Marshal(a)
	right, errRight := json.Marshal(b)
	return errLeft == nil && errRight == nil && bytes.Equal(left, right)
}

// match checks the ETag a caller holds against the one there is.
func match(want, have string, found bool, name string) error {
	want = strings.Trim(want, `"`)
	switch {
	case want == "":
		return nil
	case !found:
		return problem.New(problem.Stale, "there is no enrolment %q to replace", name)
	case want != "*" && want != have:
		return problem.New(problem.Stale, "the enrolment %q was changed meanwhile (its ETag is %s, not %s); read it again", name, have, want)
	}
	return nil
}

// Get finds an enrolment.
func (e *Enrollments) Get(ctx context.Context, ref link.EnrollmentRef) (link.Enrollment, error) {
	found, ok, err := load(ctx, e.db, ref.Kind, ref.Name)
	if err == nil && !ok {
		err = problem.New(problem.NotFound, "there is no enrolment %q", ref.Name)
	}
	return found.Enrollment, err
}

// Delete removes an enrolment. Devices assigned through it stay where they
// are; they cannot register again.
func (e *Enrollments) Delete(ctx context.Context, ref link.EnrollmentRef) error {
	err := e.db.Commit(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		before, found, err := load(ctx, tx, ref.Kind, ref.Name)
		if err != nil {
			return err
		}
		if !found {
			return problem.New(problem.NotFound, "there is no enrolment %q", ref.Name)
		}
		if err := match(ref.IfMatch, before.ETag, found, ref.Name); err != nil {
			return err
		}
		return remove(ctx, tx, ref.Kind, ref.Name)
	})
	e.forget()
	return err
}

// List returns a page in order of name.
func (e *Enrollments) List(ctx context.Context, req link.ListEnrollments) (link.Enrollments, error) {
	limit := req.Limit
	if limit <= 0 || limit > link.MaxPage {
		limit = link.MaxPage
	}
	rows, err := list(ctx, e.db, req.Kind, req.After, limit+1)
	if err != nil {
		return link.Enrollments{}, err
	}
	page := link.Enrollments{More: len(rows) > limit, Items: []link.Enrollment{}}
	for _, row := range rows[:min(limit, len(rows))] {
		page.Items = append(page.Items, row.Enrollment)
	}
	return page, nil
}

// Attest checks a device's claim against the enrolments.
func (e *Enrollments) Attest(ctx context.Context, claim attestation.Claim) (attestation.Proof, error) {
	individual, err := e.individual(ctx, claim.RegistrationID)
	if err != nil {
		return attestation.Proof{}, err
	}
	groups, err := e.readGroups(ctx)
	if err != nil {
		return attestation.Proof{}, err
	}
	return attestation.Attest(claim, individual, groups, e.now())
}

func (e *Enrollments) individual(ctx context.Context, id string) (*attestation.Entry, error) {
	found, ok, err := load(ctx, e.db, link.Individual, id)
	if err != nil || !ok {
		return nil, err
	}
	entry, err := attestation.NewEntry(found.Enrollment)
	entry.Secret = e.secret
	return &entry, err
}

// readGroups reads all groups once and keeps them until one changes: a device
// does not say which group it belongs to.
func (e *Enrollments) readGroups(ctx context.Context) (*attestation.Groups, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.groups != nil {
		return e.groups, nil
	}
	var entries []attestation.Entry
	for after := ""; ; {
		rows, err := list(ctx, e.db, link.Group, after, link.MaxPage)
		if err != nil {
			return nil, err
		}
		for _, row := range rows {
			entry, err := attestation.NewEntry(row.Enrollment)
			if err != nil {
				return nil, err
			}
			entries = append(entries, entry)
			after = row.Name
		}
		if len(rows) < link.MaxPage {
			break
		}
	}
	e.groups = attestation.NewGroups(entries)
	return e.groups, nil
}

func (e *Enrollments) forget() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.groups = nil
}
