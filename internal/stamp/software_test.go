package stamp_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/slipway/slipway/internal/bus"
	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/mqtt"
	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/sastoken"
)

// source is control as far as it has files.
type source struct {
	mu        sync.Mutex
	artifacts map[string][]byte
	metadata  map[string][]byte
	away      bool
	asked     int
}

func newSource(t *testing.T, conn *bus.Conn) *source {
	t.Helper()
	s := &source{artifacts: map[string][]byte{}, metadata: map[string][]byte{}}
	part := func(files map[string][]byte) func(context.Context, link.ReadPart) (link.Part, error) {
		return func(_ context.Context, req link.ReadPart) (link.Part, error) {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.asked++
			content, ok := files[req.Name]
			if s.away {
				return link.Part{}, problem.New(problem.NotReady, "away")
			}
			if !ok {
				return link.Part{}, problem.New(problem.NotFound, "there is no %s", req.Name)
			}
			rest := content[min(int(req.Offset), len(content)):]
			return link.Part{Size: int64(len(content)), Data: rest[:min(len(rest), link.MaxPart)]}, nil
		}
	}
	if err := bus.Answer(conn, link.ControlPeer, link.ArtifactRead, part(s.artifacts)); err != nil {
		t.Fatal(err)
	}
	if err := bus.Answer(conn, link.ControlPeer, link.MetadataRead, part(s.metadata)); err != nil {
		t.Fatal(err)
	}
	return s
}

func (s *source) set(change func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change()
}

// add adds an artifact.
func (s *source) add(content []byte) link.Artifact {
	sum := sha256.Sum256(content)
	a := link.Artifact{File: "fw.bin", Size: int64(len(content)), SHA256: hex.EncodeToString(sum[:])}
	s.set(func() { s.artifacts[a.SHA256] = content })
	return a
}

// releaseOf is a release of one thing in a version.
func releaseOf(counter int64, version string, artifacts ...link.Artifact) link.Release {
	r := link.Release{Name: version, Counter: counter, Spec: link.ReleaseSpec{
		Software:      []link.Software{{Name: "firmware", Version: version, Artifacts: artifacts}},
		Configuration: map[string]any{"mode": version, "only-" + version[:1]: true},
	}}
	sum := sha256.Sum256([]byte(version))
	r.Digest = hex.EncodeToString(sum[:])
	return r
}

// follower is a device that follows its orders.
type follower struct {
	id     string
	mu     sync.Mutex
	orders []link.UpdateOrder
	times  []time.Time
}

func (f *follower) last() (o link.UpdateOrder, n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.orders) == 0 {
		return o, 0
	}
	return f.orders[len(f.orders)-1], len(f.orders)
}

// follow connects a device that answers each order as behave says.
func (r *rig) follow(id string, behave func(link.UpdateOrder) []link.UpdateReport) *follower {
	r.t.Helper()
	f := &follower{id: id}
	var c *client
	until(r.t, func() bool { // the stamp admits so many a second
		dialled, code := r.dial(connectOf(id, true))
		c = dialled
		return code == mqtt.Accepted
	})
	if err := c.SetReadDeadline(time.Now().Add(2 * time.Minute)); err != nil {
		r.t.Fatal(err)
	}
	c.subscribe(mqtt.Filter{Topic: desiredFilter, QoS: 1}, mqtt.Filter{Topic: twinFilter})
	c.send(&mqtt.Publish{Topic: "$iothub/twin/GET/?$rid=0", Payload: []byte(" ")})
	go f.run(c, behave)
	return f
}

func (f *follower) run(c *client, behave func(link.UpdateOrder) []link.UpdateReport) {
	seen := int64(0)
	for {
		p, err := c.Next()
		if err != nil {
			return
		}
		publish, ok := p.(*mqtt.Publish)
		if !ok {
			continue
		}
		if publish.QoS > 0 && c.Write(&mqtt.Puback{PacketID: publish.PacketID}) != nil {
			return
		}
		var told struct {
			Slipway *link.UpdateOrder `json:"slipway"`
			Desired struct {
				Slipway *link.UpdateOrder `json:"slipway"`
			} `json:"desired"`
		}
		if json.Unmarshal(publish.Payload, &told) != nil {
			continue
		}
		o := told.Slipway
		if o == nil {
			o = told.Desired.Slipway
		}
		if o == nil || o.Order <= seen {
			continue
		}
		seen = o.Order
		f.mu.Lock()
		f.orders, f.times = append(f.orders, *o), append(f.times, time.Now())
		f.mu.Unlock()
		for _, report := range behave(*o) {
			text, err := json.Marshal(map[string]any{"slipway": report})
			if err != nil || c.Write(&mqtt.Publish{Topic: "$iothub/twin/PATCH/properties/reported/?$rid=1", Payload: text}) != nil {
				return
			}
		}
	}
}

