package test

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// tenantsDeclared are two tenants that share a stamp; a third stamp waits.
const tenantsDeclared = `apiVersion: slipway/v1
kind: Tenant
metadata: { name: noisy }
spec: { messagesPerSecond: 40 }
---
apiVersion: slipway/v1
kind: Tenant
metadata: { name: quiet }
spec: { displayName: The quiet one }
---
apiVersion: slipway/v1
kind: Stamp
metadata: { name: test-2 }
spec: { environment: test, region: local, tenants: [quiet] }
`

// crowd are devices of a tenant, connected to the first stamp.
func crowd(t *testing.T, in *installation, tenant string, n int) []*raw {
	t.Helper()
	if in.keys == nil {
		in.keys = map[string][]byte{}
	}
	in.keys[tenant] = []byte(rand.Text())
	in.apply(fmt.Sprintf(`apiVersion: slipway/v1
kind: EnrollmentGroup
metadata: { name: of-%s }
spec:
  environment: test
  tenant: %s
  attestation: { symmetricKey: { primaryKey: %s } }
  allocation: { stamps: [test-1] }
`, tenant, tenant, base64.StdEncoding.EncodeToString(in.keys[tenant])))
	var all []*raw
	for i := range n {
		id := fmt.Sprintf("%s-%02d", tenant, i)
		if _, err := in.register(id); err != nil {
			t.Fatal(err)
		}
		conn, err := in.hub(id, in.stamp("test-1"), true)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		all = append(all, conn)
	}
	return all
}

// flood has devices send as fast as they are acknowledged, until stop closes,
// and returns how often they were, and how long each took.
func flood(devices []*raw, stop <-chan struct{}) (acked int64, took []time.Duration) {
	var mu sync.Mutex
	var all sync.WaitGroup
	var n atomic.Int64
	for _, d := range devices {
		all.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				begin := time.Now()
				if d.publish(`{"x":1}`) != nil {
					return
				}
				n.Add(1)
				mu.Lock()
				took = append(took, time.Since(begin))
				mu.Unlock()
			}
		})
	}
	all.Wait()
	slices.Sort(took)
	return n.Load(), took
}

// TestANoisyTenantHarmsItself floods a stamp from one tenant's devices: it gets
// what its quota gives and no more, and the other tenant goes on as before.
func TestANoisyTenantHarmsItself(t *testing.T) {
	t.Parallel()
	in := start(t)
	in.apply(tenantsDeclared)
	noisy, quiet := crowd(t, in, "noisy", 8), crowd(t, in, "quiet", 2)
	eventually(t, "the stamp knows the quota", 15*time.Second, func() bool {
		begin := time.Now()
		for range 60 { // more than a burst: the last wait
			if err := noisy[0].publish(`{"x":0}`); err != nil {
				t.Fatal(err)
			}
		}
		return time.Since(begin) > 300*time.Millisecond
	})
	const span = 3 * time.Second
	phase := func(with []*raw) (quietly, noisily int64, p50, p99 time.Duration) {
		stop := make(chan struct{})
		time.AfterFunc(span, func() { close(stop) })
		done := make(chan int64)
		go func() { n, _ := flood(with, stop); done <- n }()
		quietly, took := flood(quiet, stop)
		return quietly, <-done, took[len(took)/2], took[len(took)*99/100]
	}
	alone, _, p50Alone, p99Alone := phase(nil)
	beside, noise, p50, p99 := phase(noisy)
	t.Logf("quiet alone: %d messages in %s, p50 %s, p99 %s", alone, span, p50Alone, p99Alone)
	t.Logf("beside 8 noisy devices: %d messages, p50 %s, p99 %s; the noisy ones got %d", beside, p50, p99, noise)
	if most := int64(40 * (span.Seconds() + 2)); noise == 0 || noise > most {
		t.Errorf("the noisy tenant got %d messages by, not 1 to %d", noise, most)
	}
	if beside < 5*noise {
		t.Errorf("the quiet tenant, without a quota, got %d messages by, the noisy one %d", beside, noise)
	}
}

// TestATenantIsMovedAsOne moves a tenant to a stamp of its own, while the other
// stays, and sees what each of their tokens shows.
func TestATenantIsMovedAsOne(t *testing.T) {
	t.Parallel()
	in := start(t)
	in.apply(tenantsDeclared)
	crowd(t, in, "noisy", 3)
	for _, d := range crowd(t, in, "quiet", 5) {
		d.Close()
	}
	in.must("tenant", "move", "quiet", "--to-stamp", "test-2", "--wait")
	for i := range 5 {
		id := fmt.Sprintf("quiet-%02d", i)
		eventually(t, id+" is on its tenant's stamp", 20*time.Second, func() bool {
			host, err := in.register(id)
			return err == nil && strings.HasPrefix(host, in.stampHost("test-2"))
		})
	}
	var detail struct{ Tenant, Stamp string }
	if err := json.Unmarshal([]byte(in.must("device", "show", "quiet-03", "--json")), &detail); err != nil || detail.Tenant != "quiet" || detail.Stamp != "test-2" {
		t.Errorf("%+v, %v", detail, err)
	}
	if out := in.must("tenant", "list"); !strings.Contains(out, "quiet\tThe quiet one\t5\t") || !strings.Contains(out, "noisy\t-\t3\t-\t40") {
		t.Errorf("%s", out)
	}
	for tenant, other := range map[string]string{"noisy": "quiet", "quiet": "noisy"} {
		token := strings.TrimSpace(in.tokenOf(tenant))
		in.ready.AdminToken, token = token, in.ready.AdminToken
		if out := in.must("device", "list"); !strings.Contains(out, tenant+"-02") || strings.Contains(out, other) {
			t.Errorf("%s sees\n%s", tenant, out)
		}
		if out, err := in.run("device", "show", other+"-01"); err == nil {
			t.Errorf("%s sees a device of %s:\n%s", tenant, other, out)
		}
		if out, err := in.run("stamp", "list"); err == nil {
			t.Errorf("%s sees stamps:\n%s", tenant, out)
		}
		in.ready.AdminToken = token
	}
	if out, err := in.run("tenant", "delete", "quiet", "--yes"); err == nil || !strings.Contains(out, "has 5 devices") {
		t.Errorf("deleted: %v\n%s", err, out)
	}
}

// tokenOf makes a token that sees one tenant's devices alone.
func (in *installation) tokenOf(tenant string) string {
	in.t.Helper()
	var made struct{ Token string }
	if err := json.Unmarshal([]byte(in.must("token", "create", tenant+"'s", "--tenant", tenant, "--json")), &made); err != nil {
		in.t.Fatal(err)
	}
	return made.Token
}

// stampHost is where a stamp that came later is.
func (in *installation) stampHost(name string) string {
	in.t.Helper()
	var stored struct{ Status struct{ Host string } }
	if err := json.Unmarshal([]byte(in.must("stamp", "show", name, "--json")), &stored); err != nil {
		in.t.Fatal(err)
	}
	host, _, _ := strings.Cut(stored.Status.Host, ":")
	return host
}
