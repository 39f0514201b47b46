package update

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/slipway/slipway/internal/updatetest"
)

// raucDevice is a device with two slots, the real rauc, and a boot loader made
// of files: which slot starts, and how often the device has started.
type raucDevice struct {
	t       *testing.T
	dir     string
	boots   int
	service *exec.Cmd
}

func newRAUCDevice(t *testing.T) *raucDevice {
	for _, tool := range []string{"rauc", "mksquashfs", "dbus-daemon"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Fatalf("%s is not here; make setup-test installs it", tool)
		}
	}
	if os.Getuid() != 0 {
		t.Fatal("rauc mounts bundles, which takes root: run this test as root, or in a container")
	}
	d := &raucDevice{t: t, dir: t.TempDir()}
	d.certify()
	d.write("primary", "A", 0o600)
	d.write("boot", `#!/bin/sh
case "$1" in
get-primary) cat `+d.dir+`/primary;;
set-primary) echo $2 >`+d.dir+`/primary;;
get-state) cat `+d.dir+`/state.$2 2>/dev/null || echo good;;
set-state) echo $3 >`+d.dir+`/state.$2;;
esac
`, 0o700)
	config := "[system]\ncompatible=gw\nbootloader=custom\nmountprefix=" + d.dir + "/mnt\n[handlers]\nbootloader-custom-backend=" + d.dir + "/boot\n[keyring]\npath=" + d.dir + "/cert.pem\n"
	for i, slot := range []string{"A", "B"} {
		d.write(slot+".img", strings.Repeat("\x00", 1<<20), 0o600)
		config += fmt.Sprintf("[slot.rootfs.%d]\ndevice=%s/%s.img\ntype=raw\nbootname=%s\n", i, d.dir, slot, slot)
	}
	d.write("system.conf", config, 0o600)
	rauc, err := exec.LookPath("rauc")
	if err != nil {
		t.Fatal(err)
	}
	d.write("rauc", "#!/bin/sh\nexec "+rauc+" -c "+d.dir+"/system.conf \"$@\"\n", 0o700)
	d.bus()
	return d
}

func (d *raucDevice) write(name, text string, mode os.FileMode) {
	d.t.Helper()
	if err := os.WriteFile(filepath.Join(d.dir, name), []byte(text), mode); err != nil {
		d.t.Fatal(err)
	}
}

func (d *raucDevice) read(name string) string {
	text, err := os.ReadFile(filepath.Join(d.dir, name))
	if err != nil {
		d.t.Fatal(err)
	}
	return strings.TrimSpace(string(text))
}

func (d *raucDevice) certify() {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		d.t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "firmware"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		d.t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		d.t.Fatal(err)
	}
	d.write("cert.pem", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})), 0o600)
	d.write("key.pem", string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})), 0o600)
}

// bus starts a message bus for this device alone.
func (d *raucDevice) bus() {
	address := "unix:path=" + filepath.Join(d.dir, "bus")
	bus := exec.Command("dbus-daemon", "--session", "--nofork", "--address="+address)
	if err := bus.Start(); err != nil {
		d.t.Fatal(err)
	}
	d.t.Cleanup(func() { _ = bus.Process.Kill(); _ = bus.Wait() })
	d.t.Setenv("DBUS_SESSION_BUS_ADDRESS", address)
	d.t.Setenv("DBUS_STARTER_BUS_TYPE", "session")
	d.wait("the bus", func() bool { _, err := os.Stat(filepath.Join(d.dir, "bus")); return err == nil })
}

func (d *raucDevice) wait(what string, done func() bool) {
	d.t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !done(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			d.t.Fatalf("%s did not come up", what)
		}
	}
}

// start starts the device from the slot that its boot loader has first.
func (d *raucDevice) start() {
	d.t.Helper()
	d.halt()
	d.boots++
	slot := d.read("primary")
	d.service = exec.Command(filepath.Join(d.dir, "rauc"), "service", "--override-boot-slot="+slot)
	if err := d.service.Start(); err != nil {
		d.t.Fatal(err)
	}
	d.t.Cleanup(d.halt)
	h := &RAUC{Command: filepath.Join(d.dir, "rauc")}
	d.wait("rauc", func() bool { booted, err := h.booted(context.Background()); return err == nil && booted == slot })
}

func (d *raucDevice) halt() {
	if d.service != nil {
		_ = d.service.Process.Kill()
		_ = d.service.Wait()
		d.service = nil
	}
}

