package test

import (
	"bytes"
	"context"
	"crypto/md5"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/slipway/slipway/internal/bus"
	"github.com/slipway/slipway/internal/ca"
	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/stamp"
	"github.com/slipway/slipway/internal/stamp/ddi"
	"github.com/slipway/slipway/internal/stamp/hub"
	"github.com/slipway/slipway/internal/stamp/telemetry"
)

// updating is a whole stamp that real update clients talk to over TLS. The test
// is its control. It listens on a socket in its directory: each client is in a
// network of its own, from which that socket is the one way out.
type updating struct {
	t       *testing.T
	dir     string
	control *bus.Server
	asked   *bus.Conn
	ca      *ca.Authority
	files   map[string][]byte // by digest
	images  images
	version int64

	mu      sync.Mutex                                                       // for files and disturb
	disturb func(w http.ResponseWriter, r *http.Request, serve http.Handler) // nil: nothing
	stop    func()
}

const (
	updatingStamp   = "test-1"
	updatingAddress = "127.0.0.1:8443" // in the network of each client
	updatingSocket  = "stamp.sock"
)

func startUpdating(t *testing.T) *updating {
	t.Helper()
	quiet := slog.New(slog.DiscardHandler)
	u := &updating{t: t, dir: t.TempDir(), files: map[string][]byte{}}
	u.images = u.pack()
	var err error
	if u.control, err = bus.Start(t.Context(), bus.Options{Name: "link", Logger: quiet}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(u.control.Stop)
	if u.asked, err = u.control.Connect("control"); err != nil {
		t.Fatal(err)
	}
	if err := bus.Answer(u.asked, link.ControlPeer, link.ArtifactRead, u.readArtifact); err != nil {
		t.Fatal(err)
	}
	if u.ca, err = ca.Open(u.dir, time.Now); err != nil {
		t.Fatal(err)
	}
	u.ca.Name("127.0.0.1")
	u.launch()
	t.Cleanup(func() { u.stop() })
	return u
}

func (u *updating) readArtifact(_ context.Context, req link.ReadPart) (link.Part, error) {
	u.mu.Lock()
	content, found := u.files[req.Name]
	u.mu.Unlock()
	if !found || req.Offset > int64(len(content)) {
		return link.Part{}, problem.New(problem.NotFound, "there is no artifact %s", req.Name)
	}
	return link.Part{Size: int64(len(content)), Data: content[req.Offset:min(req.Offset+link.MaxPart, int64(len(content)))]}, nil
}

// launch starts the stamp on its directory.
func (u *updating) launch() {
	u.t.Helper()
	quiet := slog.New(slog.DiscardHandler)
	conn, err := u.control.Connect("stamp")
	if err != nil {
		u.t.Fatal(err)
	}
	s, err := stamp.New(u.t.Context(), stamp.Options{
		Name: updatingStamp, Dir: filepath.Join(u.dir, "stamp"), Link: conn, Limits: hub.DefaultLimits, Retention: telemetry.DefaultRetention,
		UpdateClients: ddi.Settings{Poll: time.Second}, Logger: quiet, Now: time.Now,
	})
	if err != nil {
		u.t.Fatal(err)
	}
	l, err := net.Listen("unix", filepath.Join(u.dir, updatingSocket))
	if err != nil {
		u.t.Fatal(err)
	}
	s.SetHosts([]string{updatingAddress, "127.0.0.1"})
	server := &http.Server{ConnContext: keepConn, ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug), Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		u.mu.Lock()
		disturb := u.disturb
		u.mu.Unlock()
		if disturb != nil {
			disturb(w, r, s.HTTPHandler())
			return
		}
		s.HTTPHandler().ServeHTTP(w, r)
	})}
	config := u.ca.ServerTLS().Clone()
	config.NextProtos = []string{"h2", "http/1.1"}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	go func() { _ = server.Serve(tls.NewListener(l, config)) }()
	u.stop = func() {
		u.stop = func() {}
		server.Close() // in the middle of whatever there is
		cancel()
		if err := <-ended; err != nil {
			u.t.Error(err)
		}
		if err := s.Close(); err != nil {
			u.t.Error(err)
		}
		conn.Close()
	}
	eventually(u.t, "the stamp answers", time.Minute, func() bool {
		_, err := bus.Ask(u.t.Context(), u.asked, link.StampPeer(updatingStamp), link.PolicyList, link.None{})
		return err == nil
	})
}

