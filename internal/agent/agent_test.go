package agent_test

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/updatetest"
)

// binary is the real program, built once.
var binary = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "slipway-agent")
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "slipway-agent")
	text, err := exec.Command("go", "build", "-trimpath", "-o", path, "../../cmd/slipway-agent").CombinedOutput()
	if err != nil {
		err = fmt.Errorf("%w: %s", err, text)
	}
	return path, err
})

func TestMain(m *testing.M) {
	status := m.Run()
	if path, err := binary(); err == nil {
		_ = os.RemoveAll(filepath.Dir(path)) // in the system's directory for that
	}
	os.Exit(status)
}

// field is a device with the real agent on it, and its hub.
type field struct {
	t      *testing.T
	hub    *updatetest.Hub
	dir    string
	binary string
	log    *bytes.Buffer
	cmd    *exec.Cmd
	ended  chan struct{}
}

func newField(t *testing.T, change func(config string) string) *field {
	t.Helper()
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	f := &field{t: t, hub: updatetest.NewHub(t, "test", "production"), dir: t.TempDir(), binary: path, log: &bytes.Buffer{}}
	f.write("key", base64.StdEncoding.EncodeToString(f.hub.Key), 0o600)
	f.write("ca.pem", string(f.hub.CA), 0o600)
	f.write("root.json", string(f.hub.Repository.Root()), 0o600)
	f.write("selftest", "#!/bin/sh\nif grep -q bad "+f.dir+"/running; then echo it is bad; exit 1; fi\n", 0o700)
	config := fmt.Sprintf(`provisioning: %[2]s
idScope: 0ne1
registrationId: d
keyFile: %[1]s/key
caFile: %[1]s/ca.pem
httpsPort: %[3]d
directory: %[1]s/state
hardware: gw-100
rootFile: %[1]s/root.json
environments: [test]
software:
  firmware:
    handler: files
    directory: %[1]s/firmware
    run: [./app, %[1]s]
trial: { selfTest: [%[1]s/selftest], settle: 50ms, deadline: 20s }
retry: { base: 10ms, cap: 50ms, dormant: 50ms } # it is restarted more often than a device in the field
desiredFile: %[1]s/desired.json
`, f.dir, f.hub.Host(), f.hub.HTTPSPort)
	if change != nil {
		config = change(config)
	}
	f.write("agent.yaml", config, 0o600)
	t.Cleanup(func() {
		f.kill()
		if t.Failed() {
			t.Logf("the agent said:\n%s", f.log)
		}
	})
	return f
}

func (f *field) write(name, text string, mode os.FileMode) {
	f.t.Helper()
	if err := os.WriteFile(filepath.Join(f.dir, name), []byte(text), mode); err != nil {
		f.t.Fatal(err)
	}
}

func (f *field) read(name string) string {
	text, err := os.ReadFile(filepath.Join(f.dir, name))
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(text))
}

// start runs the agent in its own process.
func (f *field) start() {
	f.t.Helper()
	f.cmd = exec.Command(f.binary, "run", "--config", filepath.Join(f.dir, "agent.yaml"))
	f.cmd.Stdout, f.cmd.Stderr = f.log, f.log
	f.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	f.cmd.WaitDelay = time.Second
	if err := f.cmd.Start(); err != nil {
		f.t.Fatal(err)
	}
	f.ended = make(chan struct{})
	go func() {
		defer close(f.ended)
		_ = f.cmd.Wait() // it is killed
	}()
}

// kill ends the agent as a loss of power does.
func (f *field) kill() {
	if f.cmd == nil {
		return
	}
	_ = f.cmd.Process.Kill() // it may have ended
	<-f.ended
	f.cmd = nil
}

// app is a program that notes its version, and runs.
func app(version string) []byte {
	return fmt.Appendf(nil, "#!/bin/sh\necho %s >$1/running\nexec sleep 3600\n# %s\n", version, strings.Repeat("firmware ", 20_000))
}

