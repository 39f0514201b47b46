package test

import (
	"crypto/tls"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// registerWith registers over HTTPS as the holder of a certificate.
func (in *installation) registerWith(t *testing.T, id string, p pair) (status int) {
	t.Helper()
	own, err := tls.X509KeyPair([]byte(p.cert), []byte(p.key))
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: in.pool, Certificates: []tls.Certificate{own}, MinVersion: tls.VersionTLS12}}
	defer transport.CloseIdleConnections()
	req, err := http.NewRequest(http.MethodPut, in.provisioningURL(id, "/register?api-version=2021-06-01"), strings.NewReader(`{"registrationId":"`+id+`"}`))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := (&http.Client{Transport: transport, Timeout: 20 * time.Second}).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	return resp.StatusCode
}

// TestAnAuthorityServesWhoeverHasItsKey lets an enrolment name an authority
// only after somebody has signed its code.
func TestAnAuthorityServesWhoeverHasItsKey(t *testing.T) {
	t.Parallel()
	in := start(t)
	ca, key := newAuthority(t, "factory")
	stranger, strange := newAuthority(t, "factory")
	file := func(name, text string) string {
		path := filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	refused := func(want string, args ...string) {
		t.Helper()
		if out, err := in.run(args...); err == nil || !strings.Contains(out, want) {
			t.Errorf("slipway %s: %v, %s", strings.Join(args, " "), err, out)
		}
	}
	group := file("group.yaml", `apiVersion: slipway/v1
kind: EnrollmentGroup
metadata: { name: by-reference }
spec:
  environment: test
  attestation: { x509: { caReference: Factory } }
`)
	refused("no certificate authority", "apply", "-f", group)
	in.must("provisioning", "authority", "add", "factory", file("ca.pem", pemOf("CERTIFICATE", ca.Raw)))
	refused("nobody has proven", "apply", "-f", group)
	leaf := newLeaf(t, "unit-1", ca, key)
	refused("basic constraints", "provisioning", "authority", "add", "leaf", file("leaf.pem", leaf.cert))

	all, err := in.api.Authorities(t.Context())
	if err != nil || len(all) != 1 || all[0].Code == "" || all[0].VerifiedAt != nil {
		t.Fatalf("%+v, %v", all, err)
	}
	code := all[0].Code
	refused("verification code", "provisioning", "authority", "verify", "factory", file("other.pem", leaf.cert))
	refused("not signed", "provisioning", "authority", "verify", "factory", file("self.pem", newLeaf(t, code, nil, nil).cert))
	refused("not signed", "provisioning", "authority", "verify", "factory", file("strange.pem", newLeaf(t, code, stranger, strange).cert))
	in.must("provisioning", "authority", "verify", "factory", file("proof.pem", newLeaf(t, code, ca, key).cert))
	if out := in.must("provisioning", "authority", "list"); strings.Contains(out, code) {
		t.Errorf("the code is still there: %s", out)
	}

	in.must("apply", "-f", group)
	if out := in.must("diff", "-f", group); strings.Contains(out, "caReference") {
		t.Errorf("what was applied differs: %s", out)
	}
	if status := in.registerWith(t, "unit-1", leaf); status != http.StatusAccepted {
		t.Errorf("a device of the authority: %d", status)
	}
	if status := in.registerWith(t, "unit-2", newLeaf(t, "unit-2", stranger, strange)); status != http.StatusUnauthorized {
		t.Errorf("a device of a stranger: %d", status)
	}
	if out := in.must("audit", "list"); !strings.Contains(out, "authority.verify") {
		t.Errorf("the audit log says %s", out)
	}
	in.must("provisioning", "authority", "delete", "factory", "--yes")
	if status := in.registerWith(t, "unit-3", newLeaf(t, "unit-3", ca, key)); status != http.StatusAccepted {
		t.Errorf("after the authority was deleted: %d", status)
	}
}
