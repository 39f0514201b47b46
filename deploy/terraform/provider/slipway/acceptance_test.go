package slipway_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/slipway/slipway/internal/client"
	"github.com/slipway/slipway/internal/resource"
	"github.com/slipway/slipway/internal/up"
)

// site is an installation, and a directory in which the real Terraform, or
// OpenTofu, works on it with the provider as it is built.
type site struct {
	t       *testing.T
	dir     string
	program string
	env     []string
	api     *client.Client
	ready   up.Ready
}

func newSite(t *testing.T) *site {
	t.Helper()
	s := &site{t: t, dir: t.TempDir(), program: terraform(t)}
	s.start()
	mirror := filepath.Join(s.dir, "mirror")
	plugin := filepath.Join(mirror, "registry.terraform.io/slipway/slipway/0.0.1", runtime.GOOS+"_"+runtime.GOARCH)
	if err := os.MkdirAll(plugin, 0o755); err != nil {
		t.Fatal(err)
	}
	build := exec.Command("go", "build", "-o", filepath.Join(plugin, "terraform-provider-slipway_v0.0.1"), "..")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build the provider: %v\n%s", err, out)
	}
	// OpenTofu looks under the name of another registry.
	other := filepath.Join(mirror, "registry.opentofu.org/slipway/slipway/0.0.1")
	if err := os.MkdirAll(other, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(plugin, filepath.Join(other, filepath.Base(plugin))); err != nil {
		t.Fatal(err)
	}
	settings := filepath.Join(s.dir, "cli.tfrc")
	s.file("cli.tfrc", fmt.Sprintf("provider_installation {\n  filesystem_mirror {\n    path = %q\n  }\n}\ndisable_checkpoint = true\n", mirror))
	s.env = append(os.Environ(), "TF_CLI_CONFIG_FILE="+settings, "TF_IN_AUTOMATION=1", "CHECKPOINT_DISABLE=1",
		"SLIPWAY_URL="+s.ready.API, "SLIPWAY_TOKEN="+s.ready.AdminToken, "SLIPWAY_CA="+s.ready.CA)
	return s
}

// terraform is the program that plans and applies.
func terraform(t *testing.T) string {
	for _, name := range []string{os.Getenv("SLIPWAY_TERRAFORM"), "terraform", "tofu"} {
		if found, err := exec.LookPath(name); name != "" && err == nil {
			return found
		}
	}
	t.Fatal("the tests need terraform or tofu: run 'make setup-test'")
	return ""
}

// TestConfigurationsAreFormatted reads all that is under deploy/terraform, the
// module for stamps on Kubernetes among it.
func TestConfigurationsAreFormatted(t *testing.T) {
	t.Parallel()
	if out, err := exec.Command(terraform(t), "fmt", "-check", "-recursive", "-diff", "../..").CombinedOutput(); err != nil {
		t.Errorf("%v:\n%s", err, out)
	}
}

func (s *site) start() {
	s.t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	ready, ended := make(chan up.Ready, 1), make(chan error, 1)
	go func() {
		ended <- up.Run(ctx, up.Options{
			Data: filepath.Join(s.dir, "data"), HTTP: ":0", HTTPS: ":0", MQTTS: ":0", Version: "test", Logger: slog.New(slog.NewTextHandler(io.Discard, nil)),
			Ready: func(r up.Ready) { ready <- r },
		})
	}()
	s.t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			s.t.Errorf("the installation ended with: %v", err)
		}
	})
	select {
	case s.ready = <-ready:
	case err := <-ended:
		ended <- nil
		s.t.Fatalf("the installation did not start: %v", err)
	case <-time.After(3 * time.Minute):
		s.t.Fatal("the installation is not ready after three minutes")
	}
	var err error
	if s.api, err = client.New(client.Options{URL: s.ready.API, Token: s.ready.AdminToken, CAFile: s.ready.CA}); err != nil {
		s.t.Fatal(err)
	}
}

func (s *site) file(name, text string) {
	s.t.Helper()
	if err := os.WriteFile(filepath.Join(s.dir, name), []byte(text), 0o600); err != nil {
		s.t.Fatal(err)
	}
}

