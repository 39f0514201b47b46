package api_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/slipway/slipway/internal/bus"
	"github.com/slipway/slipway/internal/control/artifact"
	"github.com/slipway/slipway/internal/control/signing"
	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/resource"
	"github.com/slipway/slipway/internal/sqldb"
)

func digestOf(content string) string {
	sum := sha256.Sum256([]byte(content))
	return hex.EncodeToString(sum[:])
}

// send sends a file in one part.
func (s *server) send(file, content string) string {
	s.t.Helper()
	id := digestOf(content)
	if status, body, _ := s.do("PUT", "/api/v1/artifacts/"+id+"/content?file="+file, content); status != 200 || !strings.Contains(body, `"state":"here"`) {
		s.t.Fatalf("%d %s", status, body)
	}
	return id
}

func TestArtifactsArriveInParts(t *testing.T) {
	s := newServer(t)
	content := strings.Repeat("0123456789abcdef", 100_000) // six parts and a bit
	id := digestOf(content)
	at := "/api/v1/artifacts/" + id
	part := func(from, to int) (status int, body string) {
		status, body, _ = s.do("PUT", at+"/content?file=fw.bin", content[from:to], "Content-Range", fmt.Sprintf("bytes %d-%d/%d", from, to-1, len(content)))
		return status, body
	}
	if status, body, _ := s.do("GET", at, ""); status != 404 || !strings.Contains(body, "slipway artifact put") {
		t.Errorf("before: %d %s", status, body)
	}
	const step = artifact.MinPart
	for _, c := range []struct {
		from, to, status int
		says             string
	}{
		{step, 2 * step, 409, "0 bytes have arrived; go on there"},
		{0, step - 1, 400, "at least 262144 bytes"},
		{0, step, 200, `"received":262144,"state":"arriving"`},
		{0, step, 200, `"received":262144`}, // again, as one does whose answer was lost
		{3 * step, 4 * step, 409, "262144 bytes have arrived"},
		{step, 3 * step, 200, `"received":786432`},
		{3 * step, len(content), 200, fmt.Sprintf(`"received":%d,"state":"here"`, len(content))},
		{0, step, 200, `"state":"here"`},
	} {
		if status, body := part(c.from, c.to); status != c.status || !strings.Contains(body, c.says) {
			t.Errorf("%d to %d: %d %s, want %d %s", c.from, c.to, status, body, c.status, c.says)
		}
	}
	status, body, header := s.do("GET", at+"/content", "")
	if status != 200 || body != content || header.Get("ETag") != `"`+id+`"` || header.Get("Content-Disposition") != "attachment; filename=fw.bin" {
		t.Errorf("%d, %d bytes, %v", status, len(body), header)
	}
	if status, body, header := s.do("GET", at+"/content", "", "Range", "bytes=1599990-", "If-Range", `"`+id+`"`); status != 206 || body != content[1599990:] || header.Get("Content-Range") != "bytes 1599990-1599999/1600000" {
		t.Errorf("%d %q %v", status, body, header)
	}
	if status, _, _ := s.do("GET", at+"/content", "", "If-None-Match", `"`+id+`"`); status != 304 {
		t.Errorf("unchanged: %d", status)
	}
	if status, body, _ := s.do("HEAD", at+"/content", ""); status != 200 || body != "" {
		t.Errorf("head: %d %s", status, body)
	}
	if status, _, _ := s.do("GET", at+"/content", "", "Range", "bytes=1600000-"); status != http.StatusRequestedRangeNotSatisfiable {
		t.Errorf("beyond the end: %d", status)
	}
	if status, body, _ := s.do("GET", "/api/v1/audit", ""); status != 200 || strings.Count(body, `"action":"artifact.put"`) != 1 {
		t.Errorf("the audit log has %s", body)
	}
}

