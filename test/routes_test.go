package test

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/slipway/slipway/internal/client"
	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/resource"
)

// receiver is somebody's endpoint: it remembers the sequences it was sent.
type receiver struct {
	mu      sync.Mutex
	seen    map[uint64]int
	delay   time.Duration
	address string
	server  *http.Server
}

// newReceiver reserves an address; nobody listens there before open.
func newReceiver(t *testing.T, delay time.Duration) *receiver {
	t.Helper()
	reserved, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := &receiver{seen: map[uint64]int{}, delay: delay, address: reserved.Addr().String()}
	if err := reserved.Close(); err != nil {
		t.Fatal(err)
	}
	return r
}

func (r *receiver) open(t *testing.T) *receiver {
	t.Helper()
	listener, err := net.Listen("tcp", r.address)
	if err != nil {
		t.Fatal(err)
	}
	r.server = &http.Server{Handler: r}
	go r.server.Serve(listener) // ends with Close
	t.Cleanup(func() { r.server.Close() })
	return r
}

func (r *receiver) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	var batch []link.LogRecord
	if err := json.NewDecoder(req.Body).Decode(&batch); err != nil || !strings.HasPrefix(req.Header.Get("webhook-signature"), "v1,") {
		http.Error(w, "not a signed batch", http.StatusBadRequest)
		return
	}
	time.Sleep(r.delay) // what a slow receiver does
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, m := range batch {
		r.seen[m.Sequence]++
	}
}

func (r *receiver) distinct() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.seen)
}

func routeTo(name, address string, age int) string {
	return fmt.Sprintf(`---
apiVersion: slipway/v1
kind: Route
metadata: { name: %s }
spec:
  environment: test
  endpoint: { webhook: { url: "http://%s/hook", secret: whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwAAAA } }
  maxAgeSeconds: %d
`, name, address, age)
}

