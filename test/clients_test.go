package test

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/slipway/slipway/device"
	"github.com/slipway/slipway/internal/client"
	"github.com/slipway/slipway/internal/mqtt"
	"github.com/slipway/slipway/internal/up"
)

// mosquitto runs one of the command line clients as a device and returns what
// it printed.
func (in *installation) mosquitto(t *testing.T, tool, host string, port int, id, user, password string, args ...string) (string, error) {
	t.Helper()
	path, err := exec.LookPath(tool)
	if err != nil {
		t.Fatalf("%s is not installed: run `make setup-test`", tool)
	}
	all := append([]string{"-h", host, "-p", strconv.Itoa(port), "--cafile", in.ready.CA, "-V", "mqttv311", "-i", id, "-u", user, "-P", password}, args...)
	var out bytes.Buffer
	command := exec.Command(path, all...)
	command.Stdout, command.Stderr = &out, &out
	err = command.Run()
	return out.String(), err
}

// TestMosquittoMovesFromTestToProduction walks the same path with clients that
// know nothing of hubs.
func TestMosquittoMovesFromTestToProduction(t *testing.T) {
	in := start(t)
	in.enrol()
	const id = "mosquitto-1"
	key := device.DeriveKey(groupKey, id)
	// mosquitto_pub cannot hear the answer, so the result is looked up over HTTPS.
	register := func() (hub string) {
		resource := in.ready.Provisioning.IDScope + "/registrations/" + id
		if out, err := in.mosquitto(t, "mosquitto_pub", in.ready.Provisioning.Host, in.ready.Provisioning.MQTTS, id, resource+"/api-version=2019-03-31", string(tokenFor(resource, key, "registration")),
			"-t", "$dps/registrations/PUT/iotdps-register/?$rid=1", "-m", `{"registrationId":"`+id+`"}`, "-q", "1"); err != nil {
			t.Fatalf("mosquitto_pub: %v: %s", err, out)
		}
		eventually(t, "the registration is assigned", 20*time.Second, func() bool {
			status, answer, _, err := in.call("POST", id, "", "")
			var state struct{ AssignedHub string }
			if err != nil || status != 200 || json.Unmarshal([]byte(answer), &state) != nil {
				return false
			}
			hub = strings.Split(state.AssignedHub, ":")[0]
			return hub != ""
		})
		return hub
	}
	publish := func(host, body string) error {
		out, err := in.mosquitto(t, "mosquitto_pub", host, in.ready.Provisioning.MQTTS, id, host+"/"+id+"/?api-version=2021-04-12", string(tokenFor(host+"/devices/"+id, key, "")),
			"-t", "devices/"+id+"/messages/events/$.ct=application%2Fjson", "-q", "1", "-m", body)
		if err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
		return nil
	}
	test := register()
	if test != in.stamp("test-1").Host {
		t.Fatalf("assigned to %s", test)
	}
	if err := publish(test, `{"n":1}`); err != nil {
		t.Fatal(err)
	}
	in.must("device", "message", "send", id, "hello")
	heard, err := in.mosquitto(t, "mosquitto_sub", test, in.ready.Provisioning.MQTTS, id, test+"/"+id+"/?api-version=2021-04-12", string(tokenFor(test+"/devices/"+id, key, "")),
		"-t", "devices/"+id+"/messages/devicebound/#", "-q", "1", "-C", "1", "-W", "20")
	if err != nil || strings.TrimSpace(heard) != "hello" {
		t.Errorf("mosquitto_sub: %v, %q", err, heard)
	}
	in.must("device", "move", id, "--to", "production")
	if err := publish(test, `{"n":2}`); err == nil {
		t.Error("the Test stamp still takes messages")
	}
	production := register()
	if production == test {
		t.Errorf("still assigned to %s", production)
	}
	if err := publish(production, `{"n":3}`); err != nil {
		t.Error(err)
	}
	page, err := in.api.Log(t.Context(), id, client.Messages, client.LogOptions{})
	if err != nil || len(page.Items) != 1 || string(page.Items[0].Body) != `{"n":3}` {
		t.Errorf("production's log: %+v, %v", page.Items, err)
	}
}