type connKey struct{}

func keepConn(ctx context.Context, conn net.Conn) context.Context {
	return context.WithValue(ctx, connKey{}, conn)
}

// unplug ends the connection of a request, with all that is under way on it.
func unplug(r *http.Request) {
	if conn, ok := r.Context().Value(connKey{}).(*tls.Conn); ok {
		conn.NetConn().Close()
	}
	panic(http.ErrAbortHandler)
}

// between has something happen to each request, from now on.
func (u *updating) between(disturb func(w http.ResponseWriter, r *http.Request, serve http.Handler)) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.disturb = disturb
}

func tell[Req, Resp any](u *updating, call link.Call[Req, Resp], req Req) Resp {
	u.t.Helper()
	var resp Resp
	var err error
	eventually(u.t, call.Name+" is answered", time.Minute, func() bool {
		resp, err = bus.Ask(u.t.Context(), u.asked, link.StampPeer(updatingStamp), call, req)
		return !problem.Is(err, problem.NotReady)
	})
	if err != nil {
		u.t.Fatalf("%s: %v", call.Name, err)
	}
	return resp
}

// images are signed updates, by what is the matter with them.
type images struct {
	certificate string
	paths       map[string]string
}

// pack makes the images with SWUpdate's own tools: of two good versions, one
// whose payload was altered after it was signed, and one for other hardware.
func (u *updating) pack() images {
	u.t.Helper()
	for _, tool := range []string{"swupdate", "openssl", "cpio", "unshare", "ip", "socat"} {
		if _, err := exec.LookPath(tool); err != nil {
			u.t.Fatalf("%s is needed: run make setup-test, or install the Debian packages swupdate, openssl, cpio, util-linux, iproute2 and socat", tool)
		}
	}
	dir := filepath.Join(u.dir, "images")
	all := images{filepath.Join(dir, "sign.crt"), map[string]string{}}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		u.t.Fatal(err)
	}
	u.sh(dir, `openssl req -x509 -newkey rsa:2048 -nodes -keyout sign.key -out sign.crt -days 30 -subj /CN=test \
		-addext extendedKeyUsage=emailProtection -addext keyUsage=digitalSignature`)
	for name, c := range map[string]struct{ version, hardware, after string }{
		"1.0.0": {"1.0.0", "1.0", ""}, "1.1.0": {"1.1.0", "1.0", ""}, "altered": {"1.1.0", "1.0", "echo more >> app.bin"}, "other": {"1.1.0", "9.9", ""},
	} {
		at := filepath.Join(dir, name)
		if err := os.MkdirAll(at, 0o755); err != nil {
			u.t.Fatal(err)
		}
		payload := append([]byte("firmware "+c.version+"\n"), bytes.Repeat([]byte("0123456789abcdef"), 1<<16)...)
		if err := os.WriteFile(filepath.Join(at, "app.bin"), payload, 0o600); err != nil {
			u.t.Fatal(err)
		}
		digest := sha256.Sum256(payload)
		description := fmt.Sprintf("software = {\n version = %q;\n hardware-compatibility: [ %q ];\n files: ( { filename = \"app.bin\"; path = \"/boot/app.bin\"; sha256 = %q; } );\n}\n",
			c.version, c.hardware, hex.EncodeToString(digest[:]))
		if err := os.WriteFile(filepath.Join(at, "sw-description"), []byte(description), 0o600); err != nil {
			u.t.Fatal(err)
		}
		u.sh(at, c.after+`
			openssl cms -sign -in sw-description -out sw-description.sig -signer ../sign.crt -inkey ../sign.key -outform DER -nosmimecap -binary -md sha256
			printf 'sw-description\nsw-description.sig\napp.bin\n' | cpio -o -H crc > app.swu`)
		all.paths[name] = filepath.Join(at, "app.swu")
	}
	return all
}

func (u *updating) sh(dir, script string) {
	u.t.Helper()
	command := exec.Command("sh", "-ec", script)
	command.Dir = dir
	if out, err := command.CombinedOutput(); err != nil {
		u.t.Fatalf("%s: %v\n%s", script, err, out)
	}
}

