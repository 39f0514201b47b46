package test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/slipway/slipway/device"
	"github.com/slipway/slipway/internal/bus/bustest"
	"github.com/slipway/slipway/internal/client"
	"github.com/slipway/slipway/internal/serve"
	"github.com/slipway/slipway/internal/sqldb"
	"github.com/slipway/slipway/internal/sqldb/sqldbtest"
	"github.com/slipway/slipway/internal/up"
)

// The ports of a stamp of several processes, each of which has its own address.
const (
	stampHTTPS = 8443
	stampMQTTS = 8883
	stampAMQPS = 5671
	stampNATS  = 6222
)

// together is an installation whose only stamp is several processes behind one
// address, on a PostgreSQL server and a cluster of NATS servers. Each process
// reaches those over cables of its own.
type together struct {
	*planes
	postgres *sqldbtest.Server
	nats     *bustest.Cluster // nil where each process keeps a server itself
	net      string           // what their addresses begin with
	names    []string         // of the processes
	mqtts    []string         // where each speaks MQTT
	database map[string]*cable
	servers  map[string][]*cable
}

func startTogether(t *testing.T, processes int) *together {
	t.Helper()
	postgres := sqldbtest.Start(t)
	return startTogetherBeside(t, postgres, postgres.URL, bustest.Start(t, 3), processes)
}

// startTogetherBeside has the other planes keep their records elsewhere, and the
// processes their log on servers of NATS, or themselves where those are nil.
func startTogetherBeside(t *testing.T, postgres *sqldbtest.Server, others string, servers *bustest.Cluster, processes int) *together {
	t.Helper()
	g := &together{postgres: postgres, nats: servers, database: map[string]*cable{}, servers: map[string][]*cable{}}
	g.planes = startPlanes(t, others)
	g.patience = 10 * time.Second
	g.net = strings.TrimSuffix(g.ready.Provisioning.Host, "2")
	net := g.net
	g.apply("apiVersion: slipway/v1\nkind: Environment\nmetadata: { name: test }\nspec: {}\n---\n" +
		"apiVersion: slipway/v1\nkind: Stamp\nmetadata: { name: test-1 }\nspec: { environment: test, region: here, capacity: 200000 }\n")
	var mqtts, https, ready []string
	for i := range processes {
		name, address := fmt.Sprintf("p%d", i), fmt.Sprint(net, 10+i)
		g.names = append(g.names, name)
		mqtts, https = append(mqtts, fmt.Sprint(address, ":", stampMQTTS)), append(https, fmt.Sprint(address, ":", stampHTTPS))
		ready = append(ready, fmt.Sprint("https://", address, ":", stampHTTPS, "/readyz"))
		one := &part{plane: serve.Stamp, name: "test-1", process: name, address: net + "9", hosts: ", " + address}
		one.ready = serve.Ready{HTTPS: stampHTTPS, MQTTS: stampMQTTS, AMQPS: stampAMQPS}
		one.join = g.joining("stamp", "token", "test-1")
		one.database = g.reach(name)
		one.at = address
		if g.nats != nil {
			one.join += g.shared(name)
		} else {
			one.join += g.kept(i, processes, one)
		}
		g.launch(one)
	}
	for _, name := range g.names {
		g.await(g.parts[name])
	}
	prober := &http.Client{Timeout: probeEvery, Transport: &http.Transport{TLSClientConfig: g.tls(""), DisableKeepAlives: true}}
	g.mqtts = mqtts
	lay(t, fmt.Sprint(net, 9, ":", stampMQTTS), mqtts...).balance(t, prober, ready)
	lay(t, fmt.Sprint(net, 9, ":", stampHTTPS), https...).balance(t, prober, ready)
	g.ready.Stamps = []up.ReadyStamp{{Name: "test-1", Environment: "test", Region: "here", Host: net + "9", MQTTS: stampMQTTS, HTTPS: stampHTTPS, AMQPS: stampAMQPS}}
	return g
}

