package test

import (
	"crypto/ecdsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/slipway/slipway/internal/sastoken"
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
	in.madeByABackEnd(t, ca, key, stranger, strange)
	if out := in.must("audit", "list"); !strings.Contains(out, "authority.verify") {
		t.Errorf("the audit log says %s", out)
	}
	in.must("provisioning", "authority", "delete", "factory", "--yes")
	if status := in.registerWith(t, "unit-3", newLeaf(t, "unit-3", ca, key)); status != http.StatusAccepted {
		t.Errorf("after the authority was deleted: %d", status)
	}
	eventually(t, "the hub trusts the authority no more", 20*time.Second, func() bool {
		_, err := in.withChain("made-1", newLeaf(t, "made-1", ca, key).tls(t))
		return err != nil
	})
}

// madeByABackEnd has a back end make a device, and a module of it, that show
// certificates of an authority.
func (in *installation) madeByABackEnd(t *testing.T, ca *x509.Certificate, key *ecdsa.PrivateKey, stranger *x509.Certificate, strange *ecdsa.PrivateKey) {
	t.Helper()
	s := in.stamp("test-1")
	service, err := base64.StdEncoding.DecodeString(in.policy("test-1", "iothubowner").PrimaryKey)
	if err != nil {
		t.Fatal(err)
	}
	token := sastoken.Sign(service, url.QueryEscape(s.Host), time.Now().Add(time.Hour), "iothubowner")
	for _, path := range []string{"/devices/made-1", "/devices/made-1/modules/m"} {
		code, _, text := in.hubHTTP(s).do("PUT", path+"?api-version=2021-04-12", token, nil, `{"authentication":{"type":"certificateAuthority"}}`)
		if code > 201 || !strings.Contains(text, `"type":"certificateAuthority"`) {
			t.Fatalf("made %s: %d %s", path, code, text)
		}
	}
	between, its := newAuthorityOf(t, "line-1", ca, key)
	eventually(t, "the hub trusts the authority", 20*time.Second, func() bool {
		conn, err := in.withChain("made-1", newLeaf(t, "made-1", ca, key).tls(t))
		if err == nil {
			err = conn.Close()
		}
		return err == nil
	})
	for what, c := range map[string]struct {
		id    string
		chain tls.Certificate
		in    bool
	}{
		"a chain":                {"made-1", newLeaf(t, "made-1", between, its).tls(t, between), true},
		"a chain with a gap":     {"made-1", newLeaf(t, "made-1", between, its).tls(t), false},
		"a module":               {"made-1/m", newLeaf(t, "made-1/m", ca, key).tls(t), true},
		"its device's, for it":   {"made-1/m", newLeaf(t, "made-1", ca, key).tls(t), false},
		"another device's":       {"made-1", newLeaf(t, "made-2", ca, key).tls(t), false},
		"one of a stranger":      {"made-1", newLeaf(t, "made-1", stranger, strange).tls(t), false},
		"one of nobody else's":   {"made-1", newLeaf(t, "made-1", nil, nil).tls(t), false},
		"a device nobody made":   {"made-2", newLeaf(t, "made-2", ca, key).tls(t), false},
		"the authority's itself": {"made-1", newLeaf(t, "made-1", ca, key).tls(t, ca), true},
	} {
		conn, err := in.withChain(c.id, c.chain)
		if (err == nil) != c.in {
			t.Errorf("%s: %v", what, err)
		}
		if err == nil {
			conn.Close()
		}
	}
}
