package test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/slipway/slipway/internal/mqtt"
)

// softwareTPM starts an emulated TPM 2.0 and returns its socket.
func softwareTPM(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "tpm") // short: a socket's path has few characters
	if err != nil {
		t.Fatal(err)
	}
	socket := filepath.Join(dir, "tpm.sock")
	emulator := exec.Command("swtpm", "socket", "--tpm2", "--tpmstate", "dir="+dir, "--server", "type=unixio,path="+socket, "--flags", "not-need-init,startup-clear")
	emulator.Stderr = os.Stderr
	if err := emulator.Start(); err != nil {
		t.Fatalf("the test needs swtpm; run 'make setup-test', or install the package swtpm: %v", err)
	}
	t.Cleanup(func() {
		if err := emulator.Process.Kill(); err != nil {
			t.Log(err)
		}
		if err := emulator.Wait(); err == nil {
			t.Log("the emulator ended by itself")
		}
		os.RemoveAll(dir)
	})
	eventually(t, "the TPM answers", 10*time.Second, func() bool {
		_, err := os.Stat(socket)
		return err == nil
	})
	return socket
}

// TestATPMProvesItsDevice lets the unmodified SDK register with a software TPM.
func TestATPMProvesItsDevice(t *testing.T) {
	t.Parallel()
	in := start(t)
	s := in.stamp("test-1")
	dps := in.ready.Provisioning
	s.HTTPS = dps.HTTPS
	in.driveWith(t, "tpm.js", s, map[string]any{"tpm": softwareTPM(t), "id": "tpm-1", "provisioning": dps.Host, "scope": dps.IDScope}, func(line string) string {
		key, ok := strings.CutPrefix(line, "EK ")
		if !ok {
			return ""
		}
		in.apply("apiVersion: slipway/v1\nkind: Enrollment\nmetadata: { name: tpm-1 }\nspec: { environment: test, attestation: { tpm: { endorsementKey: \"" + key + "\" } } }\n")
		return "go on\n"
	})
	if out := in.must("device", "messages", "tpm-1", "--json"); !strings.Contains(out, base64.StdEncoding.EncodeToString([]byte("signed inside the TPM"))) {
		t.Errorf("the log holds %s", out)
	}
	if out := in.must("enrollment", "list"); !strings.Contains(out, "tpm") {
		t.Errorf("enrolments:\n%s", out)
	}
}

// registered registers a device of the group over HTTPS with more than its id
// and returns what it is told in the end.
func (in *installation) registered(t *testing.T, id string, more map[string]any) (state map[string]any) {
	t.Helper()
	more["registrationId"] = id
	body, err := json.Marshal(more)
	if err != nil {
		t.Fatal(err)
	}
	status, answer, _, err := in.call("PUT", id, "/register", string(body))
	if err != nil || status != http.StatusOK && status != http.StatusAccepted {
		t.Fatalf("%d %s %v", status, answer, err)
	}
	var told struct {
		OperationID, Status string
		RegistrationState   map[string]any
	}
	eventually(t, id+" is assigned", 20*time.Second, func() bool {
		if err := json.Unmarshal([]byte(answer), &told); err != nil {
			t.Fatalf("%s: %v", answer, err)
		}
		if told.Status == "assigned" {
			return true
		}
		if _, answer, _, err = in.call("GET", id, "/operations/"+told.OperationID, ""); err != nil {
			t.Fatal(err)
		}
		return false
	})
	return told.RegistrationState
}