// software is an image as a release has it, for a kind of hardware.
func (u *updating) software(image, hardware string) link.Software {
	u.t.Helper()
	content, err := os.ReadFile(u.images.paths[image])
	if err != nil {
		u.t.Fatal(err)
	}
	long, short, shorter := sha256.Sum256(content), sha1.Sum(content), md5.Sum(content)
	digest := hex.EncodeToString(long[:])
	u.mu.Lock()
	u.files[digest] = content
	u.mu.Unlock()
	version := "1.1.0"
	if image == "1.0.0" {
		version = image
	}
	return link.Software{Name: "firmware", Version: version, Hardware: []string{hardware}, Handler: "swupdate", Artifacts: []link.Artifact{{
		File: "app-" + image + ".swu", Size: int64(len(content)), SHA256: digest, SHA1: hex.EncodeToString(short[:]), MD5: hex.EncodeToString(shorter[:]),
	}}}
}

// releaseOf is what a stamp is to run, of some software.
func releaseOf(name string, counter int64, all ...link.Software) link.Release {
	digest := sha256.Sum256([]byte(name))
	return link.Release{Name: name, Digest: hex.EncodeToString(digest[:]), Counter: counter, CreatedAt: time.Now(), Spec: link.ReleaseSpec{Software: all}}
}

// want gives the stamp its desired document.
func (u *updating) want(base *link.Release, rollout *link.Rollout) {
	u.t.Helper()
	u.version++
	tell(u, link.ReleasesPut, link.Releases{Version: u.version, Environment: "test", Base: base, Rollout: rollout})
}

func rolling(r link.Release) *link.Rollout {
	return &link.Rollout{ID: "rollout-" + r.Name, Release: r, Wave: 1, Reach: link.Reach{Share: 1}, DeadlineSeconds: 300, Attempts: 1}
}

// standing is where the census has a device.
func (u *updating) standing(id string) link.Update {
	u.t.Helper()
	for _, found := range tell(u, link.UpdateList, link.ListUpdates{DeviceID: id}).Items {
		if found.DeviceID == id {
			return found
		}
	}
	return link.Update{}
}

func (u *updating) awaitStanding(id string, limit time.Duration, want link.UpdateState) link.Update {
	u.t.Helper()
	var last link.Update
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(limit); time.Now().Before(deadline); <-tick.C {
		if last = u.standing(id); last.State == want {
			return last
		}
	}
	u.t.Errorf("%s is %s (%s), not %s", id, last.State, last.Reason, want)
	return last
}

// swupdate is a device that runs SWUpdate, with a boot loader's environment of
// its own where it looks for GRUB's.
type swupdate struct {
	u       *updating
	id, dir string
	log     *os.File
	off     func() // ends what runs; nil while nothing does
}

// device adds a device and sets up its SWUpdate.
func (u *updating) device(id, hardware string) *swupdate {
	u.t.Helper()
	tell(u, link.IdentityPut, link.PutIdentity{DeviceID: id, Epoch: 1, Auth: link.Auth{Type: link.AuthSAS, PrimaryKey: []byte("key of " + id)}, Enrollment: "e"})
	d := &swupdate{u: u, id: id, dir: filepath.Join(u.dir, "devices", id)}
	for _, dir := range []string{"tmp", "boot/grub"} {
		if err := os.MkdirAll(filepath.Join(d.dir, dir), 0o755); err != nil {
			u.t.Fatal(err)
		}
	}
	d.write("boot/app.bin", "firmware 0\n")
	d.setState("0")
	token := tell(u, link.UpdateTokenRead, link.DeviceRef{DeviceID: id}).Token
	d.write("swupdate.cfg", `globals : { loglevel = 3; public-key-file = "`+u.images.certificate+`"; bootloader = "grub"; };
identify : ( { name = "hardware"; value = "`+hardware+`"; } );
suricatta : { tenant = "default"; id = "`+id+`"; url = "https://`+updatingAddress+`"; cafile = "`+u.ca.File()+`";
              polldelay = 1; retry = 8; retrywait = 1; targettoken = "`+token+`"; };
`)
	var err error
	if d.log, err = os.Create(filepath.Join(d.dir, "log")); err != nil {
		u.t.Fatal(err)
	}
	u.t.Cleanup(func() {
		d.kill()
		if u.t.Failed() {
			text, _ := os.ReadFile(d.log.Name())
			u.t.Logf("%s, the end:\n%s", id, text[max(0, len(text)-2500):])
		}
		d.log.Close()
	})
	return d
}