// run runs Terraform and returns what it printed and its exit code.
func (s *site) run(args ...string) (string, int) {
	s.t.Helper()
	command := exec.Command(s.program, append([]string{"-chdir=" + s.dir}, args...)...)
	command.Env = s.env
	var out bytes.Buffer
	command.Stdout, command.Stderr = &out, &out
	err := command.Run()
	var failed *exec.ExitError
	if err != nil && !asExit(err, &failed) {
		s.t.Fatal(err)
	}
	return out.String(), command.ProcessState.ExitCode()
}

func asExit(err error, into **exec.ExitError) bool {
	failed, ok := err.(*exec.ExitError)
	*into = failed
	return ok
}

// must runs Terraform, which has to end well.
func (s *site) must(args ...string) string {
	s.t.Helper()
	out, code := s.run(args...)
	if code != 0 {
		s.t.Fatalf("terraform %s ended with %d:\n%s", strings.Join(args, " "), code, out)
	}
	return out
}

// settled demands an empty plan.
func (s *site) settled(when string) {
	s.t.Helper()
	if out, code := s.run("plan", "-no-color", "-detailed-exitcode", "-input=false"); code != 0 {
		s.t.Fatalf("%s the plan is not empty (exit code %d):\n%s", when, code, out)
	}
}

// change changes a resource behind Terraform's back.
func (s *site) change(kind, name string, edit func(spec map[string]any)) {
	s.t.Helper()
	stored, err := s.api.Resource(s.t.Context(), kind, name, false)
	if err != nil {
		s.t.Fatal(err)
	}
	var spec map[string]any
	if err := json.Unmarshal(stored.Spec, &spec); err != nil {
		s.t.Fatal(err)
	}
	edit(spec)
	if stored.Spec, err = json.Marshal(spec); err != nil {
		s.t.Fatal(err)
	}
	if _, err := s.api.Put(s.t.Context(), stored.Resource, "", false); err != nil {
		s.t.Fatal(err)
	}
}

func (s *site) spec(kind, name string) map[string]any {
	s.t.Helper()
	stored, err := s.api.Resource(s.t.Context(), kind, name, true)
	if err != nil {
		s.t.Fatal(err)
	}
	var spec map[string]any
	if err := json.Unmarshal(stored.Spec, &spec); err != nil {
		s.t.Fatal(err)
	}
	return spec
}

// TestTerraform declares an installation of every kind, and takes it through
// what people do: apply, plan, a change by somebody else, repair, import,
// refusals, destroy.
func TestTerraform(t *testing.T) {
	s := newSite(t)
	main, err := os.ReadFile("testdata/main.tf")
	if err != nil {
		t.Fatal(err)
	}
	s.file("main.tf", string(main))
	s.must("init", "-no-color", "-input=false")
	s.must("apply", "-no-color", "-input=false", "-auto-approve")
	s.settled("after the first apply")
	if spec := s.spec(resource.KindStamp, "lab-1"); fmt.Sprint(spec["capacity"]) != "500" || spec["region"] != "eu" {
		t.Errorf("the stamp is %v", spec)
	}
	s.secrets()
	s.drift()
	s.imports()
	s.refusals()
	s.must("destroy", "-no-color", "-input=false", "-auto-approve")
	for _, one := range [][2]string{{resource.KindStamp, "lab-1"}, {resource.KindEnvironment, "lab"}, {resource.KindRoute, "hot"}, {resource.KindFlag, "dashboard"}} {
		if _, err := s.api.Resource(t.Context(), one[0], one[1], false); err == nil {
			t.Errorf("%s %s is there after destroy", one[0], one[1])
		}
	}
}

