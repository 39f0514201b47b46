package enrollment

import (
	"encoding/base64"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/provisioning/attestation"
	"github.com/slipway/slipway/internal/provisioning/migrations"
	"github.com/slipway/slipway/internal/sastoken"
	"github.com/slipway/slipway/internal/sqldb"
	"github.com/slipway/slipway/internal/sqldb/sqldbtest"
)

var now = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func open(t *testing.T) *Enrollments {
	t.Helper()
	db, err := sqldb.Open(t.Context(), sqldbtest.At(t), migrations.Files)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	return New(db, []byte("secret"), func() time.Time { return now })
}

func group(name string) link.PutEnrollment {
	return link.PutEnrollment{Kind: link.Group, Name: name, Spec: link.EnrollmentSpec{
		Environment: "test", Attestation: link.Attestation{SymmetricKey: &link.SymmetricKey{}},
	}}
}

func put(t *testing.T, e *Enrollments, req link.PutEnrollment) link.Enrollment {
	t.Helper()
	stored, err := e.Put(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	return stored
}

func TestMissingKeysAreMadeOnceAndKept(t *testing.T) {
	e := open(t)
	dry := group("line-7")
	dry.DryRun = true
	put(t, e, dry)
	if _, err := e.Get(t.Context(), link.EnrollmentRef{Kind: link.Group, Name: "line-7"}); !problem.Is(err, problem.NotFound) {
		t.Errorf("a dry run stored it: %v", err)
	}
	first := put(t, e, group("line-7"))
	keys := *first.Spec.Attestation.SymmetricKey
	if keys.PrimaryKey == "" || keys.SecondaryKey == "" || keys.PrimaryKey == keys.SecondaryKey || first.Spec.Reprovision != link.ReprovisionMigrate {
		t.Fatalf("completed to %+v", first.Spec)
	}
	if again := put(t, e, group("LINE-7")); again.ETag != first.ETag || *again.Spec.Attestation.SymmetricKey != keys {
		t.Errorf("putting the same again changed it: %s, %s", first.ETag, again.ETag)
	}
	changed := group("line-7")
	changed.Spec.Environment = "production"
	if after := put(t, e, changed); after.ETag == first.ETag || *after.Spec.Attestation.SymmetricKey != keys || after.Name != "line-7" {
		t.Errorf("another environment: %+v", after)
	}
}

func TestETags(t *testing.T) {
	e := open(t)
	req := group("g")
	req.IfMatch = "*"
	if _, err := e.Put(t.Context(), req); !problem.Is(err, problem.Stale) {
		t.Errorf("replacing nothing: %v", err)
	}
	first := put(t, e, group("g"))
	req.Spec.Disabled = true
	put(t, e, req)
	req.IfMatch, req.Spec.Disabled = first.ETag, false
	if _, err := e.Put(t.Context(), req); !problem.Is(err, problem.Stale) {
		t.Errorf("an old ETag: %v", err)
	}
	ref := link.EnrollmentRef{Kind: link.Group, Name: "g", IfMatch: first.ETag}
	if err := e.Delete(t.Context(), ref); !problem.Is(err, problem.Stale) {
		t.Errorf("deleting by an old ETag: %v", err)
	}
	ref.IfMatch = ""
	if err := e.Delete(t.Context(), ref); err != nil {
		t.Error(err)
	}
	if err := e.Delete(t.Context(), ref); !problem.Is(err, problem.NotFound) {
		t.Errorf("deleting twice: %v", err)
	}
}

func TestListGoesPageByPage(t *testing.T) {
	e := open(t)
	for _, name := range []string{"b", "A", "c"} {
		put(t, e, group(name))
	}
	page, err := e.List(t.Context(), link.ListEnrollments{Kind: link.Group, Limit: 2})
	if err != nil || len(page.Items) != 2 || !page.More || page.Items[0].Name != "A" {
		t.Fatalf("%+v, %v", page, err)
	}
	page, err = e.List(t.Context(), link.ListEnrollments{Kind: link.Group, Limit: 2, After: page.Items[1].Name})
	if err != nil || len(page.Items) != 1 || page.More {
		t.Errorf("%+v, %v", page, err)
	}
}

func TestAttestSeesEachChangeAtOnce(t *testing.T) {
	e := open(t)
	req := group("g")
	stored := put(t, e, req)
	entry, err := attestation.NewEntry(stored)
	if err != nil {
		t.Fatal(err)
	}
	attest := func() error {
		t.Helper()
		key := sastoken.DeriveKey(keyOf(t, stored), "dev-1")
		_, err := e.Attest(t.Context(), attestation.Claim{Scope: "s", RegistrationID: "dev-1", Token: sastoken.Sign(key, "s/registrations/dev-1", now.Add(time.Hour), "")})
		return err
	}
	if err := attest(); err != nil || entry.Enrollment.Name != "g" {
		t.Fatal(err)
	}
	req.Spec.Disabled = true
	put(t, e, req)
	if err := attest(); !problem.Is(err, problem.Denied) {
		t.Errorf("disabled: %v", err)
	}
	if err := e.Delete(t.Context(), link.EnrollmentRef{Kind: link.Group, Name: "g"}); err != nil {
		t.Fatal(err)
	}
	if err := attest(); !problem.Is(err, problem.Unauthenticated) {
		t.Errorf("deleted: %v", err)
	}
}

func keyOf(t *testing.T, e link.Enrollment) []byte {
	t.Helper()
	key, err := base64.StdEncoding.DecodeString(e.Spec.Attestation.SymmetricKey.PrimaryKey)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func TestValidationNamesTheField(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*link.PutEnrollment)
		field  string
	}{
		"kind":              {func(r *link.PutEnrollment) { r.Kind = "Other" }, "kind"},
		"name":              {func(r *link.PutEnrollment) { r.Name = "a b" }, "metadata.name"},
		"long name":         {func(r *link.PutEnrollment) { r.Name = strings.Repeat("x", 129) }, "metadata.name"},
		"environment":       {func(r *link.PutEnrollment) { r.Spec.Environment = "" }, "spec.environment"},
		"device of a group": {func(r *link.PutEnrollment) { r.Spec.DeviceID = "d" }, "spec.deviceId"},
		"device id":         {func(r *link.PutEnrollment) { r.Kind, r.Spec.DeviceID = link.Individual, "a/b" }, "spec.deviceId"},
		"reprovision":       {func(r *link.PutEnrollment) { r.Spec.Reprovision = "maybe" }, "spec.reprovision"},
		"policy":            {func(r *link.PutEnrollment) { r.Spec.Allocation = &link.Allocation{Policy: "nearest"} }, "spec.allocation.policy"},
		"static":            {func(r *link.PutEnrollment) { r.Spec.Allocation = &link.Allocation{Policy: link.AllocateStatic} }, "spec.allocation.stamps"},
		"tags":              {func(r *link.PutEnrollment) { r.Spec.InitialTwin = &link.InitialTwin{Tags: json.RawMessage(`[1]`)} }, "spec.initialTwin.tags"},
		"null":              {func(r *link.PutEnrollment) { r.Spec.InitialTwin = &link.InitialTwin{Tags: json.RawMessage(`null`)} }, "spec.initialTwin.tags"},
		"key with a dot": {func(r *link.PutEnrollment) {
			r.Spec.InitialTwin = &link.InitialTwin{Desired: json.RawMessage(`{"a.b":1}`)}
		}, "spec.initialTwin.desired"},
		"attestation": {func(r *link.PutEnrollment) { r.Spec.Attestation = link.Attestation{} }, "spec.attestation"},
	} {
		req := group("g")
		c.change(&req)
		_, _, err := replaced(stored{}, false, req, now)
		if p := problem.Of(err); p.Kind != problem.Invalid || p.Field != c.field {
			t.Errorf("%s: %s: %v", name, p.Field, err)
		}
	}
}