func TestWhatIsWrongOfAnArtifact(t *testing.T) {
	s := newServer(t)
	wrong, big := digestOf("something else"), digestOf("big")
	for _, c := range []struct {
		what, path, body, contentRange string
		status                         int
		says                           string
	}{
		{"content that is not what it was announced as", wrong + "/content?file=f", "content", "", 400, "nothing of it was kept"},
		{"no name", wrong + "/content", "content", "", 400, "a file's name has"},
		{"a path for a name", wrong + "/content?file=..%2Ff", "content", "", 400, "no slash"},
		{"no digest", "abc/content?file=f", "content", "", 400, "64 of 0-9 and a-f"},
		{"a range that is none", wrong + "/content?file=f", "content", "bytes 0-6", 400, "it reads bytes FIRST-LAST/SIZE"},
		{"a range of another length", wrong + "/content?file=f", "content", "bytes 0-7/8", 400, "does not fit a body of 7 bytes"},
		{"a range that is turned around", wrong + "/content?file=f", "content", "bytes 7-0/8", 400, "does not fit"},
		{"a part after the end", wrong + "/content?file=f", "content", "bytes 2-8/8", 400, "not within the file"},
		{"more than one file may have", big + "/content?file=f", "content", "bytes 0-6/99999999999", 413, "an artifact has at most"},
		{"more than all may have together", big + "/content?file=f", strings.Repeat("x", artifact.MinPart), fmt.Sprintf("bytes 0-%d/99999999", artifact.MinPart-1), 413, "slipway artifact prune"},
		{"nothing", wrong + "/content?file=f", "", "", 400, "at least one byte"},
		{"the end of what has not begun", wrong + "/content?file=f", "", "bytes */8", 409, "0 bytes have arrived"},
		{"a part that is too large", big + "/content?file=f", strings.Repeat("x", artifact.MaxPart+1), "", 413, "a part has at most"},
	} {
		status, body, _ := s.do("PUT", "/api/v1/artifacts/"+c.path, c.body, "Content-Range", c.contentRange)
		if status != c.status || !strings.Contains(body, c.says) {
			t.Errorf("%s: %d %s", c.what, status, body)
		}
	}
	if status, body, _ := s.do("GET", "/api/v1/artifacts/"+wrong, ""); status != 200 || !strings.Contains(body, `"received":0`) {
		t.Errorf("what was asked last, which waits for its parts: %d %s", status, body)
	}
}

const releaseBody = `{"metadata":{"name":%q},"spec":{"software":[{"name":"firmware","version":%q,"hardware":["b","a"],"artifacts":[{"file":"fw.bin","sha256":%q}]}],
	"configuration":{"reportEvery":10},"routes":[{"name":"raw","spec":{"endpoint":{"archive":{"directory":"raw"}}}}],"flags":{"flags":{"fast":{"state":"ENABLED","variants":{"on":true,"off":false},"defaultVariant":%q}}},"sbom":[{"file":"bom.json","sha256":%q}]}}`