// secrets are in no plan's output, keys that the installation made in no state.
func (s *site) secrets() {
	made, _ := s.spec(resource.KindEnrollmentGroup, "sensors")["attestation"].(map[string]any)["symmetricKey"].(map[string]any)
	state, err := os.ReadFile(filepath.Join(s.dir, "terraform.tfstate"))
	if err != nil {
		s.t.Fatal(err)
	}
	if key := fmt.Sprint(made["primaryKey"]); len(key) < 20 || bytes.Contains(state, []byte(key)) {
		s.t.Errorf("the group's key is %q, and must be one that the state does not hold", key)
	}
	if out := s.must("show", "-no-color"); strings.Contains(out, "correct-horse") {
		s.t.Errorf("a password is shown:\n%s", out)
	}
}

// drift is what somebody else changed: it is seen, whatever it is, and repaired.
func (s *site) drift() {
	s.change(resource.KindStamp, "lab-1", func(spec map[string]any) { spec["capacity"], spec["weight"] = 700, 9 }) // weight is declared nowhere
	s.change(resource.KindFlag, "dashboard", func(spec map[string]any) { spec["defaultVariant"] = "on" })
	s.change(resource.KindRoute, "hot", func(spec map[string]any) {
		spec["endpoint"].(map[string]any)["nats"].(map[string]any)["password"] = "another" // never shown
	})
	if err := s.api.Delete(s.t.Context(), resource.KindEnrollmentGroup, "sensors"); err != nil {
		s.t.Fatal(err)
	}
	out, code := s.run("plan", "-no-color", "-detailed-exitcode", "-input=false")
	if code != 2 {
		s.t.Fatalf("drift is not seen (exit code %d):\n%s", code, out)
	}
	for _, want := range []string{"700 -> 500", "9 -> 1", `"on" -> "off"`, "slipway_enrollment_group.sensors will be created", "slipway_route.hot will be updated in-place", "1 to add, 3 to change, 0 to destroy"} {
		if !strings.Contains(out, want) {
			s.t.Errorf("the plan does not say %q:\n%s", want, out)
		}
	}
	s.must("apply", "-no-color", "-input=false", "-auto-approve")
	s.settled("after the repair")
	if spec := s.spec(resource.KindStamp, "lab-1"); fmt.Sprint(spec["capacity"], spec["weight"]) != "500 1" {
		s.t.Errorf("the stamp was not repaired: %v", spec)
	}
}

// imports take what is there already, and change nothing of it.
func (s *site) imports() {
	for address, id := range map[string]string{
		"slipway_stamp.lab": "lab-1", "slipway_environment.lab": "lab", "slipway_flag.dashboard": "dashboard", "slipway_flag_state.dashboard": "lab/dashboard", "slipway_account.ci": "ci",
	} {
		s.must("state", "rm", address)
		if address == "slipway_stamp.lab" {
			if out, code := s.run("apply", "-no-color", "-input=false", "-auto-approve", "-target="+address); code == 0 || !strings.Contains(out, "terraform import slipway_stamp.NAME lab-1") {
				s.t.Errorf("a stamp that is there already is made again (exit code %d), or it is not said how to go on:\n%s", code, out)
			}
		}
		s.must("import", "-no-color", "-input=false", address, id)
	}
	s.settled("after the imports")
}

// refusals stand at the attribute they are about, before anything is done.
func (s *site) refusals() {
	text, err := os.ReadFile(filepath.Join(s.dir, "main.tf"))
	if err != nil {
		s.t.Fatal(err)
	}
	for change, want := range map[string]string{
		"capacity    = 500 => capacity    = 5000000":                "a stamp's capacity is 1 to 1000000 devices, not 5000000",
		`where       = "$body.t > 40" => where       = "$body.t >"`: "where       = \"$body.t >\"",
	} {
		from, to, _ := strings.Cut(change, " => ")
		broken := strings.Replace(string(text), from, to, 1)
		if broken == string(text) {
			s.t.Fatalf("main.tf does not say %q", from)
		}
		s.file("main.tf", broken)
		if out, code := s.run("plan", "-no-color", "-input=false"); code == 0 || !strings.Contains(strings.Join(strings.Fields(strings.ReplaceAll(out, "│", "")), " "), strings.Join(strings.Fields(want), " ")) {
			s.t.Errorf("%s: the plan ended with %d and does not say %q:\n%s", to, code, want, out)
		}
	}
	s.file("main.tf", string(text))
}