// TestDevicesGetOperationalCertificates registers with a signing request and
// uses the certificate at the hub until it is revoked.
func TestDevicesGetOperationalCertificates(t *testing.T) {
	t.Parallel()
	in := start(t)
	in.enrol()
	key, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	request := func(name string) []byte {
		der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: name}}, key)
		if err != nil {
			t.Fatal(err)
		}
		return der
	}
	if status, answer, _, err := in.call("PUT", "pump-1", "/register", `{"registrationId":"pump-1","csr":"`+base64.StdEncoding.EncodeToString(request("pump-2"))+`"}`); err != nil || status != 400 || !strings.Contains(answer, "common name") {
		t.Errorf("a request for another device: %d %s %v", status, answer, err)
	}
	state := in.registered(t, "pump-1", map[string]any{"csr": request("pump-1")})
	links, ok := state["issuedCertificateChain"].([]any)
	if !ok || len(links) != 2 {
		t.Fatalf("got %v", state)
	}
	var chain tls.Certificate
	for _, one := range links {
		der, err := base64.StdEncoding.DecodeString(one.(string))
		if err != nil {
			t.Fatal(err)
		}
		chain.Certificate = append(chain.Certificate, der)
	}
	chain.PrivateKey = key
	connect := func() error {
		_, err := in.withChain("pump-1", chain)
		return err
	}
	if err := connect(); err != nil {
		t.Fatalf("with the certificate: %v", err)
	}
	other, _ := newAuthority(t, "another")
	if err := func() error {
		_, err := in.withChain("pump-1", tls.Certificate{Certificate: [][]byte{other.Raw}, PrivateKey: key})
		return err
	}(); err == nil {
		t.Error("another certificate was let in")
	}
	issued, err := in.api.Certificates(t.Context(), "pump-1", 0)
	if err != nil || len(issued) != 1 || issued[0].Environment != "test" || time.Until(issued[0].NotAfter) > 31*24*time.Hour {
		t.Fatalf("%+v, %v", issued, err)
	}
	conn, err := in.withChain("pump-1", chain)
	if err != nil {
		t.Fatal(err)
	}
	in.must("provisioning", "certificate", "revoke", issued[0].Serial, "--yes")
	if _, err := conn.Next(); err == nil {
		t.Error("the connection goes on after the revocation")
	}
	eventually(t, "the hub refuses it", 10*time.Second, func() bool { return connect() != nil })
	// The device's enrolled key is as good as before.
	if _, err := in.hub("pump-1", in.stamp("test-1"), true); err != nil {
		t.Errorf("with the key: %v", err)
	}
}

func (in *installation) withChain(id string, chain tls.Certificate) (*mqtt.ClientConn, error) {
	s := in.stamp("test-1")
	config := in.tls(s.Host)
	config.Certificates = []tls.Certificate{chain}
	return in.openWith(s.Host, s.MQTTS, config, &mqtt.Connect{ClientID: id, CleanSession: true, KeepAlive: 60, Username: s.Host + "/" + id + "/?api-version=2021-04-12"})
}

// TestAWebhookChoosesTheStamp asks a service of ours, and does without it when
// it fails.
func TestAWebhookChoosesTheStamp(t *testing.T) {
	t.Parallel()
	in := start(t, "--allow-network", "127.0.0.0/8")
	var mu sync.Mutex
	var asked []map[string]any
	broken := false
	service := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		text, err := io.ReadAll(r.Body)
		var q map[string]any
		if err == nil {
			err = json.Unmarshal(text, &q)
		}
		if err != nil || broken {
			http.Error(w, "broken", http.StatusInternalServerError)
			return
		}
		asked = append(asked, q)
		hubs := q["linkedHubs"].([]any)
		answer, err := json.Marshal(map[string]any{"iotHubHostName": hubs[len(hubs)-1], "payload": map[string]any{"tier": "gold"}, "initialTwin": map[string]any{"tags": map[string]any{"by": "webhook"}, "properties": map[string]any{"desired": map[string]any{"x": 1}}}})
		if err != nil {
			t.Error(err)
		}
		w.Write(answer)
	}))
	defer service.Close()
	in.apply(`apiVersion: slipway/v1
kind: EnrollmentGroup
metadata: { name: ` + groupName + ` }
spec:
  environment: production
  attestation: { symmetricKey: { primaryKey: ` + base64.StdEncoding.EncodeToString(groupKey) + ` } }
  allocation: { policy: custom, webhook: "` + service.URL + `/choose" }
`)
	state := in.registered(t, "w-1", map[string]any{"payload": map[string]any{"model": "m7"}})
	if payload, err := json.Marshal(state["payload"]); err != nil || string(payload) != `{"tier":"gold"}` {
		t.Errorf("the device was told %v", state)
	}
	if d := show(t, in, "w-1"); d.Stamp != "production-us-1" {
		t.Errorf("it is on %s", d.Stamp)
	}
	if out := in.must("device", "twin", "w-1", "--json"); !strings.Contains(out, `"by": "webhook"`) && !strings.Contains(out, `"by":"webhook"`) {
		t.Errorf("the twin is %s", out)
	}
	mu.Lock()
	first := asked[0]
	broken = true
	mu.Unlock()
	device := first["deviceRuntimeContext"].(map[string]any)
	if device["registrationId"] != "w-1" || device["payload"].(map[string]any)["model"] != "m7" || first["enrollmentGroup"] == nil || len(first["linkedHubs"].([]any)) != 2 {
		t.Errorf("it was asked %v", first)
	}
	if state := in.registered(t, "w-2", map[string]any{}); state["assignedHub"] == nil || state["payload"] != nil {
		t.Errorf("without the service: %v", state)
	}
}

