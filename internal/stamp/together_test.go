package stamp_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"sync"
	"testing"
	"time"

	"github.com/slipway/slipway/internal/bus"
	"github.com/slipway/slipway/internal/bus/bustest"
	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/mqtt"
	"github.com/slipway/slipway/internal/sastoken"
	"github.com/slipway/slipway/internal/sqldb/sqldbtest"
	"github.com/slipway/slipway/internal/stamp"
	"github.com/slipway/slipway/internal/stamp/hub"
	"github.com/slipway/slipway/internal/stamp/telemetry"
)

// together is a stamp of several processes, on a real PostgreSQL server and a
// real NATS cluster.
type together struct {
	*rig
	server   *bus.Server
	database string
	nats     []string
	files    string
	members  []*member
}

type member struct {
	*stamp.Stamp
	address string
	stop    func()
}

func newTogether(t *testing.T, processes int) *together {
	t.Helper()
	server, err := bus.Start(t.Context(), bus.Options{Name: "link", Logger: quiet})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Stop)
	conn, err := server.Connect("test")
	if err != nil {
		t.Fatal(err)
	}
	g := &together{rig: &rig{t: t, link: conn}, server: server, database: sqldbtest.PostgresURL(t), nats: bustest.Start(t, 3).URLs(), files: t.TempDir()}
	for i := range processes {
		g.members = append(g.members, g.start(fmt.Sprintf("p%d", i)))
	}
	return g
}

func (g *together) start(name string) *member {
	g.t.Helper()
	conn, err := g.server.Connect(name)
	if err != nil {
		g.t.Fatal(err)
	}
	s, err := stamp.New(g.t.Context(), stamp.Options{
		Name: "test-1", Dir: g.t.TempDir(), Database: g.database, Link: conn, Limits: hub.DefaultLimits, Retention: telemetry.DefaultRetention,
		Together: &stamp.Together{Process: name, Files: g.files, NATS: bus.External{Servers: g.nats, Replicas: 3}}, Logger: quiet, Now: time.Now,
	})
	if err != nil {
		g.t.Fatal(err)
	}
	s.SetHosts([]string{host})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		g.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	go func() {
		for {
			nc, err := l.Accept()
			if err != nil {
				return
			}
			go serve(ctx, s, nc)
		}
	}()
	m := &member{Stamp: s, address: l.Addr().String()}
	m.stop = sync.OnceFunc(func() {
		l.Close()
		cancel()
		if err := <-ended; err != nil {
			g.t.Error(err)
		}
		if err := s.Close(); err != nil {
			g.t.Error(err)
		}
		conn.Close()
	})
	g.t.Cleanup(m.stop)
	return m
}

// at has the next connections go to one process.
func (g *together) at(i int) *rig {
	g.address = g.members[i].address
	return g.rig
}

// each asks until every process has answered a call about as often: which one
// is asked is not to be chosen.
func (g *together) each(fn func()) {
	for range 4 * len(g.members) {
		fn()
	}
}

