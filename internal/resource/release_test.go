package resource_test

import (
	"crypto/ed25519"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"strings"
	"testing"

	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/resource"
)

const goodRelease = `apiVersion: slipway/v1
kind: Release
metadata: { name: v1.4.0 }
spec:
  type: mixed
  software:
    - name: firmware
      version: 1.4.0
      hardware: [b2, b1]
      handler: rauc
      artifacts:
        - path: build/fw.bin
        - { file: delta.bin, sha256: 0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef }
  configuration: { reportEvery: 10, led: { on: true } }
  routes:
    - name: alerts
      spec: { where: $body.temperature > 40, endpoint: { webhook: { url: "https://a.example/", secret: "***" } } }
  flags:
    flags:
      fast: { state: ENABLED, variants: { on: true, off: false }, defaultVariant: "off", targeting: { if: [ { "==": [ { var: region }, eu ] }, "on", null ] } }
  migrations:
    - { name: rename, kind: twin, up: . }
  sbom:
    - path: bom.json
`

func TestAReleaseIsDecodedStrictly(t *testing.T) {
	all, err := resource.Decode("release.yaml", []byte(goodRelease))
	if err != nil || len(all) != 1 {
		t.Fatalf("%d, %v", len(all), err)
	}
	declared, err := resource.SpecOf[resource.ReleaseSpec](all[0])
	if err != nil {
		t.Fatal(err)
	}
	var asked []string
	spec, err := declared.Linked(func(at string, a resource.ReleaseArtifact) (link.Artifact, error) {
		asked = append(asked, at+"="+a.Path)
		if a.Path != "" {
			a.File, a.SHA256 = a.Path[strings.LastIndex(a.Path, "/")+1:], strings.Repeat("a", 64)
		}
		return a.Artifact, nil
	})
	if err != nil || fmt.Sprint(asked) != "[spec.software[0].artifacts[0]=build/fw.bin spec.software[0].artifacts[1]= spec.sbom[0]=bom.json]" {
		t.Fatalf("%v, %v", asked, err)
	}
	if s := spec.Software[0]; fmt.Sprint(s.Hardware) != "[b1 b2]" || len(s.Artifacts) != 2 || s.Artifacts[0].File != "fw.bin" || s.Handler != "rauc" || spec.Rollback != "safe" || len(spec.SBOM) != 1 || spec.Routes[0].Spec.Source != "telemetry" {
		t.Errorf("%+v", spec)
	}
	if set, err := resource.FlagsOf(spec); err != nil || *set.Flags["fast"].DefaultVariant != "off" {
		t.Errorf("%+v, %v", set, err)
	}
}

func TestFaultsOfAReleaseNameTheirLine(t *testing.T) {
	for _, c := range [][3]string{
		{"version: 1.4.0", "versoin: 1.4.0", "r.yaml:8:7: spec.software[0].versoin: no such field; there are artifacts, handler"},
		{"- path: build/fw.bin", "- { path: build/fw.bin, sha256: ab }", "r.yaml:12:19: spec.software[0].artifacts[0].path: an artifact is named by its path or by its sha256"},
		{"- path: build/fw.bin", "- pth: build/fw.bin", "r.yaml:12:11: spec.software[0].artifacts[0].pth: no such field"},
		{"file: delta.bin", "file: fw.bin", "spec.software[0].artifacts[1].file: two artifacts have the name fw.bin"},
		{"file: delta.bin", "file: a/b", "no slash"},
		{"[b2, b1]", "[b1, b1]", `r.yaml:9:17: spec.software[0].hardware: hardware "b1" is named twice`},
		{"handler: rauc", "handler: magic", "r.yaml:10:16: spec.software[0].handler: a handler is one of files"},
		{"version: 1.4.0", "version: ''", "spec.software[0].version: a version has"},
		{"name: firmware", "name: a/b", "spec.software[0].name: software's name"},
		{"kind: twin", "kind: other", "spec.migrations[0].kind: a migration's kind"},
		{"type: mixed", "type: other", "r.yaml:5:9: spec.type: a release's type"},
		{`secret: "***"`, "secret: whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=", "spec.routes[0].spec.endpoint: a release holds no secrets"},
		{"where: $body", "environment: test, where: $body", "spec.routes[0].spec.environment: a release's route runs in whatever"},
		{`"https://a.example/"`, "ftp://a.example/", "spec.routes[0].spec.endpoint.webhook.url: a URL reads"},
		{"{ on: true, off: false }", "{ on: true, off: 1 }", "spec.flags.flags.fast: all variants are of one type"},
		{"state: ENABLED", "state: ON", "r.yaml:20:13: spec.flags.flags.fast: a flag's state"},
		{"state: ENABLED", "stat: ENABLED", "spec.flags: flags are a document as flagd reads it"},
		{"reportEvery: 10", "slipway: 10", "spec.configuration.slipway: the property slipway is what devices are told to run by"},
		{"reportEvery: 10", "report Every: 10", "a property's name has"},
		{"reportEvery: 10", "reportEvery: null", "null takes a property away"},
		{"name: v1.4.0", "name: v1/4", "r.yaml:3:19: metadata.name: a release's name has"},
		{"  type: mixed\n", "  environment: test\n", "spec.environment: no such field"},
	} {
		if !strings.Contains(goodRelease, c[0]) {
			t.Fatalf("%q is not in the file", c[0])
		}
		_, err := resource.Decode("r.yaml", []byte(strings.Replace(goodRelease, c[0], c[1], 1)))
		if err == nil || !strings.Contains(err.Error(), c[2]) {
			t.Errorf("%s:\n got %v\nwant %s", c[1], err, c[2])
		}
	}
}