// bundle is a signed bundle with a root file system that says its version.
func (d *raucDevice) bundle(version string) []byte {
	d.t.Helper()
	from := filepath.Join(d.t.TempDir(), "bundle")
	if err := os.Mkdir(from, 0o700); err != nil {
		d.t.Fatal(err)
	}
	image := version + "\n" + strings.Repeat("\x00", 100_000)
	for name, text := range map[string]string{"root.img": image, "manifest.raucm": "[update]\ncompatible=gw\nversion=" + version + "\n[bundle]\nformat=plain\n[image.rootfs]\nfilename=root.img\n"} {
		if err := os.WriteFile(filepath.Join(from, name), []byte(text), 0o600); err != nil {
			d.t.Fatal(err)
		}
	}
	to := from + ".raucb"
	if out, err := exec.Command("rauc", "bundle", "--cert="+d.dir+"/cert.pem", "--key="+d.dir+"/key.pem", from, to).CombinedOutput(); err != nil {
		d.t.Fatalf("%v: %s", err, out)
	}
	content, err := os.ReadFile(to)
	if err != nil {
		d.t.Fatal(err)
	}
	return content
}

// TestTheRealRAUC has a device update by rauc and restart, once well and once
// not: it starts the new slot on trial, and the old one when that fails.
func TestTheRealRAUC(t *testing.T) {
	d := newRAUCDevice(t)
	d.start()
	w := newWorld(t)
	runs := func() string {
		version, _, _ := strings.Cut(d.read(d.read("primary")+".img"), "\n")
		return version
	}
	w.config.Components = map[string]Component{"firmware": {Version: "factory", Handler: &RAUC{Command: filepath.Join(d.dir, "rauc")}}}
	w.config.Boot = func() string { return fmt.Sprint("boot ", d.boots) }
	w.config.SelfTest = func(context.Context) error {
		if runs() == "bad" {
			return errors.New("exit status 1")
		}
		return nil
	}
	for _, c := range []struct{ version, phase, runs string }{{"v1", ReportConfirmed, "v1"}, {"bad", ReportRolledBack, "v1"}, {"v2", ReportConfirmed, "v2"}} {
		o := w.bundled(c.version, d.bundle(c.version))
		begun := d.boots
		for !w.ended(o) {
			w.untilRestart(o)
			d.start()
		}
		r := w.ends(o)
		if restarts := map[string]int{ReportConfirmed: 1, ReportRolledBack: 2}[c.phase]; r.Phase != c.phase || r.Software["firmware"] != c.runs || runs() != c.runs || d.boots-begun < restarts {
			t.Errorf("%s ended with %+v; %s runs after %d restarts", c.version, r, runs(), d.boots-begun)
		}
	}
	if state := d.read("state." + d.read("primary")); state != "good" {
		t.Errorf("the slot that runs is marked %s", state)
	}
}

// bundled publishes a release of firmware with one bundle.
func (w *world) bundled(version string, bundle []byte) Order {
	w.t.Helper()
	o := w.release(version, 1, nil)
	c := updatetest.Custom{Release: version, Environment: "test", Software: "firmware", Version: version, Counter: w.repo.Counter()}
	o.Software[0].Handler = "rauc"
	o.Software[0].Artifacts = []Artifact{{File: "os.raucb", Size: int64(len(bundle)), SHA256: w.repo.Add("os.raucb", bundle, c)}}
	w.repo.Sign()
	return o
}

func (w *world) ended(o Order) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, r := range w.reports {
		if r.Order == o.Order && r.final() {
			return true
		}
	}
	return false
}

// untilRestart runs an updater until the device is to restart, or the order
// has ended.
func (w *world) untilRestart(o Order) {
	w.t.Helper()
	u, err := New(w.config, w)
	if err != nil {
		w.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	w.updater = u
	ran := make(chan error, 1)
	go func() { ran <- u.Run(ctx) }()
	u.Connected("hub", desired(o))
	for tick := time.NewTicker(5 * time.Millisecond); ; {
		select {
		case err := <-ran:
			tick.Stop()
			var restart *ErrRestart
			if !errors.As(err, &restart) || restart.What != RestartDevice {
				w.t.Fatalf("it ended with %v", err)
			}
			return
		case <-tick.C:
			if w.ended(o) {
				tick.Stop()
				cancel()
				<-ran
				return
			}
		}
	}
}