// obey installs whatever a device is told.
func obey(o link.UpdateOrder) []link.UpdateReport {
	running := map[string]string{}
	for _, s := range o.Software {
		running[s.Name] = s.Version
	}
	return []link.UpdateReport{
		{Hardware: "m1", Order: o.Order, Phase: link.OrderDownloading, Progress: 50},
		{Hardware: "m1", Order: o.Order, Phase: link.OrderConfirmed, Software: running},
	}
}

// progress hears what the stamp tells of its releases.
func (r *rig) progress() func() link.Progress {
	r.t.Helper()
	var mu sync.Mutex
	var last link.Progress
	err := bus.Hear(r.link, link.ObservedSubject(link.StampPeer("test-1")), func(_ string, o link.Observed) {
		if o.Releases != nil {
			mu.Lock()
			defer mu.Unlock()
			last = *o.Releases
		}
	})
	if err != nil {
		r.t.Fatal(err)
	}
	return func() link.Progress {
		mu.Lock()
		defer mu.Unlock()
		return last
	}
}

// reach waits until the stamp tells of what is wanted.
func reach(t *testing.T, progress func() link.Progress, so func(link.Progress) bool) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(2 * time.Minute); !so(progress()); <-tick.C {
		if time.Now().After(deadline) {
			t.Fatalf("not in time: %+v", progress())
		}
	}
}

func (r *rig) updates() map[string]link.Update {
	r.t.Helper()
	all := map[string]link.Update{}
	for after := ""; ; {
		page := ask(r, link.UpdateList, link.ListUpdates{After: after, Limit: 100})
		for _, u := range page.Items {
			all[u.DeviceID], after = u, u.DeviceID
		}
		if !page.More {
			return all
		}
	}
}

func (r *rig) desired(id string) map[string]any {
	r.t.Helper()
	var twin struct {
		Properties struct{ Desired map[string]any }
	}
	if err := json.Unmarshal(ask(r, link.TwinGet, link.DeviceRef{DeviceID: id}).Document, &twin); err != nil {
		r.t.Fatal(err)
	}
	return twin.Properties.Desired
}