func (d *swupdate) write(name, text string) {
	d.u.t.Helper()
	if err := os.WriteFile(filepath.Join(d.dir, name), []byte(text), 0o600); err != nil {
		d.u.t.Fatal(err)
	}
}

const grubHead, grubSize = "# GRUB Environment Block\n", 1024

// setState is what the boot loader's script does.
func (d *swupdate) setState(state string) {
	d.u.t.Helper()
	text := grubHead + "ustate=" + state + "\n"
	d.write("boot/grub/grubenv", text+strings.Repeat("#", grubSize-len(text)))
}

// state is what SWUpdate has told the boot loader: 1 after an installation.
func (d *swupdate) state() string {
	text, err := os.ReadFile(filepath.Join(d.dir, "boot/grub/grubenv"))
	if err != nil {
		return ""
	}
	_, rest, _ := strings.Cut(string(text), "\nustate=")
	state, _, _ := strings.Cut(rest, "\n")
	return state
}

// runs is the first line of what is installed.
func (d *swupdate) runs() string {
	text, err := os.ReadFile(filepath.Join(d.dir, "boot/app.bin"))
	if err != nil {
		return ""
	}
	line, _, _ := strings.Cut(string(text), "\n")
	return line
}

// start starts SWUpdate in a network of its own: it gives sockets names that
// all of a network share, so a second one finds them taken. From there socat
// leads to the stamp.
func (d *swupdate) start() {
	d.u.t.Helper()
	isolate := "-mn"
	if os.Getuid() != 0 {
		isolate = "-Urmn"
	}
	_, port, _ := strings.Cut(updatingAddress, ":")
	process := exec.Command("unshare", isolate, "sh", "-ec", `ip link set lo up
		socat TCP-LISTEN:`+port+`,bind=127.0.0.1,fork,backlog=64 UNIX-CONNECT:../../`+updatingSocket+` 2>/dev/null &
		mount --bind boot /boot
		TMPDIR=$PWD/tmp exec swupdate -B grub -f swupdate.cfg -H testboard:1.0 -u ""`)
	process.Dir, process.Stdout, process.Stderr = d.dir, d.log, d.log
	process.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := process.Start(); err != nil {
		d.u.t.Error(err)
		return
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = process.Wait()
	}()
	d.off = func() {
		select {
		case <-ended:
			d.u.t.Errorf("%s ended by itself: %v", d.id, process.ProcessState)
		default:
		}
		_ = syscall.Kill(-process.Process.Pid, syscall.SIGKILL) // with all it has started, which is of its group
		<-ended
	}
}

// kill takes the power away.
func (d *swupdate) kill() {
	if d.off != nil {
		d.off()
		d.off = nil
	}
}

// reboot restarts the device: with state 2 its new software came up, with 3 it
// fell back.
func (d *swupdate) reboot(state string) {
	d.u.t.Helper()
	d.kill()
	d.setState(state)
	d.start()
}

func (d *swupdate) awaitState(limit time.Duration, want string) {
	d.u.t.Helper()
	eventually(d.u.t, d.id+" has told the boot loader "+want, limit, func() bool { return d.state() == want })
}

const clientTime = 4 * time.Minute // an update takes three seconds where nothing else runs

func TestSWUpdateUpdates(t *testing.T) {
	t.Parallel()
	u := startUpdating(t)
	r := releaseOf("v1.1.0", 2, u.software("1.1.0", "good"), u.software("altered", "altered"), u.software("other", "other"))
	u.want(nil, nil)
	u.want(nil, rolling(r))
	var devices sync.WaitGroup
	good := func(id string, reboot func(*swupdate)) {
		d := u.device(id, "good")
		devices.Go(func() {
			d.start()
			d.awaitState(clientTime, "1")
			if d.runs() != "firmware 1.1.0" {
				t.Errorf("%s has %q installed", id, d.runs())
			}
			if found := u.standing(id); found.State != link.UpdatePending {
				t.Errorf("%s is %s before its restart", id, found.State)
			}
			reboot(d)
		})
	}
	for i := range 3 {
		id := fmt.Sprintf("good-%d", i)
		good(id, func(d *swupdate) {
			d.reboot("2")
			found := u.awaitStanding(id, clientTime, link.UpdateDone)
			if found.Running["firmware"] != "1.1.0" || found.Hardware != "good" {
				t.Errorf("%s: %+v", id, found)
			}
		})
	}
	good("fallback", func(d *swupdate) {
		d.reboot("3")
		u.awaitStanding(d.id, clientTime, link.UpdateRolledBack)
	})
	reasons := map[string]string{"altered": "HASH mismatch", "other": "not compatible with hardware"}
	for hardware := range reasons {
		d := u.device(hardware+"-0", hardware)
		devices.Go(func() {
			d.start()
			found := u.awaitStanding(d.id, clientTime, link.UpdateFailed)
			if why := reasons[hardware]; d.state() == "1" || !strings.Contains(found.Reason, why) {
				t.Errorf("%s: %+v, not as %s", d.id, found, why)
			}
		})
	}
	devices.Wait()
}

