package test

import (
	"bufio"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"io"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/slipway/slipway/device"
	"github.com/slipway/slipway/internal/client"
	"github.com/slipway/slipway/internal/control/fleet"
	"github.com/slipway/slipway/internal/link"
)

// sdk is a device on the unmodified npm SDKs, in a process of its own.
type sdk struct {
	t      *testing.T
	in     io.WriteCloser
	events chan map[string]any
}

// startSDK starts node on test/sdk/device.js.
func (in *installation) startSDK(t *testing.T, config map[string]any) *sdk {
	t.Helper()
	if _, err := os.Stat("sdk/node_modules/azure-iot-device"); err != nil {
		t.Fatal("the npm SDKs are not installed: run `make setup-test`")
	}
	config["provisioning"] = net.JoinHostPort(in.ready.Provisioning.Host, strconv.Itoa(in.ready.Provisioning.MQTTS))
	config["scope"] = in.ready.Provisioning.IDScope
	text, err := json.Marshal(config)
	if err != nil {
		t.Fatal(err)
	}
	node := exec.Command("node", "device.js", string(text))
	node.Dir = "sdk"
	node.Env = append(os.Environ(), "NODE_EXTRA_CA_CERTS="+in.ready.CA)
	node.Stderr = os.Stderr
	stdin, err := node.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := node.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := node.Start(); err != nil {
		t.Fatalf("node: %v; run `make setup-test`", err)
	}
	s := &sdk{t: t, in: stdin, events: make(chan map[string]any, 1000)}
	go func() {
		defer close(s.events)
		for lines := bufio.NewScanner(stdout); lines.Scan(); {
			var event map[string]any
			if json.Unmarshal(lines.Bytes(), &event) == nil {
				s.events <- event
			}
		}
	}()
	t.Cleanup(func() {
		stdin.Close()
		if err := node.Process.Kill(); err == nil {
			node.Wait()
		}
	})
	return s
}

// do gives a command and returns how it ended.
func (s *sdk) do(command string, with ...any) map[string]any {
	s.t.Helper()
	line := map[string]any{"do": command}
	for i := 0; i < len(with); i += 2 {
		line[with[i].(string)] = with[i+1]
	}
	text, err := json.Marshal(line)
	if err != nil {
		s.t.Fatal(err)
	}
	if _, err := s.in.Write(append(text, '\n')); err != nil {
		s.t.Fatal(err)
	}
	return s.until(func(e map[string]any) bool { return e["do"] == command })
}

func (s *sdk) must(command string, with ...any) {
	s.t.Helper()
	if e := s.do(command, with...); e["event"] != "done" {
		s.t.Fatalf("%s: %v", command, e)
	}
}

// until waits for an event, passing over others.
func (s *sdk) until(wanted func(map[string]any) bool) map[string]any {
	s.t.Helper()
	limit := time.After(90 * time.Second)
	for {
		select {
		case e, ok := <-s.events:
			if !ok {
				s.t.Fatal("the SDK's process ended")
			}
			if wanted(e) {
				return e
			}
		case <-limit:
			s.t.Fatal("the SDK did not answer")
		}
	}
}

func (s *sdk) event(kind string) map[string]any {
	s.t.Helper()
	return s.until(func(e map[string]any) bool { return e["event"] == kind })
}

// TestUnmodifiedSDKsMoveFromTestToProduction is the promise of the design, in
// five steps, for each way a device can prove itself.
func TestUnmodifiedSDKsMoveFromTestToProduction(t *testing.T) {
	in := start(t)
	in.enrol()
	ca, caKey := newAuthority(t, "factory")
	leaf := newLeaf(t, "node-x509-group", ca, caKey)
	self := newLeaf(t, "node-x509-self", nil, nil)
	in.apply("apiVersion: slipway/v1\nkind: EnrollmentGroup\nmetadata: { name: factory }\nspec:\n  environment: test\n  attestation: { x509: { ca: " + quoted(pemOf("CERTIFICATE", ca.Raw)) + " } }\n")
	in.apply("apiVersion: slipway/v1\nkind: Enrollment\nmetadata: { name: node-x509-self }\nspec:\n  environment: test\n  attestation: { x509: { certificate: " + quoted(self.cert) + " } }\n")
	individual := base64.StdEncoding.EncodeToString([]byte("an individual key of 32 bytes!!!"))
	in.apply("apiVersion: slipway/v1\nkind: Enrollment\nmetadata: { name: node-individual }\nspec:\n  environment: test\n  attestation: { symmetricKey: { primaryKey: " + individual + " } }\n")
	for id, config := range map[string]map[string]any{
		"node-group":      {"key": base64.StdEncoding.EncodeToString(device.DeriveKey(groupKey, "node-group"))},
		"node-individual": {"key": individual},
		"node-x509-group": {"cert": leaf.cert, "certKey": leaf.key},
		"node-x509-self":  {"cert": self.cert, "certKey": self.key},
	} {
		t.Run(id, func(t *testing.T) {
			config["id"] = id
			journey(t, in, in.startSDK(t, config), id)
		})
	}
}