// shared is how a process reaches what the processes share, besides the
// database.
func (g *together) shared(process string) string {
	g.t.Helper()
	var servers []string
	for _, at := range g.nats.URLs() {
		c := lay(g.t, "127.0.0.1:0", strings.TrimPrefix(at, "nats://"))
		g.servers[process] = append(g.servers[process], c)
		servers = append(servers, strconv.Quote("nats://"+c.address))
	}
	return fmt.Sprintf("cluster: { process: %s, files: %s, nats: { servers: [%s] } }\n", process, filepath.Join(g.dir, "files"), strings.Join(servers, ", "))
}

// kept is how a process that keeps a server itself reaches those of the others:
// over a cable to each, so that it has one name more for each of them.
func (g *together) kept(i, processes int, one *part) string {
	g.t.Helper()
	between := func(from, to int) string { return fmt.Sprint(g.net, 20+from*processes+to) }
	var servers []string
	for j := range processes {
		one.hosts += ", " + between(j, i)
		c := lay(g.t, fmt.Sprint(between(i, j), ":", stampNATS), fmt.Sprint(g.net, 10+j, ":", stampNATS))
		servers = append(servers, strconv.Quote(c.address))
		for _, name := range []string{fmt.Sprint("p", i), fmt.Sprint("p", j)} {
			g.servers[name] = append(g.servers[name], c)
		}
	}
	return fmt.Sprintf("cluster: { process: p%d, files: %s, nats: { listen: %q, servers: [%s] } }\n", i, filepath.Join(g.dir, "files"), fmt.Sprint(one.at, ":", stampNATS), strings.Join(servers, ", "))
}

// reach is the URL by which a process reaches the stamp's schema.
func (g *together) reach(process string) string {
	g.t.Helper()
	at, err := sqldb.InSchema(g.postgres.URL, "test-1")
	if err != nil {
		g.t.Fatal(err)
	}
	u, err := url.Parse(at)
	if err != nil {
		g.t.Fatal(err)
	}
	g.database[process] = lay(g.t, "127.0.0.1:0", u.Host)
	u.Host = g.database[process].address
	return u.String()
}

func (g *together) signal(name string, s syscall.Signal) {
	g.t.Helper()
	if err := g.parts[name].command.Process.Signal(s); err != nil {
		g.t.Fatal(err)
	}
}

// trouble is something that goes wrong, and how it ends.
type trouble struct {
	what       string
	begin, end func()
}

// troubles are all that the test knows. Each has a process or a server of its
// own, by number.
func (g *together) troubles(i int) []trouble {
	name := g.names[i]
	nothing := func() {}
	all := func(cables []*cable, do func(*cable)) func() {
		return func() {
			for _, w := range cables {
				do(w)
			}
		}
	}
	return []trouble{
		{"process " + name + " killed", func() { g.parts[name].kill(g.t) }, func() { g.again(name) }},
		{fmt.Sprintf("NATS server %d killed", i), func() { g.nats.Kill(i) }, func() { g.nats.Resume(i) }},
		{"the database killed and started", func() { g.postgres.Kill(); g.postgres.Resume() }, nothing},
		{"process " + name + " cut off the database", g.database[name].cut, g.database[name].mend},
		{"process " + name + " cut off NATS", all(g.servers[name], (*cable).cut), all(g.servers[name], (*cable).mend)},
		{"process " + name + " cut off both", func() { g.database[name].cut(); all(g.servers[name], (*cable).cut)() }, func() { g.database[name].mend(); all(g.servers[name], (*cable).mend)() }},
		{"process " + name + " frozen", func() { g.signal(name, syscall.SIGSTOP) }, func() { g.signal(name, syscall.SIGCONT) }},
		{fmt.Sprintf("NATS server %d frozen", i), func() { g.nats.Freeze(i) }, func() { g.nats.Thaw(i) }},
		{"control frozen", func() { g.signal(serve.Control, syscall.SIGSTOP) }, func() { g.signal(serve.Control, syscall.SIGCONT) }},
	}
}

// twice is a device that has connected, and connects anew while the first
// connection is still open: only the second one may count.
type twice struct {
	*together
	id    string
	first *raw
}

func (g *together) twice(id string) *twice {
	g.t.Helper()
	d := &twice{together: g, id: id}
	eventually(g.t, id+" is assigned", 30*time.Second, func() bool {
		hub, err := g.register(id) // which is told to come back while trouble lasts
		return err == nil && hub != ""
	})
	d.first = d.connect()
	g.t.Cleanup(func() { d.first.Close() })
	return d
}

