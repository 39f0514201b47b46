package test

import (
	"bytes"
	"cmp"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/slipway/slipway/internal/client"
	"github.com/slipway/slipway/internal/control"
	"github.com/slipway/slipway/internal/seal"
	"github.com/slipway/slipway/internal/serve"
	"github.com/slipway/slipway/internal/sqldb"
	"github.com/slipway/slipway/internal/sqldb/sqldbtest"
	"github.com/slipway/slipway/internal/up"
)

// planes is an installation whose planes are processes of their own.
type planes struct {
	*installation
	program  string
	database string           // URL of PostgreSQL; empty means SQLite
	parts    map[string]*part // control, provisioning, and stamps by name
	links    []*cable         // over which stamps reach the others, where those can be cut
}

// part is one process.
type part struct {
	plane, name, address string
	process              string // which of several of a stamp
	at                   string // where it listens, if that is not its address
	join                 string // lines of its configuration
	database, program    string // if those are others than the installation's
	hosts                string // further hosts
	link                 *cable // over which stamps reach its server of the link; nil is without
	ready                serve.Ready
	command              *exec.Cmd
	log                  bytes.Buffer
}

// netNumber gives each installation loopback addresses of its own.
var netNumber atomic.Int32

// startPlanes starts control, provisioning, and a stamp for each name, of the
// environment before the dash, on PostgreSQL if its URL is given.
func startPlanes(t *testing.T, database string, stamps ...string) *planes {
	t.Helper()
	return startPlanesOf(t, binary, database, stamps...)
}

// startPlanesOf is startPlanes with a program of another release.
func startPlanesOf(t *testing.T, program, database string, stamps ...string) *planes {
	t.Helper()
	p := &planes{installation: &installation{t: t, dir: t.TempDir()}, program: program, database: database, parts: map[string]*part{}}
	p.start(false, stamps...)
	return p
}

// linkPort is where the server of the link listens that is reached over a cable.
const linkPort = 7422

// start starts the planes; stamps reach the others over cables if they are to.
func (p *planes) start(cables bool, stamps ...string) {
	t := p.t
	t.Helper()
	net := fmt.Sprintf("127.77.%d.", netNumber.Add(1))
	t.Cleanup(func() {
		for name, one := range p.parts {
			p.end(name, syscall.SIGTERM)
			if t.Failed() {
				text := one.log.String()
				t.Logf("%s log, the end:\n%s", name, text[max(0, len(text)-3000):])
			}
		}
	})
	over := func(one *part) *part {
		if cables {
			one.link = lay(t, "127.0.0.1:0", fmt.Sprint(one.address, ":", linkPort))
			one.hosts = ", 127.0.0.1"
			p.links = append(p.links, one.link)
		}
		return one
	}
	p.begin(over(&part{plane: serve.Control, address: net + "1"}))
	control := p.parts[serve.Control].ready
	p.ready = up.Ready{Console: control.Console, API: control.API, AdminToken: control.AdminToken, CA: control.CA}
	p.ready.Provisioning = up.ReadyProvision{Host: net + "2"}
	p.connect()
	declared := ""
	seen := map[string]bool{}
	for _, name := range stamps {
		environment, _, _ := strings.Cut(name, "-")
		if !seen[environment] {
			seen[environment] = true
			declared += "apiVersion: slipway/v1\nkind: Environment\nmetadata: { name: " + environment + " }\nspec: {}\n---\n"
		}
		declared += "apiVersion: slipway/v1\nkind: Stamp\nmetadata: { name: " + name + " }\nspec: { environment: " + environment + ", region: here }\n---\n"
	}
	p.apply(declared)
	p.begin(over(&part{plane: serve.Provisioning, address: net + "2", join: p.joining("provisioning", "token")}))
	dps := p.parts[serve.Provisioning].ready
	p.ready.Provisioning = up.ReadyProvision{Host: dps.Host, MQTTS: dps.MQTTS, HTTPS: dps.HTTPS, IDScope: dps.IDScope}
	for i, name := range stamps {
		p.begin(&part{plane: serve.Stamp, name: name, address: fmt.Sprint(net, 3+i), join: p.joining("stamp", "token", name)})
		r := p.parts[name].ready
		environment, _, _ := strings.Cut(name, "-")
		p.ready.Stamps = append(p.ready.Stamps, up.ReadyStamp{Name: name, Environment: environment, Region: "here", Host: r.Host, MQTTS: r.MQTTS, HTTPS: r.HTTPS, AMQPS: r.AMQPS})
	}
}