func quoted(text string) string { return strconv.Quote(text) }

func pemOf(kind string, der []byte) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
}

func journey(t *testing.T, in *installation, s *sdk, id string) {
	s.must("connect")
	d := show(t, in, id)
	if d.Environment != "test" || d.Stamp != "test-1" || !d.Connected {
		t.Fatalf("after connecting: %+v", d.Device)
	}
	s.must("send", "body", `{"temperature":21.5}`, "contentType", "application/json", "properties", map[string]string{"a b": "c&d"})
	page, err := in.api.Log(t.Context(), id, client.Messages, client.LogOptions{Last: true, Limit: 1})
	if err != nil || len(page.Items) != 1 || string(page.Items[0].Body) != `{"temperature":21.5}` || page.Items[0].Properties["a b"] != "c&d" {
		t.Errorf("the log holds %+v, %v", page, err)
	}
	s.must("report", "patch", map[string]any{"selfTest": "ok"})
	if _, err := in.api.PatchTwin(t.Context(), id, "", json.RawMessage(`{"properties":{"desired":{"reportEvery":3}}}`)); err != nil {
		t.Fatal(err)
	}
	s.until(func(e map[string]any) bool {
		delta, ok := e["delta"].(map[string]any)
		return ok && delta["reportEvery"] == float64(3)
	})
	if out := in.must("device", "method", id, "echo", `{"x":1}`); !strings.Contains(out, `{"echoed":{"x":1}}`) {
		t.Errorf("the method answered %s", out)
	}
	in.must("device", "message", "send", id, "hello", "--property", "k=v")
	if e := s.event("message"); e["body"] != "hello" {
		t.Errorf("the device got %v", e)
	}
	if out := in.must("device", "move", id, "--to", "production"); !strings.Contains(out, "waiting") {
		t.Errorf("the move printed %s", out)
	}
	if e := s.do("send", "body", "too late"); e["error"] != "UnauthorizedError" {
		t.Errorf("sending to Test after the move: %v", e)
	}
	s.must("again")
	d = show(t, in, id)
	if d.Environment != "production" || !d.Connected || len(d.History) != 2 || d.History[0].To == nil {
		t.Errorf("after the move: %+v %+v", d.Device, d.History)
	}
	if d.Transitions[0].Step != "registered" || len(d.Transitions) != 8 {
		t.Errorf("the log of the move: %+v", d.Transitions)
	}
	s.must("send", "body", "in production")
	if e := s.do("twin"); e["event"] != "done" {
		t.Errorf("twin: %v", e)
	}
	var twin struct {
		Properties struct{ Reported map[string]any }
	}
	if err := json.Unmarshal(show(t, in, id).Twin, &twin); err != nil || twin.Properties.Reported["selfTest"] != "ok" {
		t.Errorf("the twin did not come along: %+v, %v", twin, err)
	}
	events, err := in.api.Log(t.Context(), id, client.Events, client.LogOptions{Stamp: "test-1"})
	if err != nil || !has(events.Items, "removed") || !has(events.Items, "refused") {
		t.Errorf("the Test stamp's events: %+v, %v", events, err)
	}
	keepAll(t, "azure-iot-provisioning-device + -mqtt", "ProvisioningDeviceClient.register", "ProvisioningDeviceClient.register (after a move)")
	keepAll(t, "azure-iot-device + -mqtt", "Client.open", "Client.sendEvent", "Client.sendEvent (after a move: UnauthorizedError)", "Client.getTwin", "Twin.properties.reported.update",
		"Twin.on('properties.desired')", "Client.onDeviceMethod", "Client.on('message'), Client.complete")
}

func has(events []link.LogRecord, kind string) bool {
	for _, e := range events {
		if e.Kind == kind {
			return true
		}
	}
	return false
}

func show(t *testing.T, in *installation, id string) fleet.Detail {
	t.Helper()
	d, err := in.api.Device(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	return d
}