func (d *twice) connect() (conn *raw) {
	d.t.Helper()
	var err error
	defer func() {
		if conn == nil {
			d.t.Logf("%s was refused at last: %v", d.id, err)
		}
	}()
	eventually(d.t, d.id+" connects", 30*time.Second, func() (in bool) {
		conn, err = d.hub(d.id, d.stamp("test-1"), true)
		return err == nil
	})
	return conn
}

// again connects a second time and says something over the first connection.
func (d *twice) again() {
	d.t.Helper()
	second := d.connect()
	defer second.Close()
	d.first.patience = 100 * time.Millisecond
	if d.first.publish(`{"from":"the first"}`) == nil {
		d.t.Errorf("%s: a message over its first connection was acknowledged after it had another", d.id)
	}
}

// check sees that the first connection ends without a word.
func (d *twice) check() {
	d.t.Helper()
	if err := d.first.SetReadDeadline(time.Now().Add(15 * time.Second)); err != nil {
		d.t.Fatal(err)
	}
	packet, err := d.first.Next()
	if err == nil {
		d.t.Errorf("%s: %T came over its first connection after it had another", d.id, packet)
	} else if errors.Is(err, os.ErrDeadlineExceeded) {
		d.t.Errorf("%s: its first connection is still open", d.id)
	}
}

// kill ends the process as kill -9 does.
func (one *part) kill(t testing.TB) {
	t.Helper()
	if err := one.command.Process.Kill(); err != nil {
		t.Error(err)
	}
	_ = one.command.Wait() // it was killed, which is what it says
	one.command = nil
}