// TestOurSDKMovesFromTestToProduction walks the same path with our own SDK,
// which finds its way by itself, and lets a rule do the moving.
func TestOurSDKMovesFromTestToProduction(t *testing.T) {
	in := start(t)
	in.enrol()
	events := make(chan device.Event, 100)
	desired := make(chan string, 10)
	c, err := device.New(device.Config{
		Provisioning: in.provisioningAddress(), IDScope: in.ready.Provisioning.IDScope, RegistrationID: "sdk-1", Key: device.DeriveKey(groupKey, "sdk-1"),
		CA: in.pool, Store: device.FileStore(t.TempDir() + "/state.json"),
	})
	if err != nil {
		t.Fatal(err)
	}
	c.OnEvent(func(e device.Event) { events <- e })
	c.OnDesired(func(_ int64, patch []byte) { desired <- string(patch) })
	c.OnMethod("add", func(_ context.Context, payload []byte) (int, []byte) { return 200, payload })
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- c.Run(ctx) }()
	defer func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}()
	limited, stop := context.WithTimeout(ctx, time.Minute)
	defer stop()
	if err := c.Send(limited, device.Message{Body: []byte(`{"n":1}`), ContentType: "application/json"}); err != nil {
		t.Fatal(err)
	}
	if out := in.must("device", "method", "sdk-1", "add", "[1,2]"); !strings.Contains(out, "[1,2]") {
		t.Errorf("the method answered %s", out)
	}
	in.must("device", "twin", "set", "sdk-1", "desired.x=1")
	if patch := <-desired; patch != `{"$version":2,"x":1}` {
		t.Errorf("desired %s", patch)
	}
	if d := show(t, in, "sdk-1"); d.Environment != "test" {
		t.Fatalf("%+v", d.Device)
	}
	in.apply(`apiVersion: slipway/v1
kind: Environment
metadata: { name: test }
spec:
  displayName: Test
  autoMove: { to: production, where: "properties.reported.selfTest = 'ok'", minMessages: 1, connected: true }
`)
	if _, err := c.Report(limited, []byte(`{"selfTest":"ok"}`)); err != nil {
		t.Fatal(err)
	}
	for e := range events {
		if e.Kind == device.Connected && !strings.HasPrefix(e.Assignment.Hub, in.stamp("test-1").Host) {
			break
		}
	}
	if err := c.Send(limited, device.Message{Body: []byte(`{"n":2}`)}); err != nil {
		t.Fatal(err)
	}
	d := show(t, in, "sdk-1")
	if d.Environment != "production" || !strings.Contains(string(d.Twin), `"selfTest":"ok"`) {
		t.Errorf("%+v %s", d.Device, d.Twin)
	}
	moves, err := in.api.Moves(t.Context())
	if err != nil || len(moves) != 1 || moves[0].Actor != "rule" || moves[0].Census.Arrived != 1 {
		t.Errorf("moves %+v, %v", moves, err)
	}
}

// TestRestartKeepsEverything stops the server as an operator does.
func TestRestartKeepsEverything(t *testing.T) {
	in := start(t, "--demo", "3")
	eventually(t, "the demo fleet sends", 30*time.Second, func() bool {
		page, err := in.api.Log(t.Context(), "sensor-0002", client.Messages, client.LogOptions{})
		return err == nil && len(page.Items) > 0
	})
	before := in.must("export")
	in.kill(stopSignal)
	in.launch()
	if after := in.must("export"); after != before {
		t.Errorf("exported before:\n%s\nand after:\n%s", before, after)
	}
	if d := show(t, in, "sensor-0002"); d.Messages == 0 || d.Connected {
		t.Errorf("after the restart: %+v", d.Device)
	}
	var ready up.Ready = in.ready
	if ready.FirstStart {
		t.Error("the second start says it is the first")
	}
}

// TestFilesAtTheFirstStart gives resources to `up`: environments of one's own
// replace the built-in ones, anything else joins them.
func TestFilesAtTheFirstStart(t *testing.T) {
	write := func(text string) string {
		file := t.TempDir() + "/resources.yaml"
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	own := start(t, "--file", write("apiVersion: slipway/v1\nkind: Environment\nmetadata: { name: dev }\nspec: {}\n---\napiVersion: slipway/v1\nkind: Stamp\nmetadata: { name: dev-1 }\nspec: { environment: dev, region: here }\n"))
	if len(own.ready.Stamps) != 1 || own.ready.Stamps[0].Name != "dev-1" {
		t.Errorf("stamps %+v", own.ready.Stamps)
	}
	joined := start(t, "--file", write("apiVersion: slipway/v1\nkind: EnrollmentGroup\nmetadata: { name: g }\nspec: { environment: test, attestation: { symmetricKey: {} } }\n"))
	if len(joined.ready.Stamps) != 3 || !strings.Contains(joined.must("export"), "name: g") {
		t.Errorf("stamps %+v", joined.ready.Stamps)
	}
}

// TestRealHostNames gives a stamp a public name: devices are told it, the
// certificate bears it, and connections find the stamp by it.
func TestRealHostNames(t *testing.T) {
	in := start(t)
	in.enrol()
	address := net.JoinHostPort(in.stamp("test-1").Host, strconv.Itoa(in.stamp("test-1").MQTTS))
	in.apply("apiVersion: slipway/v1\nkind: Stamp\nmetadata: { name: test-1 }\nspec: { environment: test, region: local, host: hub-test.example.com }\n")
	const id = "named-1"
	var told string
	eventually(t, "devices are told the name", 20*time.Second, func() bool {
		host, err := in.register(id)
		told = host
		return err == nil && strings.HasPrefix(host, "hub-test.example.com:")
	})
	nc, err := tls.Dial("tcp", address, &tls.Config{RootCAs: in.pool, ServerName: "hub-test.example.com", MinVersion: tls.VersionTLS12})
	if err != nil {
		t.Fatal(err)
	}
	conn := mqtt.NewClientConn(nc, 1<<20)
	defer conn.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	connack, err := conn.Connect(ctx, &mqtt.Connect{
		ProtocolName: "MQTT", ProtocolLevel: 4, ClientID: id, CleanSession: true, HasUsername: true, Username: told + "/" + id + "/?api-version=2021-04-12",
		HasPassword: true, Password: tokenFor(told+"/devices/"+id, device.DeriveKey(groupKey, id), ""),
	})
	if err != nil || connack.Code != mqtt.Accepted {
		t.Errorf("%+v, %v", connack, err)
	}
}