// Outside its window a device sees no order, and inside it is updated.
func TestSWUpdateKeepsToItsWindow(t *testing.T) {
	t.Parallel()
	u := startUpdating(t)
	var polls atomic.Int64
	u.between(func(w http.ResponseWriter, r *http.Request, serve http.Handler) {
		if strings.HasSuffix(r.URL.Path, "/windowed-0") {
			polls.Add(1)
		} else if isFile(r) {
			t.Error("it fetches a file outside its window")
		}
		serve.ServeHTTP(w, r)
	})
	// within is a release whose software may be installed between two times from now.
	within := func(name string, counter int64, from, to time.Duration) link.Release {
		s, now := u.software("1.1.0", "windowed"), time.Now().UTC()
		s.Metadata = map[string]string{"window": now.Add(from).Format("15:04") + "-" + now.Add(to).Format("15:04") + " UTC"}
		return releaseOf(name, counter, s)
	}
	u.want(nil, rolling(within("later", 2, 2*time.Hour, 3*time.Hour)))
	d := u.device("windowed-0", "windowed")
	d.start()
	eventually(t, "it has looked a few times", clientTime, func() bool { return polls.Load() >= 4 })
	if found := u.standing(d.id); found.State != link.UpdatePending || d.state() == "1" {
		t.Errorf("outside its window it is %+v", found)
	}
	u.between(nil)
	u.want(nil, rolling(within("now", 3, -2*time.Hour, 3*time.Hour)))
	d.awaitState(clientTime, "1")
	d.reboot("2")
	u.awaitStanding(d.id, clientTime, link.UpdateDone)
}

// slowly serves files at a pace at which something can happen meanwhile.
type slowly struct {
	http.ResponseWriter
	wait func()
}

func (s slowly) Write(b []byte) (n int, err error) {
	for len(b) > 0 {
		part := b[:min(len(b), 8<<10)]
		s.wait()
		wrote, err := s.ResponseWriter.Write(part)
		n += wrote
		if err != nil {
			return n, err
		}
		if err := http.NewResponseController(s.ResponseWriter).Flush(); err != nil {
			return n, err
		}
		b = b[wrote:]
	}
	return n, nil
}

func isFile(r *http.Request) bool {
	return r.Method == http.MethodGet && strings.Contains(r.URL.Path, "/artifacts/")
}

// quickParts are what is served of a file before it becomes slow.
const quickParts = 48

// held serves files slowly until a test lets them go.
type held struct {
	mu     sync.Mutex
	parts  int
	cancel int // cancellations that were answered
	free   chan struct{}
}

func (h *held) serve(w http.ResponseWriter, r *http.Request, serve http.Handler) {
	if !isFile(r) {
		serve.ServeHTTP(w, r)
		if r.Method == http.MethodPost && strings.Contains(r.URL.Path, "/cancelAction/") {
			h.mu.Lock()
			defer h.mu.Unlock()
			h.cancel++
		}
		return
	}
	serve.ServeHTTP(slowly{w, func() {
		h.mu.Lock()
		h.parts++
		slow := h.parts > quickParts
		h.mu.Unlock()
		if slow {
			select {
			case <-h.free:
			case <-r.Context().Done():
			case <-time.After(200 * time.Millisecond): // the client looks for news while something comes
			}
		}
	}}, r)
}

// underWay reports whether a part of a file has been sent.
func (h *held) underWay() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.parts > quickParts
}