// joining are the lines by which a process joins.
func (p *planes) joining(args ...string) string {
	p.t.Helper()
	return fmt.Sprintf("join: { control: %q, token: %q }\n", p.ready.API, strings.TrimSpace(p.must(args...)))
}

func (one *part) key() string {
	if one.process != "" {
		return one.process
	}
	if one.name != "" {
		return one.name
	}
	return one.plane
}

// begin starts a process and waits until it serves. It keeps the ports of its
// first start.
func (p *planes) begin(one *part) {
	p.t.Helper()
	p.launch(one)
	p.await(one)
}

// launch starts a process, which need not serve yet.
func (p *planes) launch(one *part) {
	p.t.Helper()
	p.parts[one.key()] = one
	ready := filepath.Join(p.dir, one.key()+".json")
	if err := os.Remove(ready); err != nil && !os.IsNotExist(err) {
		p.t.Fatal(err)
	}
	config := filepath.Join(p.dir, one.key()+".yaml")
	text := one.config()
	if one.database != "" {
		text += "database: " + one.database + "\n"
	} else if p.database != "" {
		at, err := sqldb.InSchema(p.database, one.key())
		if err != nil {
			p.t.Fatal(err)
		}
		text += "database: " + at + "\n"
	}
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		p.t.Fatal(err)
	}
	one.command = exec.Command(cmp.Or(one.program, p.program), "serve", one.plane, "--config", config, "--ready-file", ready)
	one.command.Stderr = p.keep(one)
	if err := one.command.Start(); err != nil {
		p.t.Fatal(err)
	}
}

// await waits until a process that was started serves.
func (p *planes) await(one *part) {
	p.t.Helper()
	eventually(p.t, one.key()+" serves", 3*time.Minute, func() bool {
		text, err := os.ReadFile(filepath.Join(p.dir, one.key()+".json"))
		return err == nil && json.Unmarshal(text, &one.ready) == nil
	})
}

