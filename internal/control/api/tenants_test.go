package api_test

import (
	"context"
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/slipway/slipway/internal/bus"
	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/problem"
)

// owners are the devices there are, and whose they are.
var owners = map[string]string{"acme-1": "acme", "coyote-1": "coyote", "coyote-2": "coyote", "nobodys-1": "default"}

// secret is in every answer about a device that is not acme's.
const secret = "coyote-secret"

// playTenants answers for provisioning and the stamp where the devices are.
func (s *server) playTenants() {
	s.t.Helper()
	registration := func(id string) link.Registration {
		return link.Registration{DeviceID: id, RegistrationID: id, Tenant: owners[id], Environment: "test", Stamp: "test-1", Phase: link.PhaseAssigned, Enrollment: "line"}
	}
	named := func(id string) string {
		if owners[id] == "acme" {
			return id
		}
		return id + " " + secret
	}
	device := func(id string) link.Device {
		return link.Device{DeviceID: id, Stamp: "test-1", Tenant: owners[id], Status: "enabled", Enrollment: "line", ModelID: named(id)}
	}
	const dps, hub = link.ProvisioningPeer, "stamp.test-1"
	answer(s, dps, link.DirectoryPut, func(link.Directory) (link.None, error) { return link.None{}, nil })
	answer(s, dps, link.RegistrationGet, func(ref link.RegistrationRef) (link.Registration, error) {
		if _, known := owners[ref.DeviceID]; !known {
			return link.Registration{}, problem.New(problem.NotFound, "there is no device %s", ref.DeviceID)
		}
		return registration(ref.DeviceID), nil
	})
	answer(s, dps, link.RegistrationList, func(req link.ListRegistrations) (all link.Registrations, err error) {
		for id, tenant := range owners {
			if req.Tenant == "" || req.Tenant == tenant {
				all.Items = append(all.Items, registration(id))
			}
		}
		return all, nil
	})
	answer(s, hub, link.DeviceQuery, func(req link.QueryDevices) (all link.Devices, err error) {
		for id, tenant := range owners {
			if (req.Tenant == "" || req.Tenant == tenant) && req.Where != "enrollment = ''" && (!strings.Contains(req.Where, "deviceId") || strings.Contains(req.Where, id)) {
				all.Items = append(all.Items, device(id))
			}
		}
		return all, nil
	})
	answer(s, hub, link.DeviceLookup, func(refs link.DeviceRefs) (all link.Devices, err error) {
		for _, id := range refs.DeviceIDs {
			all.Items = append(all.Items, device(id))
		}
		return all, nil
	})
	answer(s, hub, link.DeviceGet, func(ref link.DeviceRef) (link.Device, error) { return device(ref.DeviceID), nil })
	answer(s, hub, link.TwinGet, func(ref link.DeviceRef) (link.Twin, error) {
		text, err := json.Marshal(map[string]any{"deviceId": ref.DeviceID, "tags": map[string]string{"name": named(ref.DeviceID)}})
		return link.Twin{ETag: "x", Document: text}, err
	})
	answer(s, hub, link.MessageList, func(ref link.DeviceRef) (link.QueuedMessages, error) {
		return link.QueuedMessages{Items: []link.QueuedMessage{{MessageID: named(ref.DeviceID)}}}, nil
	})
	for _, resource := range []string{"tenants/acme", "tenants/coyote", "environments/test"} {
		s.put(resource, `{"spec":{"displayName":"`+resource+` `+secret+`"}}`)
	}
	s.put("stamps/test-1", `{"spec":{"environment":"test","region":"here"}}`)
}

func answer[Req, Resp any](s *server, peer string, call link.Call[Req, Resp], fn func(Req) (Resp, error)) {
	s.t.Helper()
	if err := bus.Answer(s.conn, peer, call, func(_ context.Context, req Req) (Resp, error) { return fn(req) }); err != nil {
		s.t.Fatal(err)
	}
}

func (s *server) put(path, body string) {
	s.t.Helper()
	if status, text, _ := s.do("PUT", "/api/v1/"+path, body); status != http.StatusOK {
		s.t.Fatalf("%s: %d %s", path, status, text)
	}
}

// TestATenantSeesOnlyItsOwn asks every route there is, as a tenant, for what is
// another's.
func TestATenantSeesOnlyItsOwn(t *testing.T) {
	s := newServer(t)
	s.playTenants()
	status, text, _ := s.do("POST", "/api/v1/tokens", `{"name":"acme's","tenant":"acme"}`)
	var made struct{ Token string }
	if err := json.Unmarshal([]byte(text), &made); err != nil || status != http.StatusOK {
		t.Fatalf("%d %s", status, text)
	}
	as := []string{"Authorization", "Bearer " + made.Token}
	// What is its own, it has; otherwise the rest would prove nothing.
	for path, want := range map[string]string{
		"/devices": `"acme-1"`, "/devices?where=true": `"acme-1"`, "/devices?tenant=coyote": `"acme-1"`,
		"/devices/acme-1": `"acme-1"`, "/devices/acme-1/twin": `"acme-1"`, "/devices/acme-1/commands": `"acme-1"`,
	} {
		status, text, _ := s.do("GET", "/api/v1"+path, "", as...)
		if status != http.StatusOK || !strings.Contains(text, want) || strings.Contains(text, "coyote") || strings.Contains(text, "nobodys") {
			t.Errorf("%s: %d %s", path, status, text)
		}
	}
	_, text, _ = s.do("GET", "/api/openapi.json", "")
	var described openAPI
	if err := json.Unmarshal([]byte(text), &described); err != nil {
		t.Fatal(err)
	}
	asked := 0
	for path, methods := range described.Paths {
		for method := range methods {
			for _, other := range []string{"coyote-1", "nobodys-1", "acme-1%2F..%2Fcoyote-1", "coyote"} {
				target := strings.NewReplacer("{id}", other, "{name}", other, "{method}", "m", "{peer}", "stamp.test-1", "{policy}", "p", "{serial}", "1", "{job}", "j").Replace(path)
				if target == "/api/v1/devices" || path == "/api/v1/join" {
					continue
				}
				asked++
				status, text, _ := s.do(strings.ToUpper(method), target, "{}", as...)
				if !slices.Contains([]int{http.StatusForbidden, http.StatusNotFound}, status) || strings.Contains(text, secret) {
					t.Errorf("%s %s: %d %s", method, target, status, text)
				}
			}
		}
	}
	if asked < 200 {
		t.Errorf("only %d requests were made", asked)
	}
	for _, path := range []string{"/devices/acme-1/../coyote-1", "/devices/acme-1/../../tokens", "/devices//coyote-1", "/devices/acme-1/placement", "/devices/", "/Devices", "/devices/acme-1%00/twin"} {
		if status, text, _ := s.do("GET", "/api/v1"+path, "", as...); status == http.StatusOK || strings.Contains(text, secret) {
			t.Errorf("%s: %d %s", path, status, text)
		}
	}
}