func (f *field) release(version string) link.UpdateOrder {
	return f.hub.Release(version, "test", map[string][]byte{"firmware": app(version)}, map[string]string{"firmware": "app"})
}

func (f *field) until(what string, done func() bool) {
	f.t.Helper()
	for deadline := time.Now().Add(2 * time.Minute); !done(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			f.t.Fatalf("not within its time: %s; running %q", what, f.read("running"))
		}
	}
}

func (f *field) follow(o link.UpdateOrder) link.UpdateReport {
	f.t.Helper()
	return f.hub.Ended(f.hub.Order(o), 3*time.Minute)
}

// processes are those of the device's software that run.
func (f *field) processes() (n int) {
	entries, err := filepath.Glob("/proc/[0-9]*/cwd")
	if err != nil {
		f.t.Fatal(err)
	}
	for _, entry := range entries {
		if at, err := os.Readlink(entry); err == nil && strings.HasPrefix(at, filepath.Join(f.dir, "firmware")) {
			n++
		}
	}
	return n
}

func TestAnAgentFollowsOrders(t *testing.T) {
	f := newField(t, nil)
	f.hub.Desire(map[string]any{"reportEvery": 5, "flags": map[string]any{"dark": true}})
	f.start()
	if r := f.follow(f.release("v1")); r.Phase != link.OrderConfirmed || r.Hardware != "gw-100" || r.Software["firmware"] != "v1" {
		t.Fatalf("ended with %+v", r)
	}
	if f.read("running") != "v1" || f.processes() != 1 {
		t.Errorf("%q runs, in %d processes", f.read("running"), f.processes())
	}
	if r := f.follow(f.release("bad2")); r.Phase != link.OrderRolledBack || !strings.Contains(r.Error, "it is bad") || r.Software["firmware"] != "v1" {
		t.Errorf("a bad one ended with %+v", r)
	}
	f.until("the one before runs again", func() bool { return f.read("running") == "v1" && f.processes() == 1 })

	crash := f.hub.Release("v3", "test", map[string][]byte{"firmware": []byte("#!/bin/sh\necho v3 >$1/running\nexit 7\n")}, map[string]string{"firmware": "app"})
	if r := f.follow(crash); r.Phase != link.OrderRolledBack || !strings.Contains(r.Error, "status 7") {
		t.Errorf("one that crashes ended with %+v", r)
	}
	f.until("the one before runs again", func() bool { return f.read("running") == "v1" })

	f.hub.Lie(func(w http.ResponseWriter, r *http.Request, honest http.Handler) {
		if strings.Contains(r.URL.Path, "artifacts") {
			w.Write(bytes.Repeat([]byte("x"), len(app("v4")))) //nolint:errcheck // the device sees
			return
		}
		honest.ServeHTTP(w, r)
	})
	if r := f.follow(f.release("v4")); r.Phase != link.OrderFailed || !strings.Contains(r.Error, "another hash") {
		t.Errorf("a forged one ended with %+v", r)
	}
	f.hub.Lie(nil)
	production := f.hub.Release("v5", "production", map[string][]byte{"firmware": app("v5")}, map[string]string{"firmware": "app"})
	if r := f.follow(production); r.Phase != link.OrderFailed || !strings.Contains(r.Error, "follows orders of") {
		t.Errorf("another environment's ended with %+v", r)
	}
	if r := f.follow(f.release("v6")); r.Phase != link.OrderConfirmed {
		t.Errorf("ended with %+v", r)
	}
	f.desired()
	f.status()
}

// desired looks at what the application finds of desired properties.
func (f *field) desired() {
	f.t.Helper()
	f.hub.Desire(map[string]any{"reportEvery": 9})
	f.until("desired properties are written", func() bool { return strings.Contains(f.read("desired.json"), `"reportEvery": 9`) })
	if text := f.read("desired.json"); !strings.Contains(text, `"dark": true`) || strings.Contains(text, "slipway") {
		f.t.Errorf("the application reads %s", text)
	}
}