func TestAnyProcessServesAnyDevice(t *testing.T) {
	t.Parallel()
	g := newTogether(t, 3)
	g.put("d1", 1)
	c := g.at(0).connect("d1", true)
	c.subscribe(mqtt.Filter{Topic: desiredFilter, QoS: 1}, mqtt.Filter{Topic: methodFilter}, mqtt.Filter{Topic: "devices/d1/messages/devicebound/#", QoS: 1})

	// Changes made by whichever process reach the device in order, each once.
	const changes = 24
	var changing sync.WaitGroup
	for range changes {
		changing.Go(func() {
			ask(g.rig, link.TwinPatch, link.PatchTwin{DeviceID: "d1", Patch: []byte(`{"properties":{"desired":{"n":1}}}`)})
		})
	}
	for i := range changes {
		c.expect(fmt.Sprintf("$iothub/twin/PATCH/properties/desired/?$version=%d", i+2))
	}
	changing.Wait()

	// Messages and methods find it.
	g.each(func() {
		ask(g.rig, link.MessageSend, link.SendMessage{DeviceID: "d1", Body: []byte("hello")})
		c.expect("devices/d1/messages/devicebound/")
	})
	g.each(func() {
		answer := make(chan link.MethodResult, 1)
		go func() { answer <- ask(g.rig, link.MethodInvoke, link.InvokeMethod{DeviceID: "d1", Method: "m"}) }()
		topic, _ := c.expect("$iothub/methods/POST/m/?$rid=")
		c.send(&mqtt.Publish{Topic: "$iothub/methods/res/200/?$rid=" + topic[len("$iothub/methods/POST/m/?$rid="):], Payload: []byte(`{"ok":true}`)})
		if r := <-answer; r.Status != 200 || string(r.Payload) != `{"ok":true}` {
			t.Errorf("answered %+v", r)
		}
	})

	// It is connected, whoever is asked; and what it says is in one log.
	until(t, func() bool {
		seen := true
		g.each(func() { seen = seen && ask(g.rig, link.DeviceGet, link.DeviceRef{DeviceID: "d1"}).Connected })
		return seen
	})
	c.send(&mqtt.Publish{Topic: "devices/d1/messages/events/", Payload: []byte(`1`), QoS: 1, PacketID: 7})
	expectPacket[mqtt.Puback](c)

	// A connection to another process takes the device over.
	second := g.at(1).connect("d1", true)
	c.over()
	second.send(&mqtt.Publish{Topic: "devices/d1/messages/events/", Payload: []byte(`2`), QoS: 1, PacketID: 7})
	expectPacket[mqtt.Puback](second)
	g.each(func() {
		if page := ask(g.rig, link.TelemetryRead, link.ReadLog{DeviceID: "d1"}); len(page.Items) != 2 {
			t.Fatalf("%d messages are in the log", len(page.Items))
		}
	})

	// Taken off the stamp by whichever process, it is connected nowhere when
	// that has been answered.
	ask(g.rig, link.IdentityRemove, link.RemoveIdentity{DeviceID: "d1", Epoch: 1, Reason: "moved"})
	second.over()
	for i := range g.members {
		if _, code := g.at(i).dial(connectOf("d1", true)); code == mqtt.Accepted {
			t.Errorf("process %d let the device in", i)
		}
	}
}

// TestTwoConnectionsAtOnceLeaveOne has one device connect to all processes at
// the same time, again and again: it is never connected twice.
func TestTwoConnectionsAtOnceLeaveOne(t *testing.T) {
	t.Parallel()
	g := newTogether(t, 3)
	for round := range 20 {
		id := fmt.Sprintf("d%d", round)
		g.put(id, 1)
		var mu sync.Mutex
		var in []*client
		var dialling sync.WaitGroup
		for i := range g.members {
			address := g.members[i].address
			dialling.Go(func() {
				nc, err := net.Dial("tcp", address)
				if err != nil {
					t.Error(err)
					return
				}
				c := &client{mqtt.NewClientConn(nc, 1<<20), t}
				if answer, err := c.Connect(t.Context(), connectOf(id, true)); err == nil && answer.Code == mqtt.Accepted {
					mu.Lock()
					in = append(in, c)
					mu.Unlock()
				}
			})
		}
		dialling.Wait()
		alive := 0
		for _, c := range in {
			if c.Write(&mqtt.Pingreq{}) != nil {
				continue
			}
			if _, err := c.Next(); err == nil {
				alive++
			}
			c.Close()
		}
		if alive > 1 {
			t.Errorf("round %d: %d connections of one device live", round, alive)
		}
	}
}