func TestAReleaseGoesOutAndABadOneComesBack(t *testing.T) {
	const devices = 8
	r := newRig(t)
	control := newSource(t, r.link)
	progress := r.progress()
	v1, v2, v3 := releaseOf(1, "1.0"), releaseOf(2, "2.0", control.add(bytes.Repeat([]byte("two"), 400_000))), releaseOf(3, "3.0")
	delete(v2.Spec.Configuration, "mode")
	var fleet []*follower
	for i := range devices {
		id := fmt.Sprint("d", i)
		r.put(id, 1)
		fleet = append(fleet, r.follow(id, func(o link.UpdateOrder) []link.UpdateReport {
			if o.Release == "3.0" {
				return []link.UpdateReport{{Order: o.Order, Phase: link.OrderRolledBack, Error: "no heart\nbeat", Software: map[string]string{"firmware": "2.0"}}}
			}
			return obey(o)
		}))
	}

	// A base is for everybody.
	ask(r, link.ReleasesPut, link.Releases{Version: 1, Environment: "test", Base: &v1})
	reach(t, progress, func(p link.Progress) bool { return p.Version == 1 && p.Complete && p.Devices.Updated == devices })
	if d := r.desired("d0"); d["mode"] != "1.0" || d["reportEvery"] != 10.0 {
		t.Errorf("desired %v", d)
	}

	// A rollout reaches its share and no more.
	ask(r, link.ReleasesPut, link.Releases{Version: 2, Environment: "test", Base: &v1, Rollout: &link.Rollout{ID: "r1", Release: v2, Wave: 1, Reach: link.Reach{Share: 0.25}}})
	reach(t, progress, func(p link.Progress) bool { return p.Version == 2 && p.Complete && p.Reached.Updated == 2 })
	if p := progress(); p.Devices.Updated != devices || p.WaveOnly.Updated != 2 || p.ByHardware["m1"].Updated != 2 || p.Updated.Devices != 2 || p.Others.Devices != devices-2 {
		t.Errorf("progress %+v", p)
	}
	reached := 0
	for id, u := range r.updates() {
		if u.Rollout == "r1" {
			reached++
			if d := r.desired(id); u.Running["firmware"] != "2.0" || d["mode"] != nil || d["only-1"] != nil || d["only-2"] != true {
				t.Errorf("%+v with %v", u, d)
			}
		}
	}
	if reached != 2 {
		t.Errorf("%d devices were reached", reached)
	}

	// The whole way, and then it is the base: nobody is told twice.
	ask(r, link.ReleasesPut, link.Releases{Version: 3, Environment: "test", Base: &v1, Rollout: &link.Rollout{ID: "r1", Release: v2, Wave: 2, Reach: link.Reach{Share: 1}}})
	reach(t, progress, func(p link.Progress) bool { return p.Version == 3 && p.Complete && p.Reached.Updated == devices })
	if p := progress(); p.WaveOnly.Updated != devices-2 {
		t.Errorf("wave %+v", p.WaveOnly)
	}
	ask(r, link.ReleasesPut, link.Releases{Version: 4, Environment: "test", Base: &v2})
	reach(t, progress, func(p link.Progress) bool { return p.Version == 4 && p.Complete && p.Devices.Updated == devices })
	for _, f := range fleet {
		if _, n := f.last(); n != 2 {
			t.Errorf("%s was given %d orders", f.id, n)
		}
	}

	// A bad one stops by itself, and is taken back.
	ask(r, link.ReleasesPut, link.Releases{Version: 5, Environment: "test", Base: &v2, Rollout: &link.Rollout{
		ID: "r2", Release: v3, Wave: 1, Reach: link.Reach{Count: 5}, Parallel: 1, Halt: &link.Halt{Failures: 0.5, MinDevices: 2},
	}})
	reach(t, progress, func(p link.Progress) bool { return p.Halted != "" && p.Reached.RolledBack == 2 })
	if p := progress(); p.Reached.Pending != 3 || p.Devices.Updated != 3 {
		t.Errorf("progress %+v", p)
	}
	for id, u := range r.updates() {
		if u.State == link.UpdateRolledBack && u.Reason != "no heart beat" {
			t.Errorf("%s says %q", id, u.Reason)
		}
	}
	taken := time.Now()
	ask(r, link.ReleasesPut, link.Releases{Version: 6, Environment: "test", Base: &v2})
	reach(t, progress, func(p link.Progress) bool { return p.Version == 6 && p.Complete && p.Devices.Updated == devices })
	back := 0
	for _, f := range fleet {
		if o, n := f.last(); n == 4 {
			if back++; !o.Back || o.Release != "2.0" {
				t.Errorf("%s was told %+v", f.id, o)
			}
			f.mu.Lock()
			t.Logf("%s was told after %s", f.id, f.times[3].Sub(taken))
			f.mu.Unlock()
		}
	}
	if back != 2 {
		t.Errorf("%d devices were called back", back)
	}
}