func (f *field) status() {
	f.t.Helper()
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"status"}, "firmware runs v6\norder 6: confirmed"},
		{[]string{"status", "--json"}, `"version": "v6"`},
		{[]string{"check"}, "is right"},
	} {
		out, err := exec.Command(f.binary, append(c.args, "--config", filepath.Join(f.dir, "agent.yaml"))...).CombinedOutput()
		if err != nil || !strings.Contains(string(out), c.want) {
			f.t.Errorf("%v says %s: %v", c.args, out, err)
		}
	}
}

// TestAnAgentIsNotFooled has a proxy between the real program and its hub do
// what the TUF specification says that attackers do.
func TestAnAgentIsNotFooled(t *testing.T) {
	f := newField(t, nil)
	f.start()
	confirmed := func(t *testing.T, version string) {
		t.Helper()
		if r := f.follow(f.release(version)); r.Phase != link.OrderConfirmed {
			t.Fatalf("ended with %+v", r)
		}
	}
	confirmed(t, "v1")
	for name, attack := range updatetest.Attacks {
		t.Run(name, func(t *testing.T) {
			before, after := "v1-"+strings.ReplaceAll(name, " ", "-"), "v3-"+strings.ReplaceAll(name, " ", "-")
			old := f.hub.Repository.Files()
			confirmed(t, before) // the device has seen newer metadata
			o := f.release("v2-" + before)
			f.hub.Lie(attack.Lie(t, updatetest.Scene{Repository: f.hub.Repository, Old: old, Size: o.Software[0].Artifacts[0].Size}))
			if r := f.follow(o); r.Phase != link.OrderFailed || !strings.Contains(r.Error, attack.Says) || r.Software["firmware"] != before {
				t.Errorf("ended with %+v, want an error with %q", r, attack.Says)
			}
			f.hub.Lie(nil)
			if f.read("running") != before || f.processes() != 1 {
				t.Errorf("%q runs, in %d processes", f.read("running"), f.processes())
			}
			confirmed(t, after)
		})
	}
}