func TestReleasesAreMadeOnce(t *testing.T) {
	s := newServer(t)
	one, two := s.send("fw.bin", "firmware 1"), s.send("fw.bin", "firmware 2")
	bom := s.send("bom.json", `{"bomFormat":"CycloneDX","components":[{"name":"openssl","version":"3.0.1"}]}`)
	spdx := s.send("bom.json", `{"spdxVersion":"SPDX-2.3","packages":[{"name":"openssl","versionInfo":"3.0.2"}]}`)
	body := func(name, version, sha256, fast, bom string) string {
		return fmt.Sprintf(releaseBody, name, version, sha256, fast, bom)
	}
	var made link.Release
	status, text, header := s.do("POST", "/api/v1/releases", body("v1", "1.0", one, "off", bom))
	if err := json.Unmarshal([]byte(text), &made); err != nil || status != 200 || header.Get("ETag") != `"`+made.Digest+`"` || made.Counter < 1 || made.CreatedBy != "admin" {
		t.Fatalf("%d %s", status, text)
	}
	if a := made.Spec.Software[0].Artifacts[0]; a.Size != 10 || len(a.SHA1) != 40 || len(a.MD5) != 32 || fmt.Sprint(made.Spec.Software[0].Hardware) != "[a b]" || made.Spec.Type != "feature" {
		t.Errorf("%+v", made.Spec)
	}
	for _, c := range []struct {
		what, method, path, body string
		status                   int
		says                     string
	}{
		{"the same again", "POST", "/api/v1/releases", body("v1", "1.0", one, "off", bom), 200, `"digest":"` + made.Digest + `"`},
		{"the same content by another name", "POST", "/api/v1/releases", body("v1-again", "1.0", one, "off", bom), 200, `"digest":"` + made.Digest + `"`},
		{"other content by the same name", "POST", "/api/v1/releases", body("v1", "1.1", one, "off", bom), 409, "a release does not change"},
		{"an artifact that is not here", "POST", "/api/v1/releases", body("v3", "1.0", digestOf("?"), "off", bom), 400, `"field":"spec.software[0].artifacts[0].sha256"`},
		{"a bill of materials that is none", "POST", "/api/v1/releases", body("v3", "1.0", one, "off", two), 400, `"field":"spec.sbom[0].sha256"`},
		{"a default that is no variant", "POST", "/api/v1/releases", body("v3", "1.0", one, "maybe", bom), 400, "none of the variants"},
		{"a name that is none", "POST", "/api/v1/releases", body("../v3", "1.0", one, "off", bom), 400, "such as v1.4.0"},
		{"nothing in it", "POST", "/api/v1/releases", `{"metadata":{"name":"v3"},"spec":{}}`, 400, "has something in it"},
		{"the next", "POST", "/api/v1/releases", body("v2", "2.0", two, "on", spdx), 200, `"name":"v2"`},
		{"one", "GET", "/api/v1/releases/v2", "", 200, `"version":"2.0"`},
		{"none", "GET", "/api/v1/releases/v9", "", 404, "no release"},
		{"a page", "GET", "/api/v1/releases?limit=1", "", 200, `"next":"3"`},
		{"the next page", "GET", "/api/v1/releases?limit=1&after=2", "", 200, `"name":"v1"`},
		{"components", "GET", "/api/v1/releases/v2/components", "", 200, `{"name":"openssl","version":"3.0.2"}`},
		{"the difference: software", "GET", "/api/v1/releases/v2/diff?from=v1", "", 200, `"text":"software firmware from 1.0 to 2.0 for a, b"`},
		{"the difference: flags", "GET", "/api/v1/releases/v2/diff?from=v1", "", 200, `"text":"flag fast: default changed from off to on"`},
		{"the difference: components", "GET", "/api/v1/releases/v2/diff?from=v1", "", 200, `"text":"component openssl from 3.0.1 to 3.0.2"`},
		{"no difference", "GET", "/api/v1/releases/v1-again/diff?from=v1", "", 200, `{"items":[]}`},
		{"nothing to prune", "POST", "/api/v1/artifacts/prune", `{"unusedSeconds":1}`, 200, `{"items":[]}`},
		{"deleted", "DELETE", "/api/v1/releases/v2", "", 204, ""},
		{"deleted again", "DELETE", "/api/v1/releases/v2", "", 404, ""},
		{"recorded", "GET", "/api/v1/audit", "", 200, `"action":"release.delete"`},
	} {
		if status, body, _ := s.do(c.method, c.path, c.body); status != c.status || !strings.Contains(body, c.says) {
			t.Errorf("%s: %d %s", c.what, status, body)
		}
	}
}