// TestProcessesStopAndStartOneByOne restarts every process while devices and
// back ends work, and nothing that was asked fails for good.
func TestProcessesStopAndStartOneByOne(t *testing.T) {
	t.Parallel()
	g := newTogether(t, 3)
	leads := func() (names []string) {
		for _, m := range g.members {
			if m.Leads() {
				names = append(names, m.address)
			}
		}
		return names
	}
	until(t, func() bool { return len(leads()) == 1 })
	for i := range g.members {
		g.put(fmt.Sprintf("d%d", i), 1)
	}
	for i := range g.members {
		g.members[i].stop()
		g.members[i] = g.start(fmt.Sprintf("again-%d", i))
		c := g.at(i).connect(fmt.Sprintf("d%d", i), true)
		c.send(&mqtt.Publish{Topic: fmt.Sprintf("devices/d%d/messages/events/", i), Payload: []byte(`1`), QoS: 1, PacketID: 7})
		expectPacket[mqtt.Puback](c)
		until(t, func() bool { return len(leads()) == 1 })
	}
	// Changes reach devices at every new process.
	for i := range g.members {
		c := g.at(i).connect(fmt.Sprintf("d%d", i), true)
		c.subscribe(mqtt.Filter{Topic: desiredFilter, QoS: 1})
		ask(g.rig, link.TwinPatch, link.PatchTwin{DeviceID: fmt.Sprintf("d%d", i), Patch: []byte(`{"properties":{"desired":{"n":1}}}`)})
		c.expect("$iothub/twin/PATCH/properties/desired/")
	}
}

// over waits for the end of the connection.
func (c *client) over() {
	c.t.Helper()
	for {
		p, err := c.Next()
		if err != nil {
			return
		}
		c.t.Logf("before the end came %T", p)
	}
}

func until(t *testing.T, so func() bool) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(20 * time.Second); !so(); <-tick.C {
		if time.Now().After(deadline) {
			t.Fatal("not in time")
		}
	}
}

// TestAReleaseGoesOutOverSeveralProcesses has a rollout go on while the process
// that leads stops, and devices are at any of them.
func TestAReleaseGoesOutOverSeveralProcesses(t *testing.T) {
	t.Parallel()
	const devices = 12
	g := newTogether(t, 3)
	control := newSource(t, g.link)
	progress := g.progress()
	v1, v2 := releaseOf(1, "1.0"), releaseOf(2, "2.0", control.add([]byte("two")))
	gate := make(chan struct{})
	for i := range devices {
		g.put(fmt.Sprint("d", i), 1)
	}
	connect := func(i, at int) {
		first := true
		g.at(at).follow(fmt.Sprint("d", i), func(o link.UpdateOrder) []link.UpdateReport {
			if o.Release == "2.0" && first {
				first = false
				<-gate
			}
			return obey(o)
		})
	}
	for i := range devices {
		connect(i, i%3)
	}
	ask(g.rig, link.ReleasesPut, link.Releases{Version: 1, Environment: "test", Base: &v1})
	reach(t, progress, func(p link.Progress) bool { return p.Complete && p.Devices.Updated == devices })
	ask(g.rig, link.ReleasesPut, link.Releases{Version: 2, Environment: "test", Base: &v1, Rollout: &link.Rollout{
		ID: "r1", Release: v2, Wave: 1, Reach: link.Reach{Share: 1}, Parallel: 3, Attempts: 3,
	}})
	reach(t, progress, func(p link.Progress) bool { return p.Version == 2 && p.Complete && p.Reached.Pending == devices })
	leader := -1
	for i, m := range g.members {
		if m.Leads() {
			leader = i
		}
	}
	g.members[leader].stop()
	close(gate)
	for i := range devices {
		if i%3 == leader {
			connect(i, (leader+1)%3)
		}
	}
	reach(t, progress, func(p link.Progress) bool { return p.Complete && p.Reached.Updated == devices })
	reach(t, progress, func(p link.Progress) bool { return p.Updated.DeviceSeconds > 0 }) // what each process has seen is put together
	edge := httptest.NewServer(g.members[(leader+2)%3].HTTPHandler())
	t.Cleanup(edge.Close)
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, edge.URL+link.UpdatePath("d0")+"artifacts/"+v2.Spec.Software[0].Artifacts[0].SHA256, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", sastoken.Sign(key, url.QueryEscape(host+"/devices/d0"), time.Now().Add(time.Hour), ""))
	resp, err := edge.Client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if body, err := io.ReadAll(resp.Body); string(body) != "two" {
		t.Errorf("%s: %s, %v", resp.Status, body, err)
	}
}