// TestADeviceFetchesItsFiles has a device download what it is ordered, in parts,
// and nothing else; and metadata also while control is away.
func TestADeviceFetchesItsFiles(t *testing.T) {
	r := newRig(t)
	control := newSource(t, r.link)
	content := bytes.Repeat([]byte("firmware"), 200_000)
	fw, other := control.add(content), control.add([]byte("other"))
	control.set(func() {
		control.metadata["1.root.json"], control.metadata["timestamp.json"] = []byte("{}"), []byte(`{"v":1}`)
	})
	v1 := releaseOf(1, "1.0", fw)
	r.put("d1", 1)
	ask(r, link.ReleasesPut, link.Releases{Version: 1, Environment: "test", Base: &v1})
	until(t, func() bool { return r.desired("d1")["slipway"] != nil })
	edge := httptest.NewServer(r.stamp.HTTPHandler())
	t.Cleanup(edge.Close)
	get := func(method, id, file string, header map[string]string) (*http.Response, []byte) {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), method, edge.URL+link.UpdatePath(id)+file, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", sastoken.Sign(key, url.QueryEscape(host+"/devices/"+id), time.Now().Add(time.Hour), ""))
		for name, value := range header {
			req.Header.Set(name, value)
		}
		resp, err := edge.Client().Do(req)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		return resp, body
	}
	etag := `"` + fw.SHA256 + `"`
	for name, c := range map[string]struct {
		method, file string
		header       map[string]string
		status       int
		body         string
	}{
		"whole":            {"GET", "artifacts/" + fw.SHA256, nil, 200, string(content)},
		"head":             {"HEAD", "artifacts/" + fw.SHA256, nil, 200, ""},
		"part":             {"GET", "artifacts/" + fw.SHA256, map[string]string{"Range": "bytes=8-15"}, 206, "firmware"},
		"part of the same": {"GET", "artifacts/" + fw.SHA256, map[string]string{"Range": "bytes=1599992-", "If-Range": etag}, 206, "firmware"},
		"part of another":  {"GET", "artifacts/" + fw.SHA256, map[string]string{"Range": "bytes=8-15", "If-Range": `"x"`}, 200, string(content)},
		"beyond its end":   {"GET", "artifacts/" + fw.SHA256, map[string]string{"Range": "bytes=1600000-"}, 416, ""},
		"known already":    {"GET", "artifacts/" + fw.SHA256, map[string]string{"If-None-Match": etag}, 304, ""},
		"not ordered":      {"GET", "artifacts/" + other.SHA256, nil, 404, ""},
		"no digest":        {"GET", "artifacts/..%2f..%2fstamp.db", nil, 404, ""},
		"metadata":         {"GET", "metadata/timestamp.json", nil, 200, `{"v":1}`},
		"no metadata":      {"GET", "metadata/2.root.json", nil, 404, ""},
		"no name":          {"GET", "metadata/..", nil, 400, ""},
		"put":              {"PUT", "metadata/timestamp.json", nil, 404, ""},
	} {
		resp, body := get(c.method, "d1", c.file, c.header)
		if resp.StatusCode != c.status || resp.StatusCode < 300 && string(body) != c.body {
			t.Errorf("%s: %s with %d bytes", name, resp.Status, len(body))
		}
		if strings.HasPrefix(c.file, "artifacts/"+fw.SHA256) && resp.StatusCode < 400 && resp.Header.Get("ETag") != etag {
			t.Errorf("%s: ETag %s", name, resp.Header.Get("ETag"))
		}
		if name == "head" && resp.ContentLength != int64(len(content)) {
			t.Errorf("HEAD says %d bytes", resp.ContentLength)
		}
	}
	if resp, _ := get("GET", "d2", "artifacts/"+fw.SHA256, nil); resp.StatusCode != 404 {
		t.Errorf("a device that is not here: %s", resp.Status)
	}
	control.set(func() { control.away = true })
	for range 2 {
		if _, body := get("GET", "d1", "metadata/timestamp.json", nil); string(body) != `{"v":1}` {
			t.Errorf("while control is away: %s", body)
		}
	}
	limited := false
	for range 200 {
		if resp, _ := get("HEAD", "d1", "artifacts/"+fw.SHA256, nil); resp.StatusCode == 429 {
			limited = resp.Header.Get("Retry-After") != ""
			break
		}
	}
	if !limited {
		t.Error("a device may ask as often as it likes")
	}
}

var fleetSize = flag.Int("fleet", 200, "how many devices are connected while a wave begins")

