// Package test holds the whole system to its promises: the real binary as
// processes of its own, killed and started again, with clients nobody here
// wrote.
package test

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/slipway/slipway/device"
	"github.com/slipway/slipway/internal/client"
	"github.com/slipway/slipway/internal/mqtt"
	"github.com/slipway/slipway/internal/sastoken"
	"github.com/slipway/slipway/internal/up"
)

var binary string

func TestMain(m *testing.M) {
	if text := os.Getenv(crowdVariable); text != "" {
		if err := gather(context.Background(), text); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	dir, err := os.MkdirTemp("", "slipway-test")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	binary = filepath.Join(dir, "slipway")
	build := exec.Command("go", "build", "-o", binary, "../cmd/slipway")
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "build slipway: %v\n%s", err, out)
		os.Exit(1)
	}
	code := m.Run()
	if err := tabulate(); err != nil && code == 0 {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	if err := os.RemoveAll(dir); err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
	os.Exit(code)
}

// installation is a server process with its data directory.
type installation struct {
	t     *testing.T
	dir   string
	ready up.Ready
	api   *client.Client
	pool  *x509.CertPool
	log   bytes.Buffer

	// patience is how long a device waits for the answer to what it sends;
	// zero is a minute.
	patience time.Duration

	keys map[string][]byte // of groups, by what their devices' ids begin with; else groupKey

	mu      sync.Mutex
	process *exec.Cmd
	ports   [3]string // kept over restarts, as real ones are
}

// start starts a new installation.
func start(t *testing.T, args ...string) *installation {
	t.Helper()
	in := &installation{t: t, dir: t.TempDir(), ports: [3]string{":0", ":0", ":0"}}
	t.Cleanup(func() {
		in.kill(syscall.SIGTERM)
		if t.Failed() {
			text := in.log.String()
			t.Logf("server log, the end:\n%s", text[max(0, len(text)-4000):])
		}
	})
	in.launch(args...)
	return in
}

// launch starts the server on its data directory and waits until it is ready.
func (in *installation) launch(args ...string) {
	in.t.Helper()
	file := filepath.Join(in.dir, "ready-file.json")
	if err := os.Remove(file); err != nil && !os.IsNotExist(err) {
		in.t.Fatal(err)
	}
	all := append([]string{"up", "--data", filepath.Join(in.dir, "data"), "--ready-file", file, "--http", in.ports[0], "--https", in.ports[1], "--mqtts", in.ports[2], "--probes", "0"}, args...)
	process := exec.Command(binary, all...)
	process.Stderr = &in.log
	if err := process.Start(); err != nil {
		in.t.Fatal(err)
	}
	in.mu.Lock()
	in.process = process
	in.mu.Unlock()
	eventually(in.t, "the server is ready", 3*time.Minute, func() bool {
		text, err := os.ReadFile(file)
		return err == nil && json.Unmarshal(text, &in.ready) == nil
	})
	in.connect()
}

func (in *installation) connect() {
	in.t.Helper()
	var err error
	if in.api, err = client.New(client.Options{URL: in.ready.API, Token: in.ready.AdminToken, CAFile: in.ready.CA}); err != nil {
		in.t.Fatal(err)
	}
	console, err := url.Parse(in.ready.Console)
	if err != nil {
		in.t.Fatal(err)
	}
	in.ports = [3]string{":" + console.Port(), ":" + strconv.Itoa(in.ready.Provisioning.HTTPS), ":" + strconv.Itoa(in.ready.Provisioning.MQTTS)}
	pem, err := os.ReadFile(in.ready.CA)
	if err != nil {
		in.t.Fatal(err)
	}
	in.pool = x509.NewCertPool()
	in.pool.AppendCertsFromPEM(pem)
}

// kill ends the server and waits for its end.
func (in *installation) kill(signal os.Signal) {
	in.mu.Lock()
	process := in.process
	in.process = nil
	in.mu.Unlock()
	if process == nil {
		return
	}
	if err := process.Process.Signal(signal); err != nil {
		in.t.Error(err)
	}
	if err := process.Wait(); err != nil && signal != syscall.SIGKILL {
		in.t.Errorf("the server ended with %v", err)
	}
}