// endurance is how long the endpoints are tried; SLIPWAY_ENDURANCE=10m is the
// long version.
func endurance(t *testing.T) time.Duration {
	t.Helper()
	text := os.Getenv("SLIPWAY_ENDURANCE")
	if text == "" {
		return 4 * time.Second
	}
	d, err := time.ParseDuration(text)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// Four endpoints under load: one well, one slow, one dead until the end, one
// dead for good whose messages are soon given up. Then the server is killed.
func TestRoutesLoseNothingWhateverTheirEndpointsDo(t *testing.T) {
	t.Parallel()
	in := start(t, "--allow-network", "127.0.0.0/8")
	in.enrol()
	well, slow := newReceiver(t, 0).open(t), newReceiver(t, 100*time.Millisecond).open(t)
	dead, gone := newReceiver(t, 0), newReceiver(t, 0)
	in.apply(routeTo("well", well.address, 3600) + routeTo("slow", slow.address, 3600) + routeTo("dead", dead.address, 3600) + routeTo("gone", gone.address, 1) + `---
apiVersion: slipway/v1
kind: Route
metadata: { name: archive }
spec: { environment: test, endpoint: { archive: { directory: raw } }, batch: { maxWaitSeconds: 1 } }
`)
	eventually(t, "the routes run", 20*time.Second, func() bool { return len(in.routes(t)) == 5 })
	if text := in.must("export"); strings.Contains(text, "MfKQ9") || !strings.Contains(text, resource.Mask) {
		t.Error("the secret is shown")
	}

	length := endurance(t)
	devices := newPublishers(t, in, 20)
	taken := devices.during(func() { time.Sleep(length) })
	devices.close(t)
	sent := in.accepted(t)
	t.Logf("%d messages in %s; acknowledged within %s (median), %s (p99); the server holds %d MB", sent, length, percentile(taken, 50), percentile(taken, 99), in.resident(t)>>20)

	in.settled(t, "gone", func(s link.RouteState) bool { return s.Lag == 0 && s.Dead == sent && s.DeadLetters == sent })
	before := in.settled(t, "dead", func(s link.RouteState) bool { return s.State == "failing" })
	if before.Delivered != 0 || before.Lag != sent {
		t.Errorf("dead: %+v", before)
	}
	in.kill(syscall.SIGKILL)
	in.launch("--allow-network", "127.0.0.0/8")
	dead.open(t)
	for name, r := range map[string]*receiver{"well": well, "slow": slow, "dead": dead} {
		s := in.settled(t, name, func(s link.RouteState) bool { return s.Lag == 0 })
		if s.Delivered != sent || s.Dead != 0 || s.Lost != 0 || uint64(r.distinct()) != sent {
			t.Errorf("%s: %d sent, %d arrived, %+v", name, sent, r.distinct(), s)
		}
	}
	in.settled(t, "archive", func(s link.RouteState) bool { return s.Lag == 0 && s.Delivered == sent })
	files, err := filepath.Glob(filepath.Join(in.dir, "data/archive/raw/environment=test/stamp=test-1/route=archive/date=*/hour=*/*.jsonl.gz"))
	if err != nil || len(files) == 0 {
		t.Errorf("archived: %v, %v", files, err)
	}

	// What was given up comes out when people say so.
	gone.open(t)
	in.must("route", "dead-letters", "replay", "gone", "--stamp", "test-1")
	if s := in.settled(t, "gone", func(s link.RouteState) bool { return s.DeadLetters == 0 }); s.Delivered != sent || s.Dead != 0 || uint64(gone.distinct()) != sent {
		t.Errorf("gone: %d arrived, %+v", gone.distinct(), s)
	}
	consumed(t, in, sent)
}

// consumed reads everything through two groups.
func consumed(t *testing.T, in *installation, sent uint64) {
	t.Helper()
	all := in.must("consume", "--stamp", "test-1", "--group", "all", "--from", "earliest", "--limit", fmt.Sprint(sent), "--json")
	if n := uint64(strings.Count(all, "\n")); n != sent {
		t.Errorf("%d of %d messages consumed", n, sent)
	}
	groups, err := in.api.Consumers(t.Context(), "test-1")
	if err != nil || len(groups) != 1 || groups[0].Lag != 0 || groups[0].Position != sent {
		t.Errorf("%+v, %v", groups, err)
	}
	again := in.must("consume", "--stamp", "test-1", "--group", "all", "--from-sequence", "2", "--limit", "1", "--json")
	var first link.LogRecord
	if err := json.Unmarshal([]byte(again), &first); err != nil || first.Sequence != 2 {
		t.Errorf("%s: %v", again, err)
	}
	devices := map[string]int{}
	total := uint64(0)
	for part := range link.Partitions {
		req := link.ReadConsumer{ConsumerRef: link.ConsumerRef{Group: "shared", Partition: &part}, From: "earliest", Limit: 1000}
		for position, more := uint64(0), true; more; req.After = position {
			page, err := in.api.ReadConsumer(t.Context(), "test-1", req)
			if err != nil {
				t.Fatal(err)
			}
			for _, m := range page.Items {
				if other, known := devices[m.DeviceID]; known && other != part {
					t.Fatalf("%s is in partitions %d and %d", m.DeviceID, other, part)
				}
				devices[m.DeviceID] = part
				total++
			}
			more, position = page.Position > position, page.Position
		}
	}
	if total != sent || len(devices) != 20 {
		t.Errorf("%d of %d messages of %d devices in all partitions", total, sent, len(devices))
	}
}

// routes are the states of all routes on test-1, by name.
func (in *installation) routes(t *testing.T) map[string]link.RouteState {
	t.Helper()
	all, err := in.api.Resources(t.Context(), resource.KindRoute, false)
	if err != nil {
		t.Fatal(err)
	}
	states := map[string]link.RouteState{}
	for _, r := range all {
		var status resource.RouteStatus
		if err := json.Unmarshal(r.Status, &status); err != nil {
			t.Fatal(err)
		}
		for _, s := range status.Stamps {
			states[s.Route] = s
		}
	}
	return states
}

// settled waits until a route is as wanted.
func (in *installation) settled(t *testing.T, name string, wanted func(link.RouteState) bool) (s link.RouteState) {
	t.Helper()
	defer func() {
		if t.Failed() {
			t.Logf("route %s is %+v", name, s)
		}
	}()
	eventually(t, "route "+name+" settles", time.Minute+2*endurance(t), func() bool {
		s = in.routes(t)[name]
		return wanted(s)
	})
	return s
}

// accepted is how many messages the stamp's log holds.
func (in *installation) accepted(t *testing.T) uint64 {
	t.Helper()
	page, err := in.api.Log(t.Context(), "", "messages", client.LogOptions{Stamp: "test-1", Last: true, Limit: 1})
	if err != nil || len(page.Items) != 1 {
		t.Fatalf("%+v, %v", page, err)
	}
	return page.Items[0].Sequence
}

// resident is the memory of the server's process in bytes.
func (in *installation) resident(t *testing.T) (kilobytes int) {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", in.process.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	_, after, _ := strings.Cut(string(status), "VmRSS:")
	if _, err := fmt.Sscan(after, &kilobytes); err != nil {
		t.Fatal(err)
	}
	return kilobytes << 10
}