func (h *held) stopped() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.cancel > 0
}

func TestSWUpdateGoesOnAfterTheServerWasAway(t *testing.T) {
	t.Parallel()
	u := startUpdating(t)
	h := &held{free: make(chan struct{})}
	u.between(h.serve)
	u.want(nil, rolling(releaseOf("v1.1.0", 2, u.software("1.1.0", "good"))))
	d := u.device("cut-0", "good")
	d.start()
	eventually(t, "a download is under way", clientTime, h.underWay)
	u.stop()
	u.between(nil)
	close(h.free)
	u.launch()
	d.awaitState(clientTime, "1")
	u.stop() // between installation and restart
	d.reboot("2")
	u.launch()
	u.awaitStanding(d.id, clientTime, link.UpdateDone)
	if d.runs() != "firmware 1.1.0" {
		t.Errorf("%q is installed", d.runs())
	}
}

func TestSWUpdateKilledInTheMiddleBeginsAgain(t *testing.T) {
	t.Parallel()
	u := startUpdating(t)
	h := &held{free: make(chan struct{})}
	u.between(h.serve)
	u.want(nil, rolling(releaseOf("v1.1.0", 2, u.software("1.1.0", "good"))))
	d := u.device("killed-0", "good")
	d.start()
	eventually(t, "a download is under way", clientTime, h.underWay)
	d.kill()
	close(h.free)
	d.start()
	d.awaitState(clientTime, "1")
	d.reboot("2")
	u.awaitStanding(d.id, clientTime, link.UpdateDone)
}

func TestSWUpdateIsStopped(t *testing.T) {
	t.Parallel()
	u := startUpdating(t)
	base, next := releaseOf("v1.0.0", 1, u.software("1.0.0", "good")), releaseOf("v1.1.0", 2, u.software("1.1.0", "good"))
	h := &held{free: make(chan struct{})}
	u.between(h.serve)
	u.want(&base, rolling(next))
	d := u.device("stopped-0", "good")
	d.start()
	eventually(t, "a download is under way", clientTime, h.underWay)
	u.want(&base, nil) // it is told to stop while it downloads, and to install the other
	eventually(t, "it has stopped", clientTime, h.stopped)
	close(h.free)
	d.awaitState(clientTime, "1")
	if d.runs() != "firmware 1.0.0" {
		t.Errorf("%q is installed", d.runs())
	}
	// What is installed is left to come up, whatever else is wanted meanwhile.
	again := releaseOf("v1.1.1", 3, u.software("1.1.0", "good"))
	u.want(&base, rolling(again))
	d.reboot("2")
	d.awaitState(clientTime, "1")
	if d.runs() != "firmware 1.1.0" {
		t.Errorf("%q is installed", d.runs())
	}
	d.reboot("2")
	u.awaitStanding(d.id, clientTime, link.UpdateDone)

	// One that has fetched its order and not begun hears of the end of the
	// rollout in the answer to its first word.
	asked := make(chan struct{})
	var once sync.Once
	u.between(func(w http.ResponseWriter, r *http.Request, serve http.Handler) {
		if strings.HasSuffix(r.URL.Path, "/feedback") && strings.Contains(r.URL.Path, "/late-0/") {
			once.Do(func() {
				u.want(nil, nil)
				eventually(t, "it has no order", time.Minute, func() bool { return u.standing("late-0").State == link.UpdateExempt })
				close(asked)
			})
		}
		serve.ServeHTTP(w, r)
	})
	late := u.device("late-0", "good")
	late.start()
	select {
	case <-asked:
	case <-time.After(clientTime):
		t.Fatal("it did not begin")
	}
	// It has looked again since, and done nothing.
	polls := 0
	var mu sync.Mutex
	u.between(func(w http.ResponseWriter, r *http.Request, serve http.Handler) {
		if strings.HasSuffix(r.URL.Path, "/late-0") {
			mu.Lock()
			polls++
			mu.Unlock()
		}
		if isFile(r) {
			t.Error("it fetches what it may not begin")
		}
		serve.ServeHTTP(w, r)
	})
	eventually(t, "it looks again", clientTime, func() bool { mu.Lock(); defer mu.Unlock(); return polls >= 2 })
	if late.runs() != "firmware 0" {
		t.Errorf("%q is installed", late.runs())
	}
}

