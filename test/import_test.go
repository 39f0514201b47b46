package test

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/slipway/slipway/internal/control/fleet"
	"github.com/slipway/slipway/internal/link"
)

// brownfield is how a fleet begins that has only production.
const brownfield = `apiVersion: slipway/v1
kind: Environment
metadata: { name: production }
spec: {}
---
apiVersion: slipway/v1
kind: Stamp
metadata: { name: prod-1 }
spec: { environment: production, region: eu, capacity: 9000 }
---
apiVersion: slipway/v1
kind: Stamp
metadata: { name: prod-2 }
spec: { environment: production, region: us, capacity: 9000 }
`

// upstream are the stages that such a fleet gets.
const upstream = `apiVersion: slipway/v1
kind: Environment
metadata: { name: test }
spec: {}
---
apiVersion: slipway/v1
kind: Environment
metadata: { name: production }
spec: { promotesFrom: test }
---
apiVersion: slipway/v1
kind: Stamp
metadata: { name: test-1 }
spec: { environment: test, region: eu, capacity: 100 }
`

const (
	oldDevices = 10_000
	oldFaults  = 40 // lines among them that are wrong
)

func oldKey(i int) string {
	sum := sha256.Sum256(fmt.Appendf(nil, "the key of old device %d", i))
	return base64.StdEncoding.EncodeToString(sum[:])
}

// TestAnExistingFleetIsTakenOver imports ten thousand devices that have only
// known production, some of them on lines that are wrong; they connect with the
// keys and certificates they have, on an unmodified SDK, and then get stages
// before production.
func TestAnExistingFleetIsTakenOver(t *testing.T) {
	site := filepath.Join(t.TempDir(), "site.yaml")
	if err := os.WriteFile(site, []byte(brownfield), 0o600); err != nil {
		t.Fatal(err)
	}
	in := start(t, "-f", site)
	leaf := newLeaf(t, "old-cert", nil, nil)
	file := filepath.Join(t.TempDir(), "fleet.csv")
	if err := os.WriteFile(file, []byte(oldFleet(leaf)), 0o600); err != nil {
		t.Fatal(err)
	}
	in.takeOver(t, file)
	in.connectOld(t, leaf)
	in.apply(upstream)
	in.must("device", "move", "old-00007", "--to", "test")
	if d, err := in.api.Device(t.Context(), "old-00007"); err != nil || d.Environment != "test" {
		t.Errorf("a device that was taken over does not go to a stage before production: %+v, %v", d.Environment, err)
	}
}

// oldFleet is a list as another system might write it.
func oldFleet(leaf pair) string {
	var b strings.Builder
	b.WriteString("Serial,Key,Thumbprint,Site,Status\n")
	for i := range oldDevices {
		key, status := oldKey(i), ""
		switch {
		case i%250 == 249: // 40 of them
			key = "broken"
		case i == 5:
			status = "disabled"
		}
		fmt.Fprintf(&b, "old-%05d,%s,,site-%d,%s\n", i, key, i%7, status)
	}
	block, _ := pem.Decode([]byte(leaf.cert))
	sum := sha256.Sum256(block.Bytes)
	fmt.Fprintf(&b, "old-cert,,%s,site-1,\n", hex.EncodeToString(sum[:]))
	return b.String()
}

// takeOver imports the list: first to try, then in earnest, then once more.
func (in *installation) takeOver(t *testing.T, file string) {
	t.Helper()
	args := []string{"import", file, "--environment", "production", "--map", "deviceId=Serial", "--map", "primaryKey=Key", "--map", "tags.site=Site", "--map", "primaryThumbprint=Thumbprint", "--json"}
	report := func(more ...string) (r struct {
		Created, Unchanged, Refused int
		Errors                      []struct {
			Line  int64
			Field string
		}
	}) {
		t.Helper()
		out, err := in.run(append(args, more...)...)
		if err == nil {
			t.Errorf("an import with wrong lines ends well:\n%s", out)
		}
		if err := json.Unmarshal([]byte(out[strings.Index(out, "{"):]), &r); err != nil {
			t.Fatalf("%v in:\n%.2000s", err, out)
		}
		return r
	}
	if r := report("--dry-run"); r.Created != oldDevices-oldFaults+1 || r.Refused != oldFaults {
		t.Errorf("tried, it is %d created and %d refused", r.Created, r.Refused)
	}
	if page, err := in.api.Devices(t.Context(), fleet.Filter{}); err != nil || len(page.Items) != 0 {
		t.Errorf("a trial took over %d devices (%v)", len(page.Items), err)
	}
	began := time.Now()
	r := report()
	if r.Created != oldDevices-oldFaults+1 || r.Refused != oldFaults || len(r.Errors) != oldFaults || r.Errors[0].Line != 251 || r.Errors[0].Field != "primaryKey" {
		t.Errorf("the import is %d created, %d refused, the first %+v", r.Created, r.Refused, r.Errors[:min(1, len(r.Errors))])
	}
	t.Logf("%d devices taken over in %v", r.Created, time.Since(began).Round(time.Millisecond))
	if r := report(); r.Created != 0 || r.Unchanged != oldDevices-oldFaults+1 {
		t.Errorf("once more, it is %d created and %d unchanged", r.Created, r.Unchanged)
	}
	eventually(t, "all have their place", 3*time.Minute, func() bool {
		all, err := in.api.Overview(t.Context())
		if err != nil {
			return false
		}
		devices := 0
		for _, level := range all {
			for _, s := range level.Stamps {
				devices += s.Status.Assigned
			}
		}
		page, err := in.api.Devices(t.Context(), fleet.Filter{Phase: link.PhaseCreating, Limit: 1})
		return err == nil && devices == oldDevices-oldFaults+1 && len(page.Items) == 0
	})
}

// connectOld connects devices as they always did: by a key through provisioning,
// by a connection string to their hub alone, and by a certificate.
func (in *installation) connectOld(t *testing.T, leaf pair) {
	t.Helper()
	hub := func(id string) string {
		d, err := in.api.Device(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		s := in.stamp(d.Stamp)
		return net.JoinHostPort(s.Host, strconv.Itoa(s.MQTTS))
	}
	for _, config := range []map[string]any{
		{"id": "old-00001", "key": oldKey(1)},
		{"id": "old-00002", "key": oldKey(2), "hub": hub("old-00002")},
		{"id": "old-cert", "cert": leaf.cert, "certKey": leaf.key},
	} {
		s := in.startSDK(t, config)
		s.must("connect")
		s.must("send", "body", "as ever")
	}
	if twin, err := in.api.Twin(t.Context(), "old-00002"); err != nil || !strings.Contains(string(twin), `"site":"site-2"`) {
		t.Errorf("the twin did not come along: %s (%v)", twin, err)
	}
	s := in.startSDK(t, map[string]any{"id": "old-00005", "key": oldKey(5), "hub": hub("old-00005")})
	if e := s.do("connect"); e["event"] == "done" {
		t.Error("a device that was disabled connects")
	}
}
