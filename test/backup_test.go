package test

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/slipway/slipway/internal/control/backup"
)

// recovering is the host of whoever recovers: its files, and what it may use.
type recovering struct{ dir, file string }

// TestWhatWasBackedUpComesBack loses an installation with its directory. What a
// vault has of it comes back elsewhere, its device connects with its twin, and
// drills pass until a backup is damaged.
func TestWhatWasBackedUpComesBack(t *testing.T) {
	t.Parallel()
	host := recovering{dir: t.TempDir()}
	host.file = filepath.Join(host.dir, "recovery.yaml")
	recipient, err := exec.Command(binary, "backup", "keygen", filepath.Join(host.dir, "recovery.age")).Output()
	if err != nil {
		t.Fatal(err)
	}
	config, places := filepath.Join(host.dir, "backups.yaml"), "vaults: [{ name: home, directory: vault }]\n"
	write(t, config, places+"recipients: ["+strings.TrimSpace(string(recipient))+"]\n")
	in := start(t, "--backups", config)
	in.enrol()
	const id = "sensor-7"
	var hub string
	eventually(t, id+" has a place", time.Minute, func() bool {
		hub, err = in.register(id)
		return err == nil && hub != ""
	})
	in.must("device", "twin", "set", id, "desired.interval=30")
	conn, err := in.hub(id, in.stamp("test-1"), true)
	if err != nil {
		t.Fatal(err)
	}
	if err := conn.publish(`{"n": 1}`); err != nil {
		t.Fatal(err)
	}
	in.backUp()
	in.backUp() // so that there is an older moment
	write(t, host.file, places+"identityFile: recovery.age\nsigners: [\""+strings.TrimSpace(in.must("backup", "key"))+"\"]\n")

	if d := host.drill(t, in, 0); d.Verdict != "pass" || len(d.Evidence.Trials) != 2 || d.Signature == "" {
		t.Errorf("the drill: %+v", d)
	}

	// All is lost, in the middle of a backup.
	if _, err := in.run("backup", "create"); err != nil {
		t.Fatal(err)
	}
	in.kill(syscall.SIGKILL)
	if err := os.RemoveAll(filepath.Join(in.dir, "data")); err != nil {
		t.Fatal(err)
	}
	restored := exec.Command(binary, "restore", "--recovery", host.file, "--to", filepath.Join(in.dir, "data"))
	if out, err := restored.CombinedOutput(); err != nil {
		t.Fatalf("restore: %v\n%s", err, out)
	}
	again := exec.Command(binary, "restore", "--recovery", host.file, "--to", filepath.Join(in.dir, "data"))
	if out, err := again.CombinedOutput(); err == nil || again.ProcessState.ExitCode() != 5 || !strings.Contains(string(out), "not empty") {
		t.Errorf("into a directory with something in it: %v\n%s", err, out)
	}
	in.launch("--backups", config)
	if _, err = in.hub(id, in.stamp("test-1"), true); err != nil {
		t.Fatalf("the device does not connect any more: %v", err)
	}
	if twin := in.must("device", "twin", id, "--json"); !strings.Contains(twin, `"interval":30`) && !strings.Contains(twin, `"interval": 30`) {
		t.Errorf("its twin is\n%s", twin)
	}
	if said := in.must("device", "messages", id); !strings.Contains(said, `"n"`) {
		t.Errorf("it had said\n%s", said)
	}

	// Sabotage: a bit in each chunk of the newest era.
	damage(t, filepath.Join(host.dir, "vault"))
	if d := host.drill(t, in, 1); d.Verdict != "fail" {
		t.Errorf("the drill of damaged backups: %+v", d)
	}
}

// drill runs a drill and tells what became of it.
func (h recovering) drill(t *testing.T, in *installation, code int) (d backup.Drill) {
	t.Helper()
	command := exec.Command(binary, "drill", "run", "--recovery", h.file, "--json")
	command.Env = append(os.Environ(), "SLIPWAY_URL="+in.ready.API, "SLIPWAY_TOKEN="+in.ready.AdminToken, "SLIPWAY_CA="+in.ready.CA)
	out, _ := command.Output()
	if command.ProcessState.ExitCode() != code {
		t.Errorf("the drill ended with %d, not %d", command.ProcessState.ExitCode(), code)
	}
	if err := json.Unmarshal(out, &d); err != nil {
		t.Fatalf("%v in\n%s", err, out)
	}
	return d
}

func write(t *testing.T, file, text string) {
	t.Helper()
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// damage flips a bit in every chunk of a vault.
func damage(t *testing.T, vault string) {
	t.Helper()
	chunks, err := filepath.Glob(filepath.Join(vault, "chunks", "*", "*", "*"))
	if err != nil || len(chunks) == 0 {
		t.Fatal(err, chunks)
	}
	for _, file := range chunks {
		content, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		content[len(content)/2] ^= 1
		write(t, file, string(content))
	}
}

// backUp has all planes backed up, once the schedule's own backups are done.
func (in *installation) backUp() {
	in.t.Helper()
	eventually(in.t, "all is backed up", time.Minute, func() bool {
		out, err := in.run("backup", "create", "--wait")
		if err != nil && !strings.Contains(out, "is being taken") {
			in.t.Fatalf("slipway backup create --wait: %v\n%s", err, out)
		}
		return err == nil
	})
}