// keep is where a process logs: in memory, and to a file in the directory that
// SLIPWAY_LOGS names, for long runs.
func (p *planes) keep(one *part) io.Writer {
	p.t.Helper()
	dir := os.Getenv("SLIPWAY_LOGS")
	if dir == "" {
		return &one.log
	}
	file, err := os.OpenFile(filepath.Join(dir, one.key()+".log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		p.t.Fatal(err)
	}
	return io.MultiWriter(&one.log, file) // open until the test program ends: the process ends after this test
}

func (one *part) config() string {
	r := one.ready
	text := fmt.Sprintf("plane: %s\ndata: %s\nhosts: [%s]\n", one.plane, one.key(), one.address+one.hosts) + one.join
	if one.name != "" {
		text += "name: " + one.name + "\n"
	}
	port := func(n int) string {
		return fmt.Sprintf("%q", fmt.Sprint(cmp.Or(one.at, one.address), ":", n))
	}
	listen := "https: " + port(r.HTTPS)
	switch one.plane {
	case serve.Control:
		console := strings.TrimPrefix(r.Console, "http://")
		if console == "" {
			console = one.address + ":0"
		}
		listen += fmt.Sprintf(", http: %q", console)
		text += "local: { network: " + strings.Replace(strings.TrimSuffix(one.address, ".1"), "127.77", "127.78", 1) + " }\n"
	case serve.Provisioning:
		listen += ", mqtts: " + port(r.MQTTS)
	case serve.Stamp:
		return text + "listen: { " + listen + ", mqtts: " + port(r.MQTTS) + ", amqps: " + port(r.AMQPS) + " }\n"
	}
	linkAt, cluster := r.Link, r.Cluster
	if linkAt == "" {
		linkAt, cluster = one.address+":0", one.address+":0"
	}
	advertise := ""
	if one.link != nil {
		linkAt, advertise = fmt.Sprint(one.address, ":", linkPort), fmt.Sprintf(", advertise: %q", one.link.address)
	}
	return text + fmt.Sprintf("listen: { %s }\nlink: { listen: %q, cluster: %q%s }\n", listen, linkAt, cluster, advertise)
}

// end ends a process and waits for its end.
func (p *planes) end(name string, signal syscall.Signal) {
	p.t.Helper()
	one := p.parts[name]
	if one.command == nil {
		return
	}
	if err := one.command.Process.Signal(signal); err != nil {
		p.t.Error(err)
	}
	if err := one.command.Process.Signal(syscall.SIGCONT); err != nil && !errors.Is(err, os.ErrProcessDone) {
		p.t.Error(err) // it may have been frozen
	}
	if err := one.command.Wait(); err != nil && signal != syscall.SIGKILL {
		p.t.Errorf("%s ended with %v", name, err)
	}
	one.command = nil
}

// again starts a process that was ended.
func (p *planes) again(name string) {
	p.t.Helper()
	p.begin(p.parts[name])
}

// load is devices at work, each counting what it lost its connection for.
type load struct {
	hands []*hand
	lost  []atomic.Int64
	sent  []atomic.Int64
	home  []atomic.Pointer[string] // name of the stamp
	why   []atomic.Pointer[string] // what went wrong last, and when
	stop  chan struct{}
	done  sync.WaitGroup
}

// put puts devices to work until they are stopped.
func (p *planes) put(hands []*hand) *load {
	l := &load{hands: hands, lost: make([]atomic.Int64, len(hands)), sent: make([]atomic.Int64, len(hands)), home: make([]atomic.Pointer[string], len(hands)), why: make([]atomic.Pointer[string], len(hands)), stop: make(chan struct{})}
	for i, h := range hands {
		l.done.Go(func() {
			for {
				before := len(h.acked)
				err := h.until(p.installation, l.stop, func() {
					name := h.hub.Name
					l.home[i].Store(&name)
					l.sent[i].Add(1)
				})
				if err == nil {
					return
				}
				why := time.Now().Format(time.TimeOnly) + " " + err.Error()
				l.why[i].Store(&why)
				if len(h.acked) > before {
					l.lost[i].Add(1) // it was at work
				}
			}
		})
	}
	return l
}

// progress waits until every device that a filter takes has sent more.
func (l *load) progress(t *testing.T, what string, whose func(stamp string) bool) {
	t.Helper()
	before := make([]int64, len(l.hands))
	for i := range l.hands {
		before[i] = l.sent[i].Load()
	}
	there := false
	defer func() {
		for i := range l.hands {
			if why := l.why[i].Load(); !there && why != nil {
				t.Logf("%s has sent %d, %d before; last failed at %s", l.hands[i].id, l.sent[i].Load(), before[i], *why)
			}
		}
	}()
	eventually(t, what, 30*time.Second, func() bool {
		for i := range l.hands {
			home := l.home[i].Load()
			if (home == nil || whose(*home)) && l.sent[i].Load() < before[i]+5 {
				return false
			}
		}
		there = true
		return true
	})
}

func everyone(string) bool { return true }

// losses is how often devices at work have lost their connection.
func (l *load) losses() (n int64) {
	for i := range l.lost {
		n += l.lost[i].Load()
	}
	return n
}

// TestPlanesStandAlone runs every plane in a process of its own, kills each
// under load, and sees that nobody else notices and that nothing is lost.
func TestPlanesStandAlone(t *testing.T) {
	t.Parallel()
	p := &planes{installation: &installation{t: t, dir: t.TempDir()}, program: binary, parts: map[string]*part{}}
	p.start(true, "test-1", "test-2")
	p.standAlone(t, func(l *load) { p.partition(t, l) })
}

// TestPlanesOnPostgreSQLStandAlone is the same with PostgreSQL, which is killed
// as well.
func TestPlanesOnPostgreSQLStandAlone(t *testing.T) {
	t.Parallel()
	server := sqldbtest.Start(t)
	p := startPlanes(t, server.URL, "test-1", "test-2")
	p.standAlone(t, func(l *load) {
		for range 2 {
			server.Kill()
			server.Resume()
			begin := time.Now()
			l.progress(t, "devices work after the database was away", everyone)
			t.Logf("the database is back: every device works after %s", time.Since(begin).Round(time.Millisecond))
		}
	})
}

// standAlone kills each plane under load, and then does what else is to be done.
func (p *planes) standAlone(t *testing.T, also func(*load)) {
	t.Helper()
	eventually(t, "both stamps are in the directory", 30*time.Second, func() bool {
		return strings.Count(p.must("stamp", "list"), "127.77.") == 2
	})
	p.enrol()
	hands := make([]*hand, 8)
	for i := range hands {
		hands[i] = &hand{id: fmt.Sprintf("planes-%02d", i)}
	}
	l := p.put(hands)
	l.progress(t, "every device works", everyone)
	for _, name := range []string{serve.Control, serve.Provisioning} {
		before := l.losses()
		p.end(name, syscall.SIGKILL)
		l.progress(t, "devices work without "+name, everyone)
		if name == serve.Control {
			p.newcomer(t, "newcomer")
		}
		p.again(name)
		l.progress(t, "devices work with "+name+" again", everyone)
		if n := l.losses(); n != before {
			t.Errorf("%d devices lost their connection as %s was killed", n-before, name)
		}
		begin := time.Now()
		p.newcomer(t, "after-"+name)
		t.Logf("%s is back: a new device works after %s", name, time.Since(begin).Round(time.Millisecond))
	}
	elsewhere := func(stamp string) bool { return stamp != "test-1" }
	p.end("test-1", syscall.SIGKILL)
	l.progress(t, "devices of the other stamp work", elsewhere)
	begin := time.Now()
	p.again("test-1")
	l.progress(t, "every device works again", everyone)
	t.Logf("test-1 is back: its devices work after %s", time.Since(begin).Round(time.Millisecond))
	for i, h := range hands {
		if home := *l.home[i].Load(); elsewhere(home) && l.lost[i].Load() > 0 {
			t.Errorf("%s of %s lost its connection %d times", h.id, home, l.lost[i].Load())
		}
	}
	also(l)
	close(l.stop)
	l.done.Wait()
	for _, h := range hands {
		h.check(t, p.installation)
	}
	everyDeviceInOnePlace(t, p.installation, hands)
}

// partition cuts stamps off control, off provisioning and off both, and cuts
// each of those off everybody: devices at work notice none of it, and one that is
// new is assigned when the cut is mended, if not before.
func (p *planes) partition(t *testing.T, l *load) {
	t.Helper()
	cut := func(cables ...*cable) (begin, end func()) {
		each := func(do func(*cable)) func() {
			return func() {
				for _, c := range cables {
					do(c)
				}
			}
		}
		return each((*cable).cut), each((*cable).mend)
	}
	freeze := func(name string) (begin, end func()) {
		process := p.parts[name].command.Process
		send := func(s syscall.Signal) func() {
			return func() {
				if err := process.Signal(s); err != nil {
					t.Error(err)
				}
			}
		}
		return send(syscall.SIGSTOP), send(syscall.SIGCONT)
	}
	const noticed = 8 * time.Second // by both sides
	for i, one := range []struct {
		what string
		long time.Duration
		of   func() (begin, end func())
	}{
		{"stamps cut off control", 2 * time.Second, func() (func(), func()) { return cut(p.links[0]) }},
		{"stamps cut off provisioning", 2 * time.Second, func() (func(), func()) { return cut(p.links[1]) }},
		{"stamps cut off both", noticed, func() (func(), func()) { return cut(p.links...) }},
		{"control cut off everybody", 2 * time.Second, func() (func(), func()) { return freeze(serve.Control) }},
		{"provisioning cut off everybody", 2 * time.Second, func() (func(), func()) { return freeze(serve.Provisioning) }},
	} {
		before := l.losses()
		start, end := one.of()
		start()
		for over := time.Now().Add(one.long); time.Now().Before(over); {
			l.progress(t, one.what+": devices work", everyone)
		}
		if _, err := p.run("device", "twin", l.hands[0].id); one.long == noticed && err == nil {
			t.Errorf("%s: control reaches them", one.what)
		}
		end()
		begin := time.Now()
		p.newcomer(t, fmt.Sprint("parted-", i))
		t.Logf("%s, and over: a new device works after %s", one.what, time.Since(begin).Round(time.Millisecond))
		if n := l.losses(); n != before {
			t.Errorf("%s: %d devices lost their connection", one.what, n-before)
		}
	}
}

// TestARevokedProcessIsOffTheLink revokes a stamp's certificate: people cannot
// reach it any more, its devices do not notice.
func TestARevokedProcessIsOffTheLink(t *testing.T) {
	t.Parallel()
	p := startPlanes(t, "", "test-1")
	eventually(t, "the stamp is in the directory", 30*time.Second, func() bool { return strings.Contains(p.must("stamp", "list"), "127.77.") })
	p.enrol()
	hands := []*hand{{id: "revoked-1"}}
	l := p.put(hands)
	l.progress(t, "the device works", everyone)
	p.must("device", "twin", "revoked-1")
	var peers struct {
		Items []struct{ Peer, Serial string }
	}
	if err := json.Unmarshal([]byte(p.must("peer", "list", "--json")), &peers); err != nil {
		t.Fatal(err)
	}
	for _, one := range peers.Items {
		if one.Peer == "stamp.test-1" {
			p.must("peer", "revoke", one.Serial, "--yes")
		}
	}
	eventually(t, "the stamp cannot be reached", 30*time.Second, func() bool {
		_, err := p.run("device", "twin", "revoked-1")
		return err != nil
	})
	l.progress(t, "the device works on", everyone)
	close(l.stop)
	l.done.Wait()
	p.end("test-1", syscall.SIGTERM)
	if err := os.Remove(filepath.Join(p.dir, "test-1", "identity.json")); err != nil {
		t.Fatal(err)
	}
	p.parts["test-1"].join = p.joining("stamp", "token", "test-1")
	p.again("test-1")
	eventually(t, "the stamp is back by a new token", 30*time.Second, func() bool {
		_, err := p.run("device", "twin", "revoked-1")
		return err == nil
	})
	hands[0].check(t, p.installation)
}

// TestAStandbyFollows kills provisioning and then control while another process
// of each stands by: that one serves within seconds, by the same records.
func TestAStandbyFollows(t *testing.T) {
	t.Parallel()
	server := sqldbtest.Start(t)
	p := startPlanes(t, server.URL, "test-1")
	eventually(t, "the stamp is in the directory", 30*time.Second, func() bool { return strings.Contains(p.must("stamp", "list"), "127.77.") })
	p.enrol()
	before, err := p.register("standby-1")
	if err != nil || before == "" {
		t.Fatal(before, err)
	}
	first := p.parts[serve.Provisioning]
	second := &part{plane: serve.Provisioning, process: "provisioning-2", address: strings.TrimSuffix(first.address, "2") + "99", join: p.joining("provisioning", "token")}
	if err := os.MkdirAll(filepath.Join(p.dir, "provisioning-2"), 0o700); err != nil {
		t.Fatal(err)
	}
	key, err := os.ReadFile(filepath.Join(p.dir, "provisioning", seal.FileName))
	if err == nil {
		err = os.WriteFile(filepath.Join(p.dir, "provisioning-2", seal.FileName), key, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	p.follow(first, second)
	p.ready.Provisioning = up.ReadyProvision{Host: second.ready.Host, MQTTS: second.ready.MQTTS, HTTPS: second.ready.HTTPS, IDScope: second.ready.IDScope}
	if hub, err := p.register("standby-1"); err != nil || hub != before {
		t.Errorf("a device that was on %s is sent to %q: %v", before, hub, err)
	}
	p.assigns("standby-2")

	// Control's address moves to the process that follows.
	first = p.parts[serve.Control]
	dir := filepath.Join(p.dir, "control-2")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, name := range append([]string{seal.FileName}, control.CopiedFiles...) {
		text, err := os.ReadFile(filepath.Join(p.dir, "control", name))
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, name), text, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	p.follow(first, &part{plane: serve.Control, process: "control-2", address: first.address, ready: first.ready, join: "artifacts: { directory: control/artifacts }\n"})
	eventually(t, "control reaches the stamp", 30*time.Second, func() bool {
		_, err := p.run("device", "twin", "standby-1")
		return err == nil
	})
	p.apply("apiVersion: slipway/v1\nkind: Tenant\nmetadata: { name: late }\nspec: {}\n")
	p.assigns("standby-3")
}

// follow kills a process while another one stands by, and prints after how long
// that one serves.
func (p *planes) follow(first, second *part) {
	p.t.Helper()
	at, err := sqldb.InSchema(p.database, first.plane)
	if err != nil {
		p.t.Fatal(err)
	}
	second.database, second.join = at, second.join+"standby: true\n"
	killed := make(chan time.Time, 1)
	go func() {
		<-time.After(2 * time.Second) // time enough to start, were it not to wait
		if _, err := os.Stat(filepath.Join(p.dir, second.key()+".json")); err == nil {
			p.t.Error("the standby serves beside the first")
		}
		at := time.Now()
		first.kill(p.t)
		killed <- at
	}()
	p.begin(second)
	p.t.Logf("the standby of %s serves %s after the first was killed", first.plane, time.Since(<-killed).Round(time.Millisecond))
}

// assigns waits until a device that was never seen has a stamp.
func (p *planes) assigns(id string) {
	p.t.Helper()
	eventually(p.t, id+" is assigned", 20*time.Second, func() bool {
		hub, err := p.register(id)
		return err == nil && hub != ""
	})
}

// TestAStampKeepsToItsLimits starts a stamp anew with limits, and goes beyond
// them.
func TestAStampKeepsToItsLimits(t *testing.T) {
	t.Parallel()
	p := startPlanes(t, "", "test-1")
	eventually(t, "the stamp is in the directory", 30*time.Second, func() bool { return strings.Contains(p.must("stamp", "list"), "127.77.") })
	p.enrol()
	ids := []string{"limit-1", "limit-2", "limit-3"}
	for _, id := range ids {
		if _, err := p.register(id); err != nil {
			t.Fatal(err)
		}
	}
	p.end("test-1", syscall.SIGTERM)
	// Another host means another certificate, for which the one it has is good.
	p.parts["test-1"].hosts = ", one.example.com"
	p.parts["test-1"].join = fmt.Sprintf("join: { control: %q, ca: %q }\n", p.ready.API, p.ready.CA) + "limits: { connections: 2, messagesPerSecond: 50, telemetryBytes: 33554432 }\n"
	p.again("test-1")
	if peers := p.must("peer", "list"); strings.Count(peers, "one.example.com") != 1 || strings.Count(peers, "stamp.test-1") != 2 {
		t.Errorf("certificates:\n%s", peers)
	}
	var connected []*raw
	for _, id := range ids {
		conn, err := p.hub(id, p.stamp("test-1"), true)
		if err == nil {
			connected = append(connected, conn)
			t.Cleanup(func() { conn.Close() })
		}
	}
	if len(connected) != 2 {
		t.Fatalf("%d connections were let in, not 2", len(connected))
	}
	stop := make(chan struct{})
	time.AfterFunc(2*time.Second, func() { close(stop) })
	if acked, _ := flood(connected, stop); acked < 50 || acked > 50*4 {
		t.Errorf("%d messages were taken in two seconds, not about 150", acked)
	}
	connected[0].Close()
	eventually(t, "there is room again", 10*time.Second, func() bool {
		conn, err := p.hub(ids[2], p.stamp("test-1"), true)
		if err == nil {
			conn.Close()
		}
		return err == nil
	})
	eventually(t, "the stamp tells its limits", 10*time.Second, func() bool {
		out := p.must("stamp", "show", "test-1")
		return strings.Contains(out, "connections: 2") && strings.Contains(out, "messagesPerSecond: 50") && strings.Contains(out, "telemetryBytes: 33554432")
	})
}

// TestOneStampsTroubleIsItsOwn overloads, kills and restarts one stamp, and
// prints what the devices of the other notice of it.
func TestOneStampsTroubleIsItsOwn(t *testing.T) {
	t.Parallel()
	p := startPlanes(t, "", "test-1", "test-2")
	// The stamps share the machine's processors here, which limits keep apart.
	p.end("test-1", syscall.SIGTERM)
	p.parts["test-1"].join = fmt.Sprintf("join: { control: %q, ca: %q }\n", p.ready.API, p.ready.CA) + "limits: { messagesPerSecond: 2000 }\n"
	p.again("test-1")
	eventually(t, "both stamps are in the directory", 30*time.Second, func() bool {
		return strings.Count(p.must("stamp", "list"), "127.77.") == 2
	})
	connect := func(stamp string, n int) (all []*raw) {
		t.Helper()
		p.apply("apiVersion: slipway/v1\nkind: EnrollmentGroup\nmetadata: { name: on-" + stamp + " }\nspec: { environment: test, attestation: { symmetricKey: { primaryKey: " +
			base64.StdEncoding.EncodeToString(p.keys[strings.ReplaceAll(stamp, "-", "")]) + " } }, allocation: { stamps: [" + stamp + "] } }\n")
		for i := range n {
			id := fmt.Sprintf("%s-%02d", strings.ReplaceAll(stamp, "-", ""), i)
			if _, err := p.register(id); err != nil {
				t.Fatal(err)
			}
			conn, err := p.hub(id, p.stamp(stamp), true)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { conn.Close() })
			all = append(all, conn)
		}
		return all
	}
	p.keys = map[string][]byte{"test1": []byte(rand.Text()), "test2": []byte(rand.Text())}
	next := nextRelease(t)
	troubled, watched := connect("test-1", 16), connect("test-2", 4)
	phase := func(what string, meanwhile func(stop <-chan struct{})) {
		t.Helper()
		stop := make(chan struct{})
		time.AfterFunc(2*time.Second, func() { close(stop) })
		var busy sync.WaitGroup
		busy.Go(func() { meanwhile(stop) })
		acked, took := flood(watched, stop)
		busy.Wait()
		if len(took) == 0 {
			t.Fatalf("%s: the other stamp stood still", what)
		}
		t.Logf("%-28s %6d messages on the other stamp, p50 %s, p99 %s", what, acked, took[len(took)/2], took[len(took)*99/100])
	}
	phase("one stamp idle", func(<-chan struct{}) {})
	phase("one stamp flooded", func(stop <-chan struct{}) { flood(troubled, stop) })
	phase("one stamp killed", func(<-chan struct{}) { p.end("test-1", syscall.SIGKILL) })
	phase("one stamp started again", func(<-chan struct{}) { p.again("test-1") })
	phase("one stamp upgraded", func(<-chan struct{}) {
		p.end("test-1", syscall.SIGTERM)
		p.parts["test-1"].program = next
		p.again("test-1")
	})
	phase("one stamp idle again", func(<-chan struct{}) {})
	eventually(t, "control knows which release the stamp is of", 10*time.Second, func() bool { return strings.Contains(p.must("stamp", "show", "test-1"), "version: v9.9.9") })
	for i, d := range watched {
		if err := d.publish(`{"still":"here"}`); err != nil {
			t.Errorf("device %d of the other stamp lost its connection: %v", i, err)
		}
	}
}

// TestLocalStampsAreLookedAfter has control start a stamp, kills that and then
// control, and takes the stamp away again.
func TestLocalStampsAreLookedAfter(t *testing.T) {
	t.Parallel()
	p := startPlanes(t, "", "test-1")
	p.must("stamp", "create", "test-2", "--like", "test-1", "--local")
	dir := filepath.Join(p.dir, "control", "stamps", "test-2")
	runs := func(other int) (r serve.Ready) {
		t.Helper()
		eventually(t, "the stamp runs", 60*time.Second, func() bool {
			text, err := os.ReadFile(filepath.Join(dir, "ready.json"))
			return err == nil && json.Unmarshal(text, &r) == nil && r.PID != other && syscall.Kill(r.PID, 0) == nil &&
				strings.Contains(p.must("stamp", "list"), "test-2\ttest\there\topen")
		})
		return r
	}
	first := runs(0)
	t.Cleanup(func() { // it would outlive the test
		if t.Failed() {
			if err := exec.Command("pkill", "-f", dir).Run(); err != nil {
				t.Log(err)
			}
		}
	})
	p.ready.Stamps = append(p.ready.Stamps, up.ReadyStamp{Name: "test-2", Environment: "test", Host: first.Host, MQTTS: first.MQTTS, HTTPS: first.HTTPS, AMQPS: first.AMQPS})
	p.enrol()
	p.must("stamp", "drain", "test-1")
	h := &hand{id: "local-1"}
	l := p.put([]*hand{h})
	l.progress(t, "the device works on the new stamp", everyone)
	if home := *l.home[0].Load(); home != "test-2" {
		t.Errorf("the device is on %s", home)
	}
	if err := syscall.Kill(first.PID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	second := runs(first.PID)
	l.progress(t, "the device works after its stamp was killed", everyone)
	p.end(serve.Control, syscall.SIGKILL)
	l.progress(t, "the device works without control, which had started its stamp", everyone)
	p.again(serve.Control)
	if third := runs(0); third.PID != second.PID {
		t.Errorf("the stamp was started anew, as %d beside %d", third.PID, second.PID)
	}
	close(l.stop)
	l.done.Wait()
	eventually(t, "control reaches both stamps again", 30*time.Second, func() bool {
		for _, name := range []string{"test-1", "test-2"} {
			if _, err := p.api.Log(t.Context(), h.id, client.Messages, client.LogOptions{Stamp: name, Limit: 1}); err != nil {
				return false
			}
		}
		return true
	})
	h.check(t, p.installation)
	p.must("stamp", "drain", "test-2")
	p.apply("apiVersion: slipway/v1\nkind: Stamp\nmetadata: { name: test-1 }\nspec: { environment: test, region: here, state: open }\n")
	eventually(t, "the stamp is empty and can be deleted", 60*time.Second, func() bool {
		if _, err := p.register("local-1"); err != nil {
			return false
		}
		_, err := p.run("stamp", "delete", "test-2", "--yes")
		return err == nil
	})
	eventually(t, "its process has ended", 20*time.Second, func() bool { return syscall.Kill(second.PID, 0) != nil })
}

// newcomer is a device that registers, connects and sends for the first time.
func (p *planes) newcomer(t *testing.T, id string) {
	t.Helper()
	h := &hand{id: id}
	stop := make(chan struct{})
	eventually(t, id+" registers and sends", 30*time.Second, func() bool {
		return h.until(p.installation, stop, func() {
			if len(h.acked) == 1 {
				close(stop)
			}
		}) == nil
	})
}