func TestStampsFetchArtifactsAndMetadata(t *testing.T) {
	s := newServer(t)
	content := bytes.Repeat([]byte("firmware"), 100_000)
	id := s.send("fw.bin", string(content))
	var got []byte
	for {
		part, err := bus.Ask(t.Context(), s.conn, link.ControlPeer, link.ArtifactRead, link.ReadPart{Name: id, Offset: int64(len(got))})
		if err != nil || len(part.Data) == 0 || len(part.Data) > link.MaxPart || part.Size != int64(len(content)) {
			t.Fatalf("%d of %d bytes, %v", len(part.Data), part.Size, err)
		}
		if got = append(got, part.Data...); int64(len(got)) == part.Size {
			break
		}
	}
	if !bytes.Equal(got, content) {
		t.Error("they are not what was sent")
	}
	for name, kind := range map[string]problem.Kind{digestOf("?"): problem.NotFound, "../signing.key": problem.Invalid, "": problem.Invalid} {
		if _, err := bus.Ask(t.Context(), s.conn, link.ControlPeer, link.ArtifactRead, link.ReadPart{Name: name}); !problem.Is(err, kind) {
			t.Errorf("%q: %v", name, err)
		}
	}
	part, err := bus.Ask(t.Context(), s.conn, link.ControlPeer, link.MetadataRead, link.ReadPart{Name: "1.root.json"})
	_, root, _ := s.do("GET", "/api/v1/signing/root", "")
	if err != nil || string(part.Data) != root || !strings.Contains(root, `"_type":"root"`) {
		t.Errorf("%s, %v", part.Data, err)
	}
	for _, c := range []struct {
		method, path string
		status       int
		says         string
	}{
		{"GET", "/api/v1/signing", 200, `"name":"timestamp","version":1`},
		{"POST", "/api/v1/signing/timestamp/rotate", 204, ""},
		{"POST", "/api/v1/signing/nowhere/rotate", 404, "no environment"},
		{"GET", "/api/v1/signing/metadata/2.root.json", 200, `"version":2`},
		{"GET", "/api/v1/signing/metadata/9.root.json", 404, "no metadata"},
		{"GET", "/api/v1/environments/nowhere/proposal", 404, "no environment"},
	} {
		if status, body, _ := s.do(c.method, c.path, ""); status != c.status || !strings.Contains(body, c.says) {
			t.Errorf("%s %s: %d %s", c.method, c.path, status, body)
		}
	}
}

func TestAPersonSignsOverTheAPI(t *testing.T) {
	s := newServer(t)
	public, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		t.Fatal(err)
	}
	key := string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
	spec, err := json.Marshal(resource.EnvironmentSpec{Signing: &resource.Signing{Keys: []string{key}}})
	if err != nil {
		t.Fatal(err)
	}
	s.must("PUT", "/api/v1/environments/production", `{"spec":{}}`)
	s.must("POST", "/api/v1/releases", fmt.Sprintf(`{"metadata":{"name":"v1"},"spec":{"software":[{"name":"fw","version":"1","artifacts":[{"file":"f","sha256":%q}]}]}}`, s.send("f", "content")))
	if err := s.db.Commit(t.Context(), func(ctx context.Context, tx *sqldb.Tx) error { return s.signing.Admit(ctx, tx, "production", "v1") }); err != nil {
		t.Fatal(err)
	}
	s.must("GET", "/api/v1/signing/metadata/1.production.json", "")
	if status, _, _ := s.do("GET", "/api/v1/environments/production/proposal", ""); status != 404 {
		t.Errorf("control signs, and yet something waits: %d", status)
	}
	// Whose keys count is changed with the environment, in one change.
	s.must("PUT", "/api/v1/environments/production", `{"spec":`+string(spec)+`}`)
	var p signing.Proposal
	if err := json.Unmarshal([]byte(s.must("GET", "/api/v1/environments/production/proposal", "")), &p); err != nil || p.Version != 2 || fmt.Sprint(p.Releases) != "[v1]" {
		t.Fatalf("%+v, %v", p, err)
	}
	signed, err := json.Marshal(signing.Signature{Version: p.Version, PublicKey: key, Signature: ed25519.Sign(private, p.Payload)})
	if err != nil {
		t.Fatal(err)
	}
	if body := s.must("POST", "/api/v1/environments/production/proposal/signatures", string(signed)); !strings.Contains(body, `"complete":true`) {
		t.Errorf("%s", body)
	}
	s.must("GET", "/api/v1/signing/metadata/2.production.json", "")
	if body := s.must("GET", "/api/v1/signing", ""); !strings.Contains(body, `"threshold":1,"held":false,"releases":["v1"]`) {
		t.Errorf("%s", body)
	}
	if body := s.must("GET", "/api/v1/audit", ""); !strings.Contains(body, `"action":"signing.sign","object":"role/production","environment":"production"`) {
		t.Errorf("%s", body)
	}
	if status, body, _ := s.do("DELETE", "/api/v1/releases/v1", ""); status != 409 || !strings.Contains(body, "was let into an environment") {
		t.Errorf("%d %s", status, body)
	}
}

// must makes a call that goes well.
func (s *server) must(method, path, body string) string {
	s.t.Helper()
	status, text, _ := s.do(method, path, body)
	if status >= 300 {
		s.t.Fatalf("%s %s: %d %s", method, path, status, text)
	}
	return text
}
