package gate_test

import (
	"crypto/ed25519"
	"encoding/base64"
	"strings"
	"testing"

	"github.com/slipway/slipway/internal/control/gate"
	"github.com/slipway/slipway/internal/problem"
)

// checkSignature checks what a webhook was sent as one would: with the public
// key alone.
func checkSignature(t *testing.T, w *world, signed [4]string) {
	t.Helper()
	public, err := w.PublicKey(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	key, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(public, "whpk_"))
	if err != nil || len(key) != ed25519.PublicKeySize {
		t.Fatalf("%s: %v", public, err)
	}
	signature, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(signed[2], "v1a,"))
	if err != nil || !ed25519.Verify(key, []byte(signed[0]+"."+signed[1]+"."+signed[3]), signature) {
		t.Errorf("the signature %s does not hold: %v", signed[2], err)
	}
	if again, err := w.PublicKey(t.Context()); err != nil || again != public {
		t.Errorf("the key changed: %v", err)
	}
}

func TestAffected(t *testing.T) {
	for _, c := range []struct {
		kind, version string
		versions      []string
		edges         [][2]string
		want          bool
	}{
		{"SEMVER", "1.2.3", nil, [][2]string{{"0", "1.2.4"}}, true},
		{"SEMVER", "v1.2.4", nil, [][2]string{{"0", "1.2.4"}}, false},
		{"SEMVER", "1.2.4-rc.1", nil, [][2]string{{"0", "1.2.4"}}, true},
		{"SEMVER", "2.0.0", nil, [][2]string{{"0", "1.2.4"}, {"2.0.0", "2.1.0"}}, true},
		{"SEMVER", "1.9.0", nil, [][2]string{{"0", "1.2.4"}, {"2.0.0", "2.1.0"}}, false},
		{"ECOSYSTEM", "1.10", nil, [][2]string{{"0", "1.9"}}, false},
		{"ECOSYSTEM", "1.8", nil, [][2]string{{"0", "1.9"}}, true},
		{"ECOSYSTEM", "1:1.8-3+deb12u1", nil, [][2]string{{"0", "1:1.8-4"}}, true}, // nobody can tell
		{"ECOSYSTEM", "1:1.8-5", []string{"1:1.8-3"}, [][2]string{{"0", "1:1.8-4"}}, false},
		{"GIT", "1.0", nil, [][2]string{{"0", "abc"}}, true},
		{"SEMVER", "", nil, [][2]string{{"0", "1.2.4"}}, true},
		{"", "1.0", []string{"1.0"}, nil, true},
		{"", "1.1", []string{"1.0"}, nil, false},
		{"", "1.1", nil, nil, true},
	} {
		if got := gate.Affected(c.kind, c.version, c.versions, c.edges...); got != c.want {
			t.Errorf("%s %q of %v %v: %t", c.kind, c.version, c.versions, c.edges, got)
		}
	}
}

func TestPackagesMeet(t *testing.T) {
	for _, c := range [][4]string{
		{"", "npm", "@scope/Thing", "npm/@scope/thing"},
		{"pkg:npm/%40scope/thing@1.0", "", "", "npm/@scope/thing"},
		{"", "Maven", "org.example:lib", "maven/org.example/lib"},
		{"pkg:maven/org.example/lib@1", "", "", "maven/org.example/lib"},
		{"", "PyPI", "Foo_Bar", "pypi/foo-bar"},
		{"pkg:pypi/foo-bar@1", "", "", "pypi/foo-bar"},
		{"", "Debian:12", "openssl", "deb/debian/openssl"},
		{"pkg:deb/debian/openssl@1?distro=debian-12", "", "", "deb/debian/openssl"},
		{"", "Go", "example.com/a/b", "golang/example.com/a/b"},
		{"pkg:golang/example.com/a/b@v1", "", "", "golang/example.com/a/b"},
	} {
		if got := gate.PackageOf(c[0], c[1], c[2]); got != c[3] {
			t.Errorf("%v is %s", c, got)
		}
	}
}

func TestRating(t *testing.T) {
	for vector, want := range map[string]string{
		"CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H":                    "critical",
		"CVSS:3.0/AV:N/AC:L/PR:N/UI:N/S:U/C:N/I:N/A:H":                    "high",
		"CVSS:4.0/AV:N/AC:L/AT:N/PR:N/UI:N/VC:H/VI:H/VA:H/SC:N/SI:N/SA:N": "critical",
		"AV:L/AC:H/Au:N/C:N/I:P/A:P":                                      "low",
		"CVSS:3.1/AV:N":                                                   "",
		"seven":                                                           "",
	} {
		if got := gate.Rating(vector); got != want {
			t.Errorf("%s is %q, not %q", vector, got, want)
		}
	}
}

func FuzzOSV(f *testing.F) {
	f.Add([]byte(`[{"id":"GO-1","severity":[{"type":"CVSS_V3","score":"CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H"}],"affected":[{"package":{"ecosystem":"Go","name":"a"}}]}]`), "CVSS:4.0/AV:N", "1.0")
	f.Fuzz(func(t *testing.T, data []byte, vector, version string) {
		if _, err := gate.ReadOSV(data); err != nil && problem.Is(err, problem.Internal) {
			t.Errorf("a fault of ours: %v", err)
		}
		gate.Rating(vector)
		gate.Affected("SEMVER", version, nil, [2]string{vector, version})
		gate.PackageOf(vector, version, version)
	})
}

func FuzzAnswer(f *testing.F) {
	f.Add(200, []byte(`{"status":"success","data":{"resultType":"matrix","result":[{"metric":{"a":"b"},"values":[[1,"1"],[2,"NaN"]]}]}}`))
	f.Add(200, []byte(`{"status":"success","data":{"resultType":"vector","result":[{"value":[1,"+Inf"]}]}}`))
	f.Add(400, []byte(`{"status":"error","error":"parse error"}`))
	f.Fuzz(func(t *testing.T, status int, data []byte) {
		if _, err := gate.ReadAnswer(status, data); err != nil && problem.Is(err, problem.Internal) {
			t.Errorf("a fault of ours: %v", err)
		}
	})
}
