package test

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/slipway/slipway/internal/seal"
)

// TestWhoHasTheFilesHasNoSecrets plants a secret in every place that takes one,
// and looks for them in every file of the installation but the keys, byte for
// byte, in each form in which they travel.
func TestWhoHasTheFilesHasNoSecrets(t *testing.T) {
	t.Parallel()
	in := start(t)
	in.enrol()
	planted := map[string][]byte{
		"the key of an enrolment group": groupKey,
		"a webhook's signing secret":    []byte("planted-webhook-secret-0123456789"),
		"a header of a webhook":         []byte("planted-header-value-0123456789"),
		"a password of Kafka":           []byte("planted-kafka-password"),
		"a receiver's password":         []byte("planted-mail-password"),
		"a receiver's token":            []byte("planted-receiver-token"),
		"an installation's token":       []byte(in.ready.AdminToken),
		"a device's key":                []byte("planted-key-of-a-device-0123456!"),
		"a key of an enrolment":         []byte("planted-key-of-one-enrolment-12!"),
	}
	encoded := func(name string) string { return base64.StdEncoding.EncodeToString(planted[name]) }
	in.apply(`apiVersion: slipway/v1
kind: Enrollment
metadata: { name: alone-1 }
spec:
  environment: test
  attestation: { symmetricKey: { primaryKey: ` + encoded("a key of an enrolment") + `, secondaryKey: ` + encoded("a device's key") + ` } }
---
apiVersion: slipway/v1
kind: Route
metadata: { name: hooked }
spec:
  environment: test
  source: telemetry
  endpoint: { webhook: { url: 'https://hooks.example.com/in', secret: whsec_` + encoded("a webhook's signing secret") + `, headers: { X-Planted: ` + string(planted["a header of a webhook"]) + ` } } }
---
apiVersion: slipway/v1
kind: Route
metadata: { name: queued }
spec:
  environment: test
  source: telemetry
  endpoint: { kafka: { brokers: ['kafka.example.com:9093'], topic: t, user: u, password: ` + string(planted["a password of Kafka"]) + ` } }
---
apiVersion: slipway/v1
kind: Receiver
metadata: { name: mail }
spec:
  email: { server: 'smtp.example.com:587', from: a@example.com, to: [b@example.com], username: u, password: ` + string(planted["a receiver's password"]) + ` }
---
apiVersion: slipway/v1
kind: Receiver
metadata: { name: hook }
spec:
  webhook: { url: 'https://alerts.example.com/in', token: ` + string(planted["a receiver's token"]) + ` }
`)
	if _, err := in.register("sealed-1"); err != nil {
		t.Fatal(err)
	}
	own := hmac.New(sha256.New, groupKey)
	own.Write([]byte("sealed-1"))
	planted["the key of a device that registered"] = own.Sum(nil)
	in.kill(syscall.SIGTERM)

	kept := 0
	data := filepath.Join(in.dir, "data")
	if err := filepath.WalkDir(data, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() || filepath.Base(path) == "admin-token" {
			return err
		}
		if entry.Name() == seal.FileName {
			kept++
			return nil
		}
		content, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		for what, secret := range planted {
			for form, text := range map[string]string{
				"as it is": string(secret), "in base64": base64.StdEncoding.EncodeToString(secret), "in hexadecimal": hex.EncodeToString(secret),
			} {
				if bytes.Contains(content, []byte(text)) {
					t.Errorf("%s, %s, is in %s", what, form, strings.TrimPrefix(path, data))
				}
			}
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if kept < 3 {
		t.Errorf("%d files of sealing keys, not one for each plane and stamp", kept)
	}
	for what, secret := range planted {
		if bytes.Contains(in.log.Bytes(), secret) {
			t.Errorf("%s is in the log", what)
		}
	}

	in.launch()
	if hub, err := in.register("sealed-1"); err != nil || hub == "" {
		t.Errorf("after a restart: %q, %v", hub, err)
	}
	if out := in.must("export", "--secrets"); !strings.Contains(out, base64.StdEncoding.EncodeToString(groupKey)) {
		t.Errorf("the key is not what it was: %s", out)
	}
}