func TestSoftwareThatCouldNotBeToldApart(t *testing.T) {
	of := func(hardware ...[]string) link.ReleaseSpec {
		var s link.ReleaseSpec
		for i, kinds := range hardware {
			s.Software = append(s.Software, link.Software{Name: "fw", Version: fmt.Sprint(i), Hardware: kinds, Artifacts: []link.Artifact{{File: fmt.Sprint(i), SHA256: strings.Repeat("a", 64)}}})
		}
		return s
	}
	for _, c := range []struct {
		spec link.ReleaseSpec
		says string
	}{
		{of([]string{"a"}, []string{"b"}), ""},
		{of([]string{"a", "b"}, []string{"b"}), "software fw for b is in spec.software[0] already"},
		{of(nil, nil), "software fw for all hardware is in spec.software[0] already"},
		{of(nil, []string{"a"}), "which leaves open what a device takes"},
		{of([]string{"a"}, nil), "which leaves open what a device takes"},
		{link.ReleaseSpec{Software: []link.Software{
			{Name: "fw", Version: "1", Hardware: []string{"a"}, Artifacts: []link.Artifact{{File: "f", SHA256: strings.Repeat("a", 64)}}},
			{Name: "fw", Version: "1", Hardware: []string{"b"}, Artifacts: []link.Artifact{{File: "f", SHA256: strings.Repeat("b", 64)}}},
		}}, "devices fetch it by that name"},
	} {
		_, err := resource.CheckRelease(c.spec)
		if (err == nil) != (c.says == "") || err != nil && !strings.Contains(err.Error(), c.says) {
			t.Errorf("%+v: %v", c.spec.Software, err)
		}
	}
}

func TestWhoSignsForAnEnvironment(t *testing.T) {
	public, _, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		t.Fatal(err)
	}
	key := string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
	for _, c := range []struct {
		signing resource.Signing
		says    string
	}{
		{resource.Signing{Keys: []string{key}}, ""},
		{resource.Signing{Keys: []string{key}, Threshold: 1}, ""},
		{resource.Signing{Keys: []string{key}, Threshold: 2}, "spec.signing.threshold"},
		{resource.Signing{Keys: []string{key}, Threshold: -1}, "spec.signing.threshold"},
		{resource.Signing{Keys: []string{key, key}}, "spec.signing.keys[1]"},
		{resource.Signing{Keys: []string{"-----BEGIN PUBLIC KEY-----\n"}}, "spec.signing.keys[0]"},
		{resource.Signing{}, "spec.signing.keys"},
	} {
		err := resource.EnvironmentSpec{Signing: &c.signing}.Check("e")
		if (err == nil) != (c.says == "") || err != nil && !strings.Contains(err.Error(), c.says) {
			t.Errorf("%d keys, threshold %d: %v", len(c.signing.Keys), c.signing.Threshold, err)
		}
	}
	for _, name := range []string{"root", "targets", "snapshot", "timestamp"} {
		if resource.CheckName(resource.KindEnvironment, name) == nil || resource.CheckName(resource.KindStamp, name) != nil {
			t.Errorf("an environment may be named %s", name)
		}
	}
}

func FuzzRelease(f *testing.F) {
	f.Add([]byte(goodRelease))
	f.Fuzz(func(t *testing.T, data []byte) {
		all, err := resource.Decode("f", data)
		if err != nil {
			return
		}
		for _, r := range all {
			if r.Kind != resource.KindRelease {
				continue
			}
			spec, err := resource.SpecOf[resource.ReleaseSpec](r)
			if err != nil || spec.Check() != nil {
				t.Errorf("decoded, and yet: %v", err)
			}
		}
	})
}
