package device_test

import (
	"context"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/policy"
	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/sastoken"
	"github.com/slipway/slipway/internal/sqldb"
	"github.com/slipway/slipway/internal/sqldb/sqldbtest"
	"github.com/slipway/slipway/internal/stamp/device"
	"github.com/slipway/slipway/internal/stamp/migrations"
	"github.com/slipway/slipway/internal/stamp/twin"
)

var now = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

type registry struct {
	*device.Devices
	twins    *twin.Store
	policies *policy.Policies
}

func open(t *testing.T) registry {
	t.Helper()
	db, err := sqldb.Open(t.Context(), sqldbtest.At(t), migrations.FS)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	policies, err := policy.Open(t.Context(), db, policy.Hub)
	if err != nil {
		t.Fatal(err)
	}
	twins := twin.NewStore(db)
	return registry{device.NewDevices(db, twins), twins, policies}
}

func (r registry) create(t *testing.T, spec device.Spec) device.Entry {
	t.Helper()
	e, err := r.Create(t.Context(), spec, nil, now)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func TestAnIdentityIsMadeChangedAndDeleted(t *testing.T) {
	r := open(t)
	e := r.create(t, device.Spec{ID: "d1"})
	if len(e.Auth.PrimaryKey) != 32 || len(e.Auth.SecondaryKey) != 32 || e.Status != device.Enabled || e.GenerationID == "" {
		t.Errorf("made %+v", e)
	}
	if _, err := r.Create(t.Context(), device.Spec{ID: "d1"}, nil, now); !problem.Is(err, problem.Conflict) {
		t.Errorf("made twice: %v", err)
	}
	before, after, err := r.Change(t.Context(), device.Spec{ID: "d1", Status: device.Disabled, StatusReason: "lost", Auth: link.Auth{Type: link.AuthSAS}}, e.ETag(), now)
	if err != nil || before.Status != device.Enabled || after.Status != device.Disabled || string(after.Auth.PrimaryKey) != string(e.Auth.PrimaryKey) || !after.StatusAt.Equal(now) {
		t.Errorf("changed to %+v, %v", after, err)
	}
	if _, _, err := r.Change(t.Context(), device.Spec{ID: "d1", Auth: link.Auth{Type: link.AuthSAS}}, e.ETag(), now); !problem.Is(err, problem.Stale) {
		t.Errorf("a change of an old edition: %v", err)
	}
	if err := r.Delete(t.Context(), "d1", `"*"`); err != nil {
		t.Error(err)
	}
	if _, err := r.Entry(t.Context(), "d1"); !problem.Is(err, problem.NotFound) {
		t.Errorf("after deletion: %v", err)
	}
	if again := r.create(t, device.Spec{ID: "d1"}); again.GenerationID == e.GenerationID {
		t.Error("a new identity has the old generation")
	}
}

func TestRefusesWhatTheRegistryDoesNotHold(t *testing.T) {
	r := open(t)
	for field, spec := range map[string]device.Spec{
		"deviceId":                               {ID: "a b"},
		"moduleId":                               {ID: "d/" + strings.Repeat("m", 129)},
		"status":                                 {ID: "d", Status: "asleep"},
		"authentication.type":                    {ID: "d", Auth: link.Auth{Type: "magic"}},
		"authentication.symmetricKey.primaryKey": {ID: "d", Auth: link.Auth{Type: link.AuthSAS, PrimaryKey: []byte("short")}},
		"authentication.x509Thumbprint":          {ID: "d", Auth: link.Auth{Type: link.AuthSelfSigned}},
		"authentication.x509Thumbprint.primaryThumbprint": {ID: "d", Auth: link.Auth{Type: link.AuthSelfSigned, PrimaryThumbprint: "zz"}},
		"deviceScope": {ID: "d", Scope: "ms-azure-iot-edge://nobody-1"},
	} {
		if _, err := r.Create(t.Context(), spec, nil, now); !problem.Is(err, problem.Invalid) || problem.Of(err).Field != field {
			t.Errorf("%s: %v", field, err)
		}
	}
	if _, err := r.Create(t.Context(), device.Spec{ID: "nobody/m"}, nil, now); !problem.Is(err, problem.NotFound) {
		t.Errorf("a module without its device: %v", err)
	}
}

func TestDevicesStandBehindGateways(t *testing.T) {
	r := open(t)
	gateway := r.create(t, device.Spec{ID: "gw", Edge: true})
	if gateway.Scope != "ms-azure-iot-edge://gw-"+gateway.GenerationID {
		t.Errorf("scope %q", gateway.Scope)
	}
	if leaf := r.create(t, device.Spec{ID: "leaf", Scope: gateway.Scope}); leaf.Scope != gateway.Scope {
		t.Errorf("the leaf stands behind %q", leaf.Scope)
	}
}

func TestModulesSpeakWithTheirOwnKeyOrTheirDevices(t *testing.T) {
	r := open(t)
	owner, module := r.create(t, device.Spec{ID: "d"}), r.create(t, device.Spec{ID: "d/m"})
	hosts := []string{"hub.local"}
	policyKey := map[string][]byte{}
	for _, p := range r.policies.List() {
		policyKey[p.Name] = p.PrimaryKey
	}
	token := func(key []byte, resource, policy string) string {
		return sastoken.Sign(key, url.QueryEscape(resource), now.Add(time.Hour), policy)
	}
	for name, c := range map[string]struct {
		token  string
		method string // empty: refused
	}{
		"own key":              {token(module.Auth.SecondaryKey, "hub.local/devices/d/modules/m", ""), `{"scope":"module","type":"sas","issuer":"iothub"}`},
		"the device's key":     {token(owner.Auth.PrimaryKey, "hub.local/devices/d/modules/m", ""), `{"scope":"device","type":"sas","issuer":"iothub"}`},
		"a policy":             {token(policyKey["device"], "hub.local/devices/d", "device"), `{"scope":"hub","type":"sas","issuer":"iothub"}`},
		"a policy without it":  {token(policyKey["service"], "hub.local/devices/d", "service"), ""},
		"an unknown policy":    {token(policyKey["device"], "hub.local", "devices"), ""},
		"another module":       {token(module.Auth.PrimaryKey, "hub.local/devices/d/modules/other", ""), ""},
		"another hub":          {token(module.Auth.PrimaryKey, "elsewhere/devices/d/modules/m", ""), ""},
		"a key of nobody here": {token([]byte("0123456789abcdef"), "hub.local/devices/d/modules/m", ""), ""},
	} {
		d, err := r.Get(t.Context(), "d/m")
		if err != nil {
			t.Fatal(err)
		}
		proof, err := d.Authenticate(device.Credentials{DeviceID: "d/m", Hosts: hosts, Token: c.token}, r.policies, now)
		if proof.Method != c.method || (err == nil) != (c.method != "") {
			t.Errorf("%s: %+v, %v", name, proof, err)
		}
	}
	if _, _, err := r.Change(t.Context(), device.Spec{ID: "d", Status: device.Disabled, Auth: link.Auth{Type: link.AuthSAS}}, "", now); err != nil {
		t.Fatal(err)
	}
	d, err := r.Get(t.Context(), "d/m")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := d.Authenticate(device.Credentials{Hosts: hosts, Token: token(module.Auth.PrimaryKey, "hub.local/devices/d/modules/m", "")}, r.policies, now); !problem.Is(err, problem.Denied) {
		t.Errorf("a module of a disabled device: %v", err)
	}
}

func TestKeysRotateOneAtATime(t *testing.T) {
	r := open(t)
	first := r.create(t, device.Spec{ID: "d"})
	second, err := r.Rotate(t.Context(), "d", link.RotatePrimary)
	if err != nil || string(second.Auth.PrimaryKey) == string(first.Auth.PrimaryKey) || string(second.Auth.SecondaryKey) != string(first.Auth.SecondaryKey) {
		t.Errorf("%+v, %v", second.Auth, err)
	}
	third, err := r.Rotate(t.Context(), "d", link.RotateSwap)
	if err != nil || string(third.Auth.PrimaryKey) != string(first.Auth.SecondaryKey) || third.ETag() == first.ETag() {
		t.Errorf("%+v, %v", third.Auth, err)
	}
}

func TestAMoveTakesModulesAlong(t *testing.T) {
	from, to := open(t), open(t)
	ctx := context.Background()
	if _, err := from.Put(ctx, link.PutIdentity{DeviceID: "d", Epoch: 1, Auth: link.Auth{Type: link.AuthSAS, PrimaryKey: make([]byte, 32)}, Enrollment: "e"}, now); err != nil {
		t.Fatal(err)
	}
	module := from.create(t, device.Spec{ID: "d/m", ManagedBy: "iotEdge"})
	if _, err := from.twins.Update(ctx, "d/m", "", func(t twin.Twin) (twin.Twin, error) { return t.PatchReported([]byte(`{"version":2}`), now) }); err != nil {
		t.Fatal(err)
	}
	receipt, err := from.Remove(ctx, link.RemoveIdentity{DeviceID: "d", Epoch: 1}, false, now)
	if err != nil || len(receipt.Twin.Modules) != 1 {
		t.Fatalf("%+v, %v", receipt, err)
	}
	if _, err := from.Entry(ctx, "d/m"); !problem.Is(err, problem.NotFound) {
		t.Errorf("the module stayed: %v", err)
	}
	if _, err := to.Put(ctx, link.PutIdentity{DeviceID: "d", Epoch: 2, Auth: link.Auth{Type: link.AuthSAS, PrimaryKey: make([]byte, 32)}, Enrollment: "e", Twin: receipt.Twin}, now); err != nil {
		t.Fatal(err)
	}
	arrived, err := to.Entry(ctx, "d/m")
	if err != nil || string(arrived.Auth.PrimaryKey) != string(module.Auth.PrimaryKey) || arrived.ManagedBy != "iotEdge" {
		t.Errorf("arrived %+v, %v", arrived, err)
	}
	if reported, err := to.twins.Get(ctx, "d/m"); err != nil || len(reported.Reported.Values) != 1 {
		t.Errorf("its twin: %+v, %v", reported, err)
	}
}

func TestProvisioningTakesOverWhatABackEndMade(t *testing.T) {
	r := open(t)
	ctx := context.Background()
	made := r.create(t, device.Spec{ID: "d"})
	auth := link.Auth{Type: link.AuthSAS, PrimaryKey: make([]byte, 32)}
	created, err := r.Put(ctx, link.PutIdentity{DeviceID: "d", Epoch: 1, Auth: auth, Enrollment: "e"}, now)
	if err != nil || created {
		t.Fatalf("created %v, %v", created, err)
	}
	if e, err := r.Entry(ctx, "d"); err != nil || e.GenerationID != made.GenerationID || e.Epoch != 1 || e.Enrollment != "e" {
		t.Errorf("%+v, %v", e, err)
	}
	if _, err := r.Remove(ctx, link.RemoveIdentity{DeviceID: "d", Epoch: 1}, false, now); err != nil {
		t.Fatal(err)
	}
	r.create(t, device.Spec{ID: "d"}) // by hand, after it has moved on
	if _, err := r.Put(ctx, link.PutIdentity{DeviceID: "d", Epoch: 1, Auth: auth}, now); !problem.Is(err, problem.Conflict) {
		t.Errorf("an ended assignment came back: %v", err)
	}
	if created, err := r.Put(ctx, link.PutIdentity{DeviceID: "d", Epoch: 5, Auth: auth}, now); err != nil || created {
		t.Errorf("a new assignment: created %v, %v", created, err)
	}
}