// TestAWaveIsQuick has a wave reach devices that are connected: the first at
// once, and all of them in a minute at most, however many a machine holds.
func TestAWaveIsQuick(t *testing.T) {
	r := newRig(t)
	newSource(t, r.link)
	progress := r.progress()
	var fleet []*follower
	for i := range *fleetSize {
		r.put(fmt.Sprint("d", i), 1)
	}
	for i := range *fleetSize {
		fleet = append(fleet, r.follow(fmt.Sprint("d", i), obey))
	}
	v1, v2 := releaseOf(1, "1.0"), releaseOf(2, "2.0")
	ordered := func(since time.Time, name string) (first, last time.Duration) {
		first = time.Hour
		for _, f := range fleet {
			f.mu.Lock()
			at := f.times[len(f.times)-1].Sub(since)
			first, last = min(first, at), max(last, at)
			f.mu.Unlock()
			if o, _ := f.last(); o.Release != name {
				t.Fatalf("%s was told of %s last", f.id, o.Release)
			}
		}
		return first, last
	}
	began := time.Now()
	step := func(d link.Releases, so func(link.Progress) bool) {
		t.Helper()
		began = time.Now()
		ask(r, link.ReleasesPut, d)
		reach(t, progress, func(p link.Progress) bool { return p.Version == d.Version && p.Complete && so(p) })
	}
	all := int64(*fleetSize)
	step(link.Releases{Version: 1, Environment: "test", Base: &v1}, func(p link.Progress) bool { return p.Devices.Updated == all })
	step(link.Releases{Version: 2, Environment: "test", Base: &v1, Rollout: &link.Rollout{ID: "r", Release: v2, Wave: 1, Reach: link.Reach{Share: 1}}},
		func(p link.Progress) bool { return p.Reached.Updated == all })
	first, last := ordered(began, "2.0")
	t.Logf("a wave reached the first of %d devices after %s and the last after %s", all, first, last)
	if first > time.Second || last > time.Minute {
		t.Error("that is too slow")
	}
	step(link.Releases{Version: 3, Environment: "test", Base: &v1}, func(p link.Progress) bool { return p.Devices.Updated == all })
	first, last = ordered(began, "1.0")
	t.Logf("a rollback reached the first of %d devices after %s and the last after %s", all, first, last)
	if first > time.Second || last > time.Minute {
		t.Error("that is too slow")
	}
}

// TestARolloutGoesOnAfterARestart stops the stamp while devices work on their
// orders, and lets it go on without control.
func TestARolloutGoesOnAfterARestart(t *testing.T) {
	const devices = 6
	r := newRig(t)
	progress := r.progress()
	v1, v2 := releaseOf(1, "1.0"), releaseOf(2, "2.0")
	for i := range devices {
		r.put(fmt.Sprint("d", i), 1)
		r.follow(fmt.Sprint("d", i), func(o link.UpdateOrder) []link.UpdateReport {
			if o.Release == "2.0" {
				return obey(o)[:1] // and then the stamp is gone
			}
			return obey(o)
		})
	}
	ask(r, link.ReleasesPut, link.Releases{Version: 1, Environment: "test", Base: &v1})
	reach(t, progress, func(p link.Progress) bool { return p.Complete && p.Devices.Updated == devices })
	ask(r, link.ReleasesPut, link.Releases{Version: 2, Environment: "test", Base: &v1, Rollout: &link.Rollout{
		ID: "r1", Release: v2, Wave: 1, Reach: link.Reach{Share: 0.5}, Parallel: 2, DeadlineSeconds: 3600,
	}})
	working := func() (ids []string) {
		for id, u := range r.updates() {
			if u.Reason == link.OrderDownloading && u.Progress == 50 {
				ids = append(ids, id)
			}
		}
		return ids
	}
	until(t, func() bool { return len(working()) == 2 })
	before := r.updates()
	r.stop()
	r.start(r.server)
	for id, u := range r.updates() {
		if u.Order != before[id].Order || u.Wave != before[id].Wave {
			t.Errorf("%s stood at %+v, and stands at %+v", id, before[id], u)
		}
	}
	for i := range devices {
		r.follow(fmt.Sprint("d", i), obey)
	}
	reach(t, progress, func(p link.Progress) bool {
		return p.Version == 2 && p.Complete && p.Reached.Updated == 3 && p.Devices.Updated == devices
	})
	// What was seen begins anew with the process, for both groups.
	reach(t, progress, func(p link.Progress) bool { return p.Others.DeviceSeconds > 0 || p.Updated.DeviceSeconds > 0 })

	// A device that moves away leaves the census, and one that comes enters it.
	ask(r, link.IdentityRemove, link.RemoveIdentity{DeviceID: "d0", Epoch: 1, Reason: "move"})
	r.put("d9", 1)
	r.follow("d9", obey)
	until(t, func() bool {
		all := r.updates()
		_, there := all["d0"]
		return !there && len(all) == devices && all["d9"].State == link.UpdateDone
	})
	until(t, func() bool {
		return len(ask(r, link.DeviceQuery, link.QueryDevices{Where: "deviceId = 'd9' AND connectionState = 'Connected'"}).Items) == 1
	})

	// A device that connects again counts once, and so does what it sends.
	reconnects := progress().Updated.Reconnects + progress().Others.Reconnects
	c := r.connect("d9", true)
	c.send(&mqtt.Publish{Topic: "devices/d9/messages/events/", Payload: []byte(`1`), QoS: 1, PacketID: 7})
	expectPacket[mqtt.Puback](c)
	reach(t, progress, func(p link.Progress) bool {
		return p.Updated.Reconnects+p.Others.Reconnects == reconnects+1 && p.Updated.Messages+p.Others.Messages == 1
	})
}