// run runs a slipway command against the installation.
func (in *installation) run(args ...string) (string, error) {
	command := exec.Command(binary, args...)
	command.Env = append(os.Environ(), "SLIPWAY_URL="+in.ready.API, "SLIPWAY_TOKEN="+in.ready.AdminToken, "SLIPWAY_CA="+in.ready.CA)
	out, err := command.CombinedOutput()
	return string(out), err
}

func (in *installation) must(args ...string) string {
	in.t.Helper()
	out, err := in.run(args...)
	if err != nil {
		in.t.Fatalf("slipway %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return out
}

// apply applies a YAML text.
func (in *installation) apply(text string) {
	in.t.Helper()
	if said, err := in.applied(text); err != nil {
		in.t.Fatalf("slipway apply: %v\n%s", err, said)
	}
}

// applied applies a YAML text that may be refused.
func (in *installation) applied(text string) (string, error) {
	in.t.Helper()
	file := filepath.Join(in.t.TempDir(), "resources.yaml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		in.t.Fatal(err)
	}
	return in.run("apply", "-f", file)
}

// stopSignal ends the server as an operator does.
var stopSignal = syscall.SIGTERM

// groupKey is the key of the enrolment group most tests use.
var groupKey = []byte("0123456789abcdef0123456789abcdef")

const groupName = "line-7"

func (in *installation) enrol() {
	in.t.Helper()
	in.apply(`apiVersion: slipway/v1
kind: EnrollmentGroup
metadata: { name: ` + groupName + ` }
spec:
  environment: test
  attestation: { symmetricKey: { primaryKey: ` + base64.StdEncoding.EncodeToString(groupKey) + ` } }
  allocation: { policy: leastLoaded }
  initialTwin: { tags: { batch: "7" }, desired: { reportEvery: 10 } }
`)
}

// keyOf is the key of the group a device is of.
func (in *installation) keyOf(id string) []byte {
	prefix, _, _ := strings.Cut(id, "-")
	if key := in.keys[prefix]; key != nil {
		return key
	}
	return groupKey
}

// stamp is a stamp's place by name.
func (in *installation) stamp(name string) up.ReadyStamp {
	in.t.Helper()
	for _, s := range in.ready.Stamps {
		if s.Name == name {
			return s
		}
	}
	in.t.Fatalf("there is no stamp %s", name)
	return up.ReadyStamp{}
}

// eventually waits until something is so.
func eventually(t testing.TB, what string, limit time.Duration, so func() bool) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(limit); ; <-tick.C {
		if so() {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("not within %s: %s", limit, what)
		}
	}
}

// raw is a device as plain MQTT packets.
type raw struct {
	*mqtt.ClientConn
	id       string
	next     uint16
	patience time.Duration
}

// tls trusts the installation's authority for a host.
func (in *installation) tls(host string) *tls.Config {
	return &tls.Config{RootCAs: in.pool, ServerName: host, MinVersion: tls.VersionTLS12}
}

func (in *installation) dial(host string, port int) (*mqtt.ClientConn, error) {
	return in.dialWith(host, port, in.tls(host))
}

func (in *installation) dialWith(host string, port int, config *tls.Config) (*mqtt.ClientConn, error) {
	dialer := tls.Dialer{NetDialer: &net.Dialer{Timeout: 10 * time.Second}, Config: config}
	nc, err := dialer.Dial("tcp", net.JoinHostPort(host, strconv.Itoa(port)))
	if err != nil {
		return nil, err
	}
	conn := mqtt.NewClientConn(nc, 1<<20)
	return conn, conn.SetReadDeadline(time.Now().Add(60 * time.Second))
}

func tokenFor(resource string, key []byte, policy string) []byte {
	return []byte(sastoken.Sign(key, url.QueryEscape(resource), time.Now().Add(time.Hour), policy))
}

// refused is the CONNACK code of a connection that was not let in.
type refused mqtt.ConnackCode

func (r refused) Error() string { return mqtt.ConnackCode(r).String() }

func (in *installation) open(host string, port int, connect *mqtt.Connect) (*mqtt.ClientConn, error) {
	return in.openWith(host, port, in.tls(host), connect)
}

func (in *installation) openWith(host string, port int, config *tls.Config, connect *mqtt.Connect) (*mqtt.ClientConn, error) {
	conn, err := in.dialWith(host, port, config)
	if err != nil {
		return nil, err
	}
	connect.ProtocolName, connect.ProtocolLevel, connect.HasUsername, connect.HasPassword = "MQTT", 4, true, len(connect.Password) > 0
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	connack, err := conn.Connect(ctx, connect)
	if err == nil && connack.Code != mqtt.Accepted {
		err = refused(connack.Code)
	}
	if err != nil {
		conn.Close()
		return nil, err
	}
	return conn, nil
}

// hub connects a device of the group to a stamp.
func (in *installation) hub(id string, s up.ReadyStamp, clean bool) (*raw, error) {
	conn, err := in.open(s.Host, s.MQTTS, &mqtt.Connect{
		ClientID: id, CleanSession: clean, KeepAlive: 300, Username: s.Host + "/" + id + "/?api-version=2021-04-12",
		Password: tokenFor(s.Host+"/devices/"+id, device.DeriveKey(in.keyOf(id), id), ""),
	})
	if err != nil {
		return nil, err
	}
	return &raw{ClientConn: conn, id: id, patience: cmp.Or(in.patience, time.Minute)}, nil
}

// register registers a device of the group over MQTT and returns the hub's
// host, empty while it is not assigned.
func (in *installation) register(id string) (hub string, err error) {
	resource := in.ready.Provisioning.IDScope + "/registrations/" + id
	conn, err := in.open(in.ready.Provisioning.Host, in.ready.Provisioning.MQTTS, &mqtt.Connect{
		ClientID: id, CleanSession: true, KeepAlive: 60, Username: resource + "/api-version=2019-03-31",
		Password: tokenFor(resource, device.DeriveKey(in.keyOf(id), id), "registration"),
	})
	if err != nil {
		return "", err
	}
	defer conn.Close()
	if err := conn.Write(&mqtt.Subscribe{PacketID: 1, Filters: []mqtt.Filter{{Topic: "$dps/registrations/res/#"}}},
		&mqtt.Publish{Topic: "$dps/registrations/PUT/iotdps-register/?$rid=1", Payload: []byte(`{"registrationId":"` + id + `"}`)}); err != nil {
		return "", err
	}
	for {
		packet, err := conn.Next()
		if err != nil {
			return "", err
		}
		p, ok := packet.(*mqtt.Publish)
		if !ok {
			continue
		}
		var answer struct {
			OperationID, Status string
			RegistrationState   struct{ AssignedHub string }
		}
		if err := json.Unmarshal(p.Payload, &answer); err != nil {
			return "", err
		}
		if answer.Status != "assigning" {
			return answer.RegistrationState.AssignedHub, nil
		}
		if err := conn.Write(&mqtt.Publish{Topic: "$dps/registrations/GET/iotdps-get-operationstatus/?$rid=2&operationId=" + answer.OperationID}); err != nil {
			return "", err
		}
	}
}

// publish sends telemetry and waits for its acknowledgement.
func (r *raw) publish(body string) error {
	if err := r.SetReadDeadline(time.Now().Add(r.patience)); err != nil {
		return err
	}
	if r.next++; r.next == 0 {
		r.next = 1
	}
	if err := r.Write(&mqtt.Publish{Topic: "devices/" + r.id + "/messages/events/", Payload: []byte(body), QoS: 1, PacketID: r.next}); err != nil {
		return err
	}
	for {
		packet, err := r.Next()
		if err != nil {
			return err
		}
		if ack, ok := packet.(*mqtt.Puback); ok && ack.PacketID == r.next {
			return nil
		}
	}
}

// provisioningAddress is where devices register, as host:port.
func (in *installation) provisioningAddress() string {
	return net.JoinHostPort(in.ready.Provisioning.Host, strconv.Itoa(in.ready.Provisioning.MQTTS))
}
