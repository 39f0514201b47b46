package registration

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/provisioning/enrollment"
	"github.com/slipway/slipway/internal/sqldb/sqldbtest"
)

// tenants declares tenants beside the stamps, t1 in the EU and t2 in the US.
func (w *world) tenants(t *testing.T, tenants ...link.Tenant) {
	t.Helper()
	w.version++
	doc := link.Directory{Version: w.version, Environments: []link.Environment{{Name: "test"}}, Tenants: tenants}
	for name, region := range map[string]string{"t1": "eu", "t2": "us"} {
		doc.Stamps = append(doc.Stamps, link.Stamp{Name: name, Environment: "test", Host: name, Region: region, Capacity: 100, Weight: 1, State: link.StampOpen})
	}
	if err := w.service.directory.Put(context.Background(), doc); err != nil {
		t.Fatal(err)
	}
}

func (w *world) group(t *testing.T, name, tenant string) {
	t.Helper()
	spec := link.EnrollmentSpec{Environment: "test", Tenant: tenant, Reprovision: link.ReprovisionMigrate, Attestation: link.Attestation{SymmetricKey: &link.SymmetricKey{}}}
	if _, err := enrollment.New(w.db, []byte("secret"), w.now).Put(t.Context(), link.PutEnrollment{Kind: link.Group, Name: name, Spec: spec}); err != nil {
		t.Fatal(err)
	}
}

func TestATenantHasItsQuotaAndItsRegions(t *testing.T) {
	w := newWorld(t, sqldbtest.At(t))
	defer w.close()
	w.tenants(t, link.Tenant{Name: "acme", Regions: []string{"eu"}, Devices: 2})
	w.group(t, "of-acme", "acme")
	w.group(t, "of-nobody", "")
	w.group(t, "of-a-stranger", "stranger")
	for _, id := range []string{"a", "b", "c"} {
		w.register(id, "of-acme")
	}
	if got, want := w.on("a", "b", "c"), "a assigned t1, b assigned t1, c waiting"; got != want {
		t.Errorf("%s", got)
	}
	if r, _ := w.get("c"); !strings.Contains(r.Problem, "tenant acme has 2 devices") {
		t.Errorf("it waits for: %s", r.Problem)
	}
	w.register("d", "of-a-stranger")
	if r, _ := w.get("d"); !strings.Contains(r.Problem, `there is no tenant "stranger"`) {
		t.Errorf("it waits for: %s", r.Problem)
	}
	// One that becomes another's makes room.
	w.register("a", "of-nobody")
	w.turn(time.Minute)
	w.register("c", "of-acme")
	if r, _ := w.get("c"); r.Stamp != "t1" || r.Tenant != "acme" {
		t.Errorf("%s, %s: %s", r.Stamp, r.Tenant, r.Problem)
	}
	counts, err := w.service.Count(t.Context())
	if err != nil || len(counts.ByTenant) != 2 || counts.ByTenant[0] != (link.TenantCount{Tenant: "acme", Count: 2}) || counts.ByTenant[1] != (link.TenantCount{Tenant: "default", Count: 1}) {
		t.Errorf("%+v, %v", counts, err)
	}
}

func TestATenantThatLeavesARegionTakesItsDevicesAlong(t *testing.T) {
	w := newWorld(t, sqldbtest.At(t))
	defer w.close()
	w.tenants(t, link.Tenant{Name: "acme", Regions: []string{"eu"}})
	w.group(t, "of-acme", "acme")
	w.register("a", "of-acme")
	w.tenants(t, link.Tenant{Name: "acme", Regions: []string{"us"}})
	for range 2 { // it is taken off, and then placed
		w.register("a", "of-acme")
		w.turn(time.Second)
	}
	if got := w.on("a"); got != "a assigned t2" {
		t.Error(got)
	}
}