// rotateAuthority has a group go over to another authority while a device of it
// is connected: the device stays, certificates of both are let in while the
// enrolment names both, and then those of the new one only.
func (in *installation) rotateAuthority(t *testing.T) {
	t.Helper()
	old, oldKey := newAuthority(t, "old")
	fresh, freshKey := newAuthority(t, "fresh")
	group := func(x509 string) {
		in.apply("apiVersion: slipway/v1\nkind: EnrollmentGroup\nmetadata: { name: certified }\nspec:\n  environment: test\n  attestation: { x509: { " + x509 + " } }\n")
	}
	group("ca: " + strconv.Quote(pemOf("CERTIFICATE", old.Raw)))
	leaf, renewed := newLeaf(t, "c-1", old, oldKey), newLeaf(t, "c-1", fresh, freshKey)
	if status := in.registerWith(t, "c-1", leaf); status != http.StatusAccepted {
		t.Fatalf("registered: %d", status)
	}
	var conn *mqtt.ClientConn
	connects := func(p pair) func() bool {
		return func() bool {
			c, err := in.withChain("c-1", p.tls(t))
			if err == nil {
				conn = c // it took over
			}
			return err == nil
		}
	}
	denied := func(p pair) bool {
		c, err := in.withChain("c-1", p.tls(t))
		if err == nil {
			conn = c
		}
		return errors.Is(err, refused(mqtt.NotAuthorized))
	}
	eventually(t, "the device connects", 20*time.Second, connects(leaf))
	if !denied(renewed) {
		t.Error("an authority that the enrolment does not name is let in")
	}
	group("ca: " + strconv.Quote(pemOf("CERTIFICATE", old.Raw)) + ", secondaryCA: " + strconv.Quote(pemOf("CERTIFICATE", fresh.Raw)))
	eventually(t, "the stamp takes the new authority", 20*time.Second, connects(renewed))
	eventually(t, "the old one is let in while the enrolment names it", 20*time.Second, connects(leaf))
	group("ca: " + strconv.Quote(pemOf("CERTIFICATE", fresh.Raw)))
	// A probe that is let in takes over; the connection it leaves is the one that stays.
	eventually(t, "the stamp refuses the old authority", 20*time.Second, func() bool { return denied(leaf) })
	if err := conn.Write(&mqtt.Pingreq{}); err != nil {
		t.Errorf("the device that was connected: %v", err)
	}
	if answer, err := conn.Next(); err != nil {
		t.Errorf("the device that was connected: %v, %v", answer, err)
	}
	eventually(t, "the new one is let in", 20*time.Second, connects(renewed))
}

// TestKeysRotateWithoutCuttingAnybody gives a group new keys while its devices
// are connected: they stay, the old key stops working, the new one works. The
// same goes for the authority of certificates.
func TestKeysRotateWithoutCuttingAnybody(t *testing.T) {
	t.Parallel()
	in := start(t)
	in.enrol()
	s := in.stamp("test-1")
	if _, err := in.register("r-1"); err != nil {
		t.Fatal(err)
	}
	conn, err := in.hub("r-1", s, true)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fresh := base64.StdEncoding.EncodeToString(bytes.Repeat([]byte("n"), 64))
	in.apply(`apiVersion: slipway/v1
kind: EnrollmentGroup
metadata: { name: ` + groupName + ` }
spec:
  environment: test
  attestation: { symmetricKey: { primaryKey: ` + fresh + `, secondaryKey: ` + fresh + ` } }
`)
	eventually(t, "the stamp refuses the old key", 20*time.Second, func() bool {
		other, err := in.hub("r-1", s, true)
		if err == nil {
			// It took over: connect the first again as the one that stays.
			conn.Close()
			conn = other
		}
		return err != nil
	})
	if err := conn.publish(`{"still":"here"}`); err != nil {
		t.Errorf("the device that was connected: %v", err)
	}
	if got, err := in.api.Device(t.Context(), "r-1"); err != nil || !got.Connected {
		t.Errorf("%+v, %v", got, err)
	}
	in.rotateAuthority(t)
}