// TestADeviceThatOnlyAsks has a device that never connects follow its orders.
func TestADeviceThatOnlyAsks(t *testing.T) {
	r := newRig(t)
	progress := r.progress()
	v1, v2 := releaseOf(1, "1.0"), releaseOf(2, "2.0")
	r.put("d1", 1)
	engine := r.stamp.Software()
	ask(r, link.ReleasesPut, link.Releases{Version: 1, Environment: "test", Base: &v1})
	reach(t, progress, func(p link.Progress) bool { return p.Complete && p.Devices.Pending == 1 })
	follow := func(release string) {
		t.Helper()
		o, u, ok, err := engine.Order(t.Context(), "d1")
		if err != nil || !ok || o.Release != release || u.State != link.UpdatePending {
			t.Fatalf("%+v, %+v, %v, %v", o, u, ok, err)
		}
		for _, report := range append([]link.UpdateReport{{Order: o.Order - 1, Phase: link.OrderFailed}}, obey(o)...) {
			if err := engine.Report(t.Context(), "d1", report); err != nil {
				t.Fatal(err)
			}
		}
		reach(t, progress, func(p link.Progress) bool { return p.Devices.Updated == 1 && p.Complete })
	}
	follow("1.0")
	ask(r, link.ReleasesPut, link.Releases{Version: 2, Environment: "test", Base: &v1, Rollout: &link.Rollout{ID: "r1", Release: v2, Wave: 1, Reach: link.Reach{Share: 1}}})
	reach(t, progress, func(p link.Progress) bool { return p.Version == 2 && p.Complete && p.Reached.Pending == 1 })
	follow("2.0")
	if _, _, _, err := engine.Order(t.Context(), "nobody"); !problem.Is(err, problem.NotFound) {
		t.Errorf("a device that is not here: %v", err)
	}
}

// TestATwinThatCannotHoldItsOrder fails for itself alone, and says why.
func TestATwinThatCannotHoldItsOrder(t *testing.T) {
	r := newRig(t)
	v1 := releaseOf(1, "1.0")
	r.put("d1", 1)
	r.put("d2", 1)
	large := strings.Repeat("x", 4000)
	for i := range 8 { // as much as a twin holds
		ask(r, link.TwinPatch, link.PatchTwin{DeviceID: "d1", Patch: fmt.Appendf(nil, `{"properties":{"desired":{"p%d":"%s"}}}`, i, large)})
	}
	v1.Spec.Configuration["note"] = large
	ask(r, link.ReleasesPut, link.Releases{Version: 1, Environment: "test", Base: &v1})
	until(t, func() bool {
		all := r.updates()
		return all["d1"].State == link.UpdateFailed && strings.Contains(all["d1"].Reason, "cannot hold the order") && all["d2"].Order > 0
	})
	if _, told := r.desired("d1")["slipway"]; told || r.updates()["d1"].Order != 0 {
		t.Error("it was told something")
	}
	if failed := ask(r, link.UpdateList, link.ListUpdates{State: link.UpdateFailed}); len(failed.Items) != 1 || failed.Items[0].DeviceID != "d1" {
		t.Errorf("failed are %+v", failed)
	}
}