// kills is how often the agent is killed: more often by SLIPWAY_KILLS=200.
func kills(t *testing.T) int {
	text := os.Getenv("SLIPWAY_KILLS")
	if text == "" {
		return 15
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestKilledAtAnyInstantItEndsInAConfirmedVersion(t *testing.T) {
	f := newField(t, nil)
	f.start()
	if r := f.follow(f.release("v0")); r.Phase != link.OrderConfirmed {
		t.Fatalf("ended with %+v", r)
	}
	length := 400 * time.Millisecond
	confirmed := "v0"
	ends := map[string]int{}
	for i := range kills(t) {
		version := fmt.Sprintf("v%d", i+1)
		if i%4 == 3 {
			version = fmt.Sprintf("bad%d", i+1)
		}
		o := f.release(version)
		begin := time.Now()
		order := f.hub.Order(o)
		for range 1 + i%2 { // some twice
			time.Sleep(time.Duration(rand.Float64() * float64(length)))
			f.kill()
			f.start()
		}
		r := f.hub.Ended(order, 3*time.Minute)
		length = (length*9 + min(time.Since(begin), time.Second)) / 10
		ends[r.Phase]++
		bad := strings.HasPrefix(version, "bad")
		if r.Phase == link.OrderConfirmed && bad || r.Phase != link.OrderConfirmed && !bad {
			t.Errorf("%s ended with %+v", version, r)
		}
		if r.Phase == link.OrderConfirmed {
			confirmed = version
		}
		if r.Software["firmware"] != confirmed {
			t.Errorf("it reports that %s runs, and %s is confirmed", r.Software["firmware"], confirmed)
		}
		f.until("what is confirmed runs, once", func() bool { return f.read("running") == confirmed && f.processes() == 1 })
		for _, r := range f.hub.Reports() {
			if r.Order == order && r.Phase == link.OrderTrial && r.Software["firmware"] != version {
				t.Errorf("on trial it reports that %s runs, not %s", r.Software["firmware"], version)
			}
		}
	}
	t.Logf("ends: %v; an update takes about %s", ends, length)
}

func TestAnAgentUpdatesItself(t *testing.T) {
	f := newField(t, func(config string) string {
		return strings.Replace(config, "trial:", "  agent: { handler: agent, directory: DIR/agent, version: v0 }\ntrial:", 1)
	})
	f.write("agent.yaml", strings.ReplaceAll(f.read("agent.yaml"), "DIR", f.dir), 0o600)
	program, err := os.ReadFile(f.binary)
	if err != nil {
		t.Fatal(err)
	}
	release := func(name string, content []byte) link.UpdateOrder {
		return f.hub.Release(name, "test", map[string][]byte{"agent": content}, map[string]string{"agent": "slipway-agent"})
	}
	f.start()
	if r := f.follow(release("v1", append(program, "one"...))); r.Phase != link.OrderConfirmed {
		t.Fatalf("ended with %+v", r)
	}
	if !f.executes(filepath.Join(f.dir, "agent")) {
		t.Error("the new agent is not what runs")
	}
	for name, broken := range map[string]string{"dies": "#!/bin/sh\nexit 1\n", "is no program": "nothing"} {
		if r := f.follow(release("v2", []byte(broken))); r.Phase != link.OrderRolledBack || r.Software["agent"] != "v1" {
			t.Errorf("an agent that %s ended with %+v", name, r)
		}
	}
	order := f.hub.Order(release("v3", append(program, "three"...)))
	for range 2 {
		time.Sleep(time.Duration(rand.Float64() * float64(300*time.Millisecond)))
		f.kill()
		f.start()
	}
	if r := f.hub.Ended(order, 3*time.Minute); r.Phase != link.OrderConfirmed || r.Software["agent"] != "v3" {
		t.Errorf("one that was killed ended with %+v", r)
	}
}

// executes reports whether a program below a directory runs.
func (f *field) executes(directory string) bool {
	entries, err := filepath.Glob("/proc/[0-9]*/exe")
	if err != nil {
		f.t.Fatal(err)
	}
	for _, entry := range entries {
		if at, err := os.Readlink(entry); err == nil && strings.HasPrefix(at, directory) {
			return true
		}
	}
	return false
}

func TestADeviceMayHaveACertificate(t *testing.T) {
	f := newField(t, func(config string) string {
		return strings.Replace(config, "keyFile: ", "certificate: { certFile: cert.pem, keyFile: key.pem } # ", 1)
	})
	certificate, key := f.hub.Certificate()
	f.write("cert.pem", string(certificate), 0o600)
	f.write("key.pem", string(key), 0o600)
	f.write("agent.yaml", strings.ReplaceAll(f.read("agent.yaml"), "File: cert.pem, keyFile: key.pem", "File: "+f.dir+"/cert.pem, keyFile: "+f.dir+"/key.pem"), 0o600)
	f.start()
	if r := f.follow(f.release("v1")); r.Phase != link.OrderConfirmed {
		t.Errorf("ended with %+v", r)
	}
}

func TestTheHubMayComeAndGo(t *testing.T) {
	f := newField(t, nil)
	requests := 0
	f.hub.Lie(func(w http.ResponseWriter, r *http.Request, honest http.Handler) {
		if requests++; requests%3 == 0 {
			f.hub.Cut()
		}
		if requests%5 == 0 {
			http.Error(w, "busy", http.StatusServiceUnavailable)
			return
		}
		honest.ServeHTTP(w, r)
	})
	f.start()
	if r := f.follow(f.release("v1")); r.Phase != link.OrderConfirmed {
		t.Errorf("ended with %+v", r)
	}
}

func TestConfigurationsThatAreRefused(t *testing.T) {
	f := newField(t, nil)
	good := f.read("agent.yaml")
	for name, c := range map[string]struct{ old, new, says string }{
		"an unknown key":             {"hardware:", "hardwear:", ":8:1: hardwear: no such field"},
		"an unknown key of software": {"    run:", "    runs:", ": software.firmware.runs: no such field"},
		"an unknown handler":         {"handler: files", "handler: magic", "software.firmware.handler: must be"},
		"a relative directory":       {"directory: " + f.dir + "/firmware", "directory: firmware", "absolute"},
		"no proof":                   {"keyFile: " + f.dir + "/key\n", "", "keyFile"},
		"a window that is none":      {"environments:", "windows: [always]\nenvironments:", "window"},
		"a time that is none":        {"50ms", "fifty", "trial.settle"},
	} {
		f.write("wrong.yaml", strings.Replace(good, c.old, c.new, 1), 0o600)
		out, err := exec.Command(f.binary, "check", "--config", filepath.Join(f.dir, "wrong.yaml")).CombinedOutput()
		var exit *exec.ExitError
		if !errors.As(err, &exit) || exit.ExitCode() != 2 || !strings.Contains(string(out), c.says) {
			t.Errorf("%s: %v %s, want %q", name, err, out, c.says)
		}
	}
	for _, c := range []struct {
		args   []string
		status int
		says   string
	}{
		{nil, 2, "say what to do"}, {[]string{"fly"}, 2, "no command"}, {[]string{"run", "--what"}, 2, "--help"}, {[]string{"--help"}, 0, "Examples:"},
		{[]string{"version"}, 0, "slipway-agent"}, {[]string{"check", "--config", "/nonexistent"}, 2, "no such file"},
	} {
		cmd := exec.Command(f.binary, c.args...)
		out, _ := cmd.CombinedOutput() // its status is looked at
		if cmd.ProcessState.ExitCode() != c.status || !strings.Contains(string(out), c.says) {
			t.Errorf("%v ends with %d: %s", c.args, cmd.ProcessState.ExitCode(), out)
		}
	}
}

// TestDocsAndUnitsSayWhatIsThere holds the page for people and the systemd
// unit to the commands and the configuration that there are.
func TestDocsAndUnitsSayWhatIsThere(t *testing.T) {
	f := newField(t, nil)
	page, err := os.ReadFile("../../docs/how-to/update-devices.md")
	if err != nil {
		t.Fatal(err)
	}
	unit, err := os.ReadFile("../../deploy/systemd/slipway-agent.service")
	if err != nil {
		t.Fatal(err)
	}
	_, example, found := strings.Cut(string(page), "```yaml\n")
	example, _, closed := strings.Cut(example, "```")
	if !found || !closed {
		t.Fatal("the page has no configuration")
	}
	f.write("example.yaml", example, 0o600)
	if out, err := exec.Command(f.binary, "check", "--config", filepath.Join(f.dir, "example.yaml")).CombinedOutput(); err != nil {
		t.Errorf("the page's configuration: %s", out)
	}
	usage, err := exec.Command(f.binary, "--help").Output()
	if err != nil {
		t.Fatal(err)
	}
	commands := 0
	for line := range strings.Lines(string(page) + string(unit)) {
		_, rest, called := strings.Cut(strings.TrimPrefix(strings.TrimSpace(line), "ExecStart=/usr/local/bin/"), "slipway-agent ")
		if !called || !strings.HasPrefix(strings.TrimPrefix(strings.TrimSpace(line), "ExecStart=/usr/local/bin/"), "slipway-agent ") {
			continue
		}
		for _, word := range strings.Fields(rest) {
			if !strings.HasPrefix(word, "/") && !strings.Contains(string(usage), word) {
				t.Errorf("%s: %s is not in --help", strings.TrimSpace(line), word)
			}
		}
		commands++
	}
	if commands < 4 {
		t.Errorf("only %d commands were found", commands)
	}
}
