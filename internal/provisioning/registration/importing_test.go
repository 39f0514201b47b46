package registration

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/provisioning/enrollment"
	"github.com/slipway/slipway/internal/sqldb/sqldbtest"
)

func existing(id string) link.ImportDevice {
	return link.ImportDevice{DeviceID: id, Auth: &link.Auth{Type: link.AuthSAS, PrimaryKey: []byte("the old key of " + id + " ........")},
		Twin: &link.TwinContent{Tags: json.RawMessage(`{"site":"x"}`), Reported: json.RawMessage(`{"fw":"1"}`), Registry: &link.RegistryContent{Status: "enabled"}}}
}

func (w *world) takeOver(t *testing.T, req link.ImportDevices) []link.ImportedDevice {
	t.Helper()
	got, err := w.service.Import(context.Background(), req)
	if err != nil {
		t.Fatal(err)
	}
	w.service.working.Wait()
	return got.Items
}

// TestImport takes devices over as they are: twice without harm, one refused
// beside others, none beyond what the stamps have room for.
func TestImport(t *testing.T) {
	t.Parallel()
	w := newWorld(t, sqldbtest.At(t))
	defer w.close()
	devices := []link.ImportDevice{existing("a"), existing("b"), {DeviceID: "no key"}, {DeviceID: "keyless"}}
	req := link.ImportDevices{Environment: "production", Stamp: "p1", Devices: devices, DryRun: true}
	if tried := w.takeOver(t, req); tried[0].Result != link.ImportCreated || tried[0].Stamp != "p1" {
		t.Errorf("tried: %+v", tried)
	}
	if _, known := w.get("a"); known {
		t.Fatal("a trial took a device over")
	}
	req.DryRun = false
	for round, want := range []string{"created created refused refused", "unchanged unchanged refused refused"} {
		var results []string
		for _, one := range w.takeOver(t, req) {
			results = append(results, one.Result)
		}
		if got := strings.Join(results, " "); got != want {
			t.Errorf("round %d: %s, not %s", round, got, want)
		}
	}
	r, _ := w.get("a")
	if r.Phase != link.PhaseAssigned || r.Stamp != "p1" || r.Epoch != 1 || w.stamps.twins["a"] != `{"fw":"1"}` {
		t.Errorf("the device is %+v, its twin %q", r, w.stamps.twins["a"])
	}
	e, known, err := enrollment.Load(context.Background(), w.db, link.Individual, "a")
	if err != nil || !known || e.Spec.Attestation.SymmetricKey.SecondaryKey != e.Spec.Attestation.SymmetricKey.PrimaryKey {
		t.Errorf("its enrolment is %+v, %v", e, err)
	}
	other := existing("a")
	other.Auth.PrimaryKey = []byte("another key than before")
	full := []link.ImportDevice{other, existing("c"), existing("d"), existing("e")} // p1 has room for 3
	got := w.takeOver(t, link.ImportDevices{Environment: "production", Stamp: "p1", Devices: full})
	if got[0].Result != link.ImportRefused || got[0].Field != "auth" || got[1].Result != link.ImportCreated || got[2].Result != link.ImportRefused || !strings.Contains(got[2].Error, "p1") {
		t.Errorf("beyond what there is room for: %+v", got)
	}
	if got := w.takeOver(t, link.ImportDevices{Environment: "production", Devices: full[2:]}); got[0].Stamp != "p2" {
		t.Errorf("where there is room: %+v", got)
	}
	w.check([]string{"a", "b", "c", "d", "e"})
}

// TestImportIntoAGroup: the group has the key, and sends its other devices
// elsewhere.
func TestImportIntoAGroup(t *testing.T) {
	t.Parallel()
	w := newWorld(t, sqldbtest.At(t))
	defer w.close()
	got := w.takeOver(t, link.ImportDevices{Environment: "production", Group: "migrating", Devices: []link.ImportDevice{{DeviceID: "a"}}})
	r, _ := w.get("a")
	if got[0].Result != link.ImportCreated || r.Target != "production" || r.Enrollment != "migrating" || len(r.Auth.PrimaryKey) == 0 {
		t.Errorf("%+v, the record %+v", got, r)
	}
	w.register("a", "migrating")
	if r, _ = w.get("a"); r.Environment != "production" {
		t.Errorf("it registers, and goes to %s", r.Environment)
	}
}

func TestWhatAnImportRefuses(t *testing.T) {
	t.Parallel()
	w := newWorld(t, sqldbtest.At(t))
	defer w.close()
	change := func(apply func(*link.ImportDevice)) link.ImportDevice {
		d := existing("d")
		apply(&d)
		return d
	}
	for want, d := range map[string]link.ImportDevice{
		"twin.tags: must be a JSON object":    change(func(d *link.ImportDevice) { d.Twin.Tags = json.RawMessage(`[]`) }),
		`twin.desired: the key "a.b" may not`: change(func(d *link.ImportDevice) { d.Twin.Desired = json.RawMessage(`{"a.b":1}`) }),
		"twin.reported: has at most 32 KB": change(func(d *link.ImportDevice) {
			d.Twin.Reported = json.RawMessage(`{"a":"` + strings.Repeat("x", 33<<10) + `"}`)
		}),
		"registrationId: a device registers by":    change(func(d *link.ImportDevice) { d.DeviceID = "d'" }),
		"deviceId: a device id has 1 to 128":       change(func(d *link.ImportDevice) { d.DeviceID, d.RegistrationID = "d/d", "d" }),
		"auth.symmetricKey.primaryKey: must be 16": change(func(d *link.ImportDevice) { d.Auth.PrimaryKey = []byte("short") }),
		`status: a status is enabled or disabled`:  change(func(d *link.ImportDevice) { d.Twin.Registry.Status = "asleep" }),
		`stamp: there is no stamp "t1" in`:         change(func(d *link.ImportDevice) { d.Stamp = "t1" }),
		`: there is no tenant "nobody"`:            change(func(d *link.ImportDevice) { d.Tenant = "nobody" }),
		"modules: a module's id has 1 to 128":      change(func(d *link.ImportDevice) { d.Twin.Modules = []link.ModuleContent{{ModuleID: "a b"}} }),
	} {
		got := w.takeOver(t, link.ImportDevices{Environment: "production", Devices: []link.ImportDevice{d}})
		if text := fmt.Sprintf("%s: %s", got[0].Field, got[0].Error); got[0].Result != link.ImportRefused || !strings.HasPrefix(text, want) {
			t.Errorf("%s %q, not %q", got[0].Result, text, want)
		}
	}
	if _, err := w.service.Import(context.Background(), link.ImportDevices{Environment: "nowhere", Devices: []link.ImportDevice{existing("a")}}); err == nil || !strings.Contains(err.Error(), `no environment "nowhere"`) {
		t.Errorf("into nowhere: %v", err)
	}
}
