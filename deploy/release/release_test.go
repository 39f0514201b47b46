package main

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto"
	"crypto/ed25519"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/validate"
	"github.com/secure-systems-lab/go-securesystemslib/dsse"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"
)

// pretended is a release of programs that do nothing: what is made of programs
// is what is tested.
func pretended(t *testing.T, key string) *release {
	t.Helper()
	dir := t.TempDir()
	r := &release{
		root: "../..", out: dir, version: "v1.4.0", commit: strings.Repeat("c", 40), source: "https://example.com/slipway", at: time.Unix(1_790_000_000, 0).UTC(),
		authority: filepath.Join(t.TempDir(), "ca.crt"), key: key, platforms: []platform{{"linux", "amd64"}},
	}
	if err := os.WriteFile(r.authority, []byte("authorities"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, program := range programs {
		build := exec.Command("go", "build", "-C", "testdata/tiny", "-trimpath", "-buildvcs=false", "-ldflags", "-s -w -buildid=", "-o", r.built(program, r.platforms[0]), ".")
		if out, err := build.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
	}
	return r
}

func (r *release) make(t *testing.T) {
	t.Helper()
	p := r.platforms[0]
	if err := errors.Join(r.debServer(p), r.debAgent(p), r.image(), r.conclude(t.Context())); err != nil {
		t.Fatal(err)
	}
}

// TestTheSameCommitGivesTheSameBytes makes everything twice, and checks what
// others make of it: dpkg, systemd, verifiers of signatures, readers of images.
func TestTheSameCommitGivesTheSameBytes(t *testing.T) {
	half, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	key := filepath.Join(t.TempDir(), "key.pem")
	if err := os.WriteFile(key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	one, other := pretended(t, key), pretended(t, key)
	one.make(t)
	other.make(t)
	files, err := filepath.Glob(filepath.Join(one.out, "*"))
	if err != nil || len(files) != 9 {
		t.Fatalf("%d files: %v (%v)", len(files), files, err)
	}
	for _, file := range files {
		first, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		second, err := os.ReadFile(filepath.Join(other.out, filepath.Base(file)))
		if err != nil || !bytes.Equal(first, second) {
			t.Errorf("%s differs the second time (%v)", filepath.Base(file), err)
		}
	}
	one.sums(t)
	one.verified(t, half)
	one.installed(t)
	one.readable(t)
}

// sums are what sha256sum says.
func (r *release) sums(t *testing.T) {
	t.Helper()
	check := exec.Command("sha256sum", "--check", "--strict", "SHA256SUMS")
	check.Dir = r.out
	if out, err := check.CombinedOutput(); err != nil {
		t.Errorf("%v:\n%s", err, out)
	}
}

// verified checks the statement's signature as DSSE's own verifier does.
func (r *release) verified(t *testing.T, half ed25519.PublicKey) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(r.out, "slipway-1.4.0.provenance.dsse.json"))
	if err != nil {
		t.Fatal(err)
	}
	var envelope dsse.Envelope
	if err := yaml.Unmarshal(text, &envelope); err != nil {
		t.Fatal(err)
	}
	verifier, err := dsse.NewEnvelopeVerifier(edwards{signer{}, half})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := verifier.Verify(t.Context(), &envelope); err != nil {
		t.Errorf("the provenance is not signed: %v", err)
	}
	payload, err := envelope.DecodeB64Payload()
	if err != nil || !bytes.Contains(payload, []byte(`"predicateType":"https://slsa.dev/provenance/v1"`)) || !bytes.Contains(payload, []byte(r.commit)) {
		t.Errorf("the provenance reads %s (%v)", payload, err)
	}
	envelope.Payload = "e30="
	if _, err := verifier.Verify(t.Context(), &envelope); err == nil {
		t.Error("another statement is taken for the signed one")
	}
}

// installed has dpkg install the packages below a directory, and systemd read
// the units.
func (r *release) installed(t *testing.T) {
	t.Helper()
	root := t.TempDir()
	for _, dir := range []string{"var/lib/dpkg/updates", "var/lib/dpkg/info", "etc"} {
		if err := os.MkdirAll(filepath.Join(root, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, file := range []string{"var/lib/dpkg/status", "var/lib/dpkg/available"} {
		if err := os.WriteFile(filepath.Join(root, file), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	packages, err := filepath.Glob(filepath.Join(r.out, "*.deb"))
	if err != nil || len(packages) != 2 {
		t.Fatalf("%v, %v", packages, err)
	}
	for _, file := range packages {
		if out, err := exec.Command("dpkg-deb", "-x", file, root).CombinedOutput(); err != nil {
			t.Errorf("%s: %v\n%s", file, err, out)
		}
		out, err := exec.Command("dpkg-deb", "--field", file, "Package", "Version", "Architecture").CombinedOutput()
		if err != nil || !strings.Contains(string(out), "Version: 1.4.0") || !strings.Contains(string(out), "Architecture: amd64") {
			t.Errorf("%s: %v\n%s", file, err, out)
		}
	}
	for _, file := range []string{
		"usr/bin/slipway", "usr/bin/slipway-agent", "usr/share/man/man1/slipway-import.1.gz", "usr/share/bash-completion/completions/slipway", "usr/share/doc/slipway/copyright",
		"usr/lib/systemd/system/slipway-stamp@.service",
	} {
		if _, err := os.Stat(filepath.Join(root, file)); err != nil {
			t.Error(err)
		}
	}
	units, err := filepath.Glob(filepath.Join(root, "usr/lib/systemd/system/*.service"))
	if err != nil || len(units) != 4 {
		t.Fatalf("%v, %v", units, err)
	}
	for _, unit := range units {
		text, err := os.ReadFile(unit)
		if err != nil {
			t.Fatal(err)
		}
		if _, command, _ := strings.Cut(string(text), "\nExecStart="); !strings.HasPrefix(command, "/usr/bin/slipway") {
			t.Errorf("%s starts %.40q", unit, command)
		}
	}
	confined(t, root)
}

// confined has systemd read the units, and say how exposed a server's is.
func confined(t *testing.T, root string) {
	t.Helper()
	units := filepath.Join(root, "usr/lib/systemd/system")
	for name, text := range map[string]string{
		"sysinit.target": "[Unit]\n", "basic.target": "[Unit]\n", "network-online.target": "[Unit]\n", "shutdown.target": "[Unit]\n", "multi-user.target": "[Unit]\n", "system.slice": "[Slice]\n",
	} {
		if err := os.WriteFile(filepath.Join(units, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Link(filepath.Join(units, "slipway-stamp@.service"), filepath.Join(units, "slipway-stamp@one.service")); err != nil {
		t.Fatal(err)
	}
	for _, unit := range []string{"slipway-control.service", "slipway-provisioning.service", "slipway-stamp@one.service", "slipway-agent.service"} {
		if out, err := exec.Command("systemd-analyze", "verify", "--root="+root, unit).CombinedOutput(); err != nil || len(out) > 0 {
			t.Errorf("%s: %v\n%s", unit, err, out)
		}
		if unit == "slipway-agent.service" {
			continue // it installs software, as root
		}
		if out, err := exec.Command("systemd-analyze", "security", "--offline=true", "--no-pager", "--threshold=25", "--root="+root, unit).CombinedOutput(); err != nil {
			t.Errorf("%s is more exposed than 2.5: %v\n%s", unit, err, out)
		}
	}
}

// readable reads the image as registries do.
func (r *release) readable(t *testing.T) {
	t.Helper()
	file, err := os.Open(filepath.Join(r.out, "slipway-1.4.0-image.tar"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	dir := t.TempDir()
	for in := tar.NewReader(file); ; {
		header, err := in.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		to := filepath.Join(dir, filepath.FromSlash(header.Name))
		if header.Typeflag == tar.TypeDir {
			err = os.MkdirAll(to, 0o755)
		} else {
			var text []byte
			if text, err = io.ReadAll(in); err == nil {
				err = os.WriteFile(to, text, 0o600)
			}
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	index, err := layout.ImageIndexFromPath(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := validate.Index(index); err != nil {
		t.Errorf("the image is not in order: %v", err)
	}
}

// TestManifestsAreKubernetes reads deploy/kubernetes by Kubernetes' own types:
// no field that it does not know, and each container says how it is.
func TestManifestsAreKubernetes(t *testing.T) {
	files, err := filepath.Glob("../kubernetes/*.yaml")
	if err != nil || len(files) < 3 {
		t.Fatalf("%v, %v", files, err)
	}
	sets := 0
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, document := range bytes.Split(text, []byte("\n---")) {
			var kind struct{ Kind string }
			if err := yaml.Unmarshal(document, &kind); err != nil {
				t.Fatalf("%s: %v", file, err)
			}
			into, known := map[string]any{
				"StatefulSet": &appsv1.StatefulSet{}, "Deployment": &appsv1.Deployment{}, "Service": &corev1.Service{}, "ConfigMap": &corev1.ConfigMap{}, "Secret": &corev1.Secret{}, "Namespace": &corev1.Namespace{},
			}[kind.Kind]
			if !known && kind.Kind != "" {
				t.Errorf("%s: the kind %s is not known to this test", file, kind.Kind)
				continue
			}
			if kind.Kind == "" {
				continue
			}
			if err := yaml.UnmarshalStrict(document, into); err != nil {
				t.Errorf("%s: %s: %v", file, kind.Kind, err)
			}
			if set, is := into.(*appsv1.StatefulSet); is {
				sets++
				for _, c := range set.Spec.Template.Spec.Containers {
					if c.ReadinessProbe == nil || c.LivenessProbe == nil {
						t.Errorf("%s: %s has no probes", file, c.Name)
					}
				}
			}
		}
	}
	if sets < 3 {
		t.Errorf("only %d stateful sets", sets)
	}
}

// edwards verifies what the release's signer signs.
type edwards struct {
	signer
	public ed25519.PublicKey
}

func (e edwards) KeyID() (string, error)   { return signer{public{e.public}}.KeyID() }
func (e edwards) Public() crypto.PublicKey { return e.public }
func (e edwards) Verify(_ context.Context, data, sig []byte) error {
	if !ed25519.Verify(e.public, data, sig) {
		return errors.New("the signature does not fit")
	}
	return nil
}

// public is the half of a key that cannot sign.
type public struct{ key ed25519.PublicKey }

func (p public) Public() crypto.PublicKey { return p.key }
func (public) Sign(io.Reader, []byte, crypto.SignerOpts) ([]byte, error) {
	return nil, errors.New("a public key does not sign")
}