// Each device loses one of its requests, or the answer to one: whichever it is,
// the device is updated all the same.
func TestSWUpdateLosesTheNetwork(t *testing.T) {
	t.Parallel()
	u := startUpdating(t)
	const lost = 14
	var mu sync.Mutex
	seen := map[string]int{}
	u.between(func(w http.ResponseWriter, r *http.Request, serve http.Handler) {
		var n, mode int
		segments := strings.Split(r.URL.Path, "/")
		if _, err := fmt.Sscanf(segments[4], "lost-%d-%d", &n, &mode); err != nil {
			serve.ServeHTTP(w, r)
			return
		}
		mu.Lock()
		seen[segments[4]]++
		now := seen[segments[4]] == n
		mu.Unlock()
		switch {
		case now && mode == 0:
			unplug(r)
		case now:
			serve.ServeHTTP(nowhere{http.Header{}}, r)
			unplug(r)
		}
		serve.ServeHTTP(w, r)
	})
	u.want(nil, rolling(releaseOf("v1.1.0", 2, u.software("1.1.0", "good"))))
	var devices sync.WaitGroup
	few := make(chan struct{}, 7) // at a time
	for n := 1; n <= lost; n++ {
		d := u.device(fmt.Sprintf("lost-%d-%d", n, n%2), "good")
		devices.Go(func() {
			few <- struct{}{}
			defer func() { <-few }()
			d.start()
			d.awaitState(clientTime, "1")
			d.reboot("2")
			u.awaitStanding(d.id, clientTime, link.UpdateDone)
			eventually(t, d.id+" has asked often enough to lose a request", clientTime, func() bool {
				mu.Lock()
				defer mu.Unlock()
				return seen[d.id] >= n // it goes on looking whether there is something new
			})
			d.kill()
		})
	}
	devices.Wait()
	mu.Lock()
	defer mu.Unlock()
	for n := 1; n <= lost; n++ {
		if id := fmt.Sprintf("lost-%d-%d", n, n%2); seen[id] < n {
			t.Errorf("%s made %d requests only", id, seen[id])
		}
	}
}

// An installation leads update clients to the stamp their address names, with
// the token that its commands show.
func TestAnInstallationServesUpdateClients(t *testing.T) {
	t.Parallel()
	in := start(t, "--update-poll", "7s")
	in.enrol()
	at := in.stamp("test-1")
	eventually(t, "the device is assigned", 2*time.Minute, func() bool {
		host, err := in.register("pump-1")
		return err == nil && host != ""
	})
	var shown struct{ Stamp, Host, Tenant, Token string }
	if err := json.Unmarshal([]byte(in.must("device", "update-token", "pump-1", "--json")), &shown); err != nil || shown.Stamp != at.Name || shown.Host != at.Host {
		t.Fatalf("%+v, %v", shown, err)
	}
	get := func(path, authorization string) (int, string) {
		t.Helper()
		req, err := http.NewRequest("GET", fmt.Sprintf("https://%s:%d%s", at.Host, at.HTTPS, path), nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", authorization)
		resp, err := in.https().Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		text, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, string(text)
	}
	path := "/" + shown.Tenant + "/controller/v1/pump-1"
	status, text := get(path, "TargetToken "+shown.Token)
	if status != http.StatusOK || !strings.Contains(text, `"sleep":"00:00:0`) || !strings.Contains(text, fmt.Sprintf("https://%s:%d%s/configData", at.Host, at.HTTPS, path)) {
		t.Errorf("%d %s", status, text)
	}
	if status, text := get(path, "TargetToken "+shown.Token[1:]+"0"); status != http.StatusUnauthorized {
		t.Errorf("%d %s", status, text)
	}
	var gateway struct{ Token string }
	if err := json.Unmarshal([]byte(in.must("stamp", "update-gateway", at.Name, "on", "--json")), &gateway); err != nil {
		t.Fatal(err)
	}
	if status, text := get(path, "GatewayToken "+gateway.Token); status != http.StatusOK {
		t.Errorf("%d %s", status, text)
	}
}

// nowhere is where an answer goes that is lost.
type nowhere struct{ header http.Header }

func (n nowhere) Header() http.Header         { return n.header }
func (n nowhere) Write(b []byte) (int, error) { return io.Discard.Write(b) }
func (n nowhere) WriteHeader(int)             {}