// troubled is for how long the processes of a stamp are given trouble beyond
// once each; SLIPWAY_TROUBLE says another time.
func troubled(t *testing.T) time.Duration {
	t.Helper()
	d, err := time.ParseDuration(cmp.Or(os.Getenv("SLIPWAY_TROUBLE"), "0s"))
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// TestAStampOfSeveralProcessesLosesNothing kills, freezes and cuts off each
// kind of part of a stamp under load, prints how long devices noticed, and
// holds the stamp to what it acknowledged.
func TestAStampOfSeveralProcessesLosesNothing(t *testing.T) {
	t.Parallel()
	g := startTogether(t, 3)
	g.enrol()
	eventually(t, "the stamp is in the directory", 30*time.Second, func() bool { return strings.Contains(g.must("stamp", "list"), "127.77.") })
	hands := make([]*hand, 9)
	for i := range hands {
		hands[i] = &hand{id: fmt.Sprintf("together-%02d", i)}
	}
	l := g.put(hands)
	l.progress(t, "every device works", everyone)
	end := time.Now().Add(troubled(t))
	for round := 0; round < 1 || time.Now().Before(end); round++ {
		for n := range len(g.troubles(0)) {
			g.endure(l, g.troubles((round + n) % len(g.names))[n], fmt.Sprintf("twice-%d-%d", round, n))
		}
	}
	close(l.stop)
	l.done.Wait()
	for _, h := range hands {
		h.check(t, g.installation)
	}
	everyDeviceInOnePlace(t, g.installation, hands)
}

// endure gives devices at work one trouble, and prints how long they noticed.
func (g *together) endure(l *load, one trouble, id string) {
	t := g.t
	t.Helper()
	twin := g.twice(id)
	begin := time.Now()
	one.begin()
	twin.again()
	l.progress(t, one.what+": every device works", everyone)
	worked := time.Since(begin)
	one.end()
	twin.check()
	begin = time.Now()
	l.progress(t, one.what+", and over: every device works", everyone)
	t.Logf("%-40s every device works after %8s; over: after %8s", one.what, worked.Round(time.Millisecond), time.Since(begin).Round(time.Millisecond))
}

// TestProcessesKeepTheirLogThemselves is both tests once more, in short, for a
// stamp whose processes each keep one of the log's servers: what befalls the one
// befalls the other.
func TestProcessesKeepTheirLogThemselves(t *testing.T) {
	t.Parallel()
	postgres := sqldbtest.Start(t)
	g := startTogetherBeside(t, postgres, postgres.URL, nil, 3)
	g.enrol()
	eventually(t, "the stamp is in the directory", 30*time.Second, func() bool { return strings.Contains(g.must("stamp", "list"), "127.77.") })
	hands := make([]*hand, 6)
	for i := range hands {
		hands[i] = &hand{id: fmt.Sprintf("keeping-%02d", i)}
	}
	l := g.put(hands)
	l.progress(t, "every device works", everyone)
	// All of it befalls one process: with another that is not quite back, no two
	// servers would be left that agree.
	for n, one := range g.troubles(1) {
		if strings.HasPrefix(one.what, "process") && !strings.HasSuffix(one.what, "database") {
			g.endure(l, one, fmt.Sprintf("twice-%d", n))
		}
	}
	close(l.stop)
	l.done.Wait()
	for _, h := range hands {
		h.check(t, g.installation)
	}
	everyDeviceInOnePlace(t, g.installation, hands)
	g.restartUnnoticed()
}

// TestProcessesAreRestartedUnnoticed restarts the processes of a stamp one by
// one while devices and back ends work, and nothing that they ask fails.
func TestProcessesAreRestartedUnnoticed(t *testing.T) {
	t.Parallel()
	g := startTogether(t, 3)
	g.enrol()
	eventually(t, "the stamp is in the directory", 30*time.Second, func() bool { return strings.Contains(g.must("stamp", "list"), "127.77.") })
	g.restartUnnoticed()
}

func (g *together) restartUnnoticed() {
	t := g.t
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	devices, end := context.WithCancel(t.Context())
	var working, running sync.WaitGroup
	for i := range 6 {
		id := fmt.Sprintf("rolling-%d", i)
		d := g.sensor(id)
		running.Go(func() {
			if err := d.Run(devices); err != nil && devices.Err() == nil {
				t.Errorf("%s: %v", id, err)
			}
		})
		if err := d.Send(ctx, device.Message{Body: []byte("1")}); err != nil {
			t.Fatal(err)
		}
		working.Go(func() {
			repeat(t, ctx, id+": command", time.Second, func() error {
				_, err := g.api.SendCommand(context.Background(), id, client.Command{BodyBase64: []byte("1")})
				return err
			})
		})
		for what, do := range map[string]func() error{
			"message": func() error { return d.Send(context.Background(), device.Message{Body: []byte("1")}) },
			"patch":   func() error { _, err := d.Report(context.Background(), []byte(`{"n":1}`)); return err },
			"twin": func() error {
				_, err := g.api.PatchTwin(context.Background(), id, "", []byte(`{"tags":{"a":1}}`))
				return err
			},
			"method": func() error {
				_, err := g.api.InvokeMethod(context.Background(), id, "echo", client.Method{ConnectTimeoutSeconds: 20})
				return err
			},
		} {
			working.Go(func() { repeat(t, ctx, id+": "+what, 50*time.Millisecond, do) })
		}
	}
	for _, name := range g.names {
		begin := time.Now()
		g.end(name, syscall.SIGTERM)
		t.Logf("%s stopped in %s", name, time.Since(begin).Round(time.Millisecond))
		g.again(name)
	}
	stop()
	working.Wait()
	end()
	running.Wait()
}

// repeat does something again and again until ctx ends; it must not fail.
func repeat(t *testing.T, ctx context.Context, what string, every time.Duration, do func() error) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for n := 0; ; n++ {
		select {
		case <-ctx.Done():
			if n == 0 {
				t.Errorf("%s: never done", what)
			}
			return
		case <-tick.C:
		}
		if err := do(); err != nil {
			t.Errorf("%s %d: %v", what, n, err)
			return
		}
	}
}

// sensor is a device of our own client that answers methods.
func (g *together) sensor(id string) *device.Client {
	g.t.Helper()
	d, err := device.New(device.Config{
		Provisioning: g.provisioningAddress(), IDScope: g.ready.Provisioning.IDScope, RegistrationID: id,
		Key: device.DeriveKey(groupKey, id), CA: g.pool, Port: stampMQTTS,
	})
	if err != nil {
		g.t.Fatal(err)
	}
	d.OnMethod("echo", func(_ context.Context, payload []byte) (int, []byte) { return 200, payload })
	d.OnMessage(func(device.Message) {})
	return d
}
