package cli

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"

	"github.com/slipway/slipway/internal/serve"
)

// TestDeployFilesRunWhatIsThere holds the files under deploy/ to the commands
// and to the configuration that slipway serve takes.
func TestDeployFilesRunWhatIsThere(t *testing.T) {
	units, err := filepath.Glob("../../deploy/systemd/slipway-[^a]*.service") // the agent has its own test
	if err != nil || len(units) != 3 {
		t.Fatalf("%v, %v", units, err)
	}
	for _, file := range units {
		_, line, found := strings.Cut(read(t, file), "\nExecStart=/usr/local/bin/slipway ")
		line, _, _ = strings.Cut(line, "\n")
		if !found {
			t.Errorf("%s starts nothing", file)
		}
		checkCommand(t, file, strings.Fields(line))
	}
	manifests, err := filepath.Glob("../../deploy/kubernetes/*.yaml")
	if err != nil || len(manifests) != 3 {
		t.Fatalf("%v, %v", manifests, err)
	}
	for _, file := range manifests {
		checkManifest(t, file)
	}
}

// TestCITemplatesRunTheScript holds the templates for CI to the script, by the
// variables they set, and the script to the commands that there are.
func TestCITemplatesRunTheScript(t *testing.T) {
	script := read(t, "../../deploy/ci/promote.sh")
	if n := checkCommands(t, "promote.sh", script); n != 3 {
		t.Errorf("the script has %d commands", n)
	}
	type step struct {
		Run, Uses string
		Env, With map[string]string
	}
	var action struct {
		Inputs map[string]struct{ Required bool }
		Runs   struct {
			Using string
			Steps []step
		}
	}
	var workflow struct {
		Jobs map[string]struct{ Steps []step }
	}
	var gitlab map[string]struct {
		Variables map[string]string
		Script    []string
	}
	for file, document := range map[string]any{"action.yml": &action, "github/promote.yml": &workflow, "gitlab/slipway.gitlab-ci.yml": &gitlab} {
		if err := yaml.Unmarshal([]byte(read(t, "../../deploy/ci/"+file)), document); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
	}
	if len(action.Runs.Steps) != 1 || !strings.Contains(action.Runs.Steps[0].Run, "/promote.sh") || action.Runs.Using != "composite" {
		t.Fatalf("the action runs %+v", action.Runs)
	}
	job := gitlab[".promote"]
	if len(job.Script) != 1 || strings.TrimSpace(job.Script[0]) != strings.TrimSpace(script) {
		t.Error("the GitLab template does not run deploy/ci/promote.sh as it is")
	}
	for _, variable := range []string{"RELEASE", "RELEASE_FILE", "RESULTS", "SUITE", "TIMEOUT", "REASON", "REPORT"} {
		_, byAction := action.Runs.Steps[0].Env[variable]
		if _, byGitLab := job.Variables[variable]; !byAction || !byGitLab || !strings.Contains(script, "$"+variable) && !strings.Contains(script, "{"+variable+":") {
			t.Errorf("%s is not set, or not used by the script", variable)
		}
	}
	with := workflow.Jobs["promote"].Steps[1].With
	for name, input := range action.Inputs {
		if _, given := with[name]; input.Required && !given {
			t.Errorf("the workflow does not say %s", name)
		}
	}
	for name := range with {
		if _, known := action.Inputs[name]; !known {
			t.Errorf("the action does not take %s", name)
		}
	}
}

func read(t *testing.T, file string) string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// checkManifest reads the configuration in a manifest, and holds the
// container's arguments against it.
func checkManifest(t *testing.T, file string) {
	t.Helper()
	dir := t.TempDir()
	decoder := yaml.NewDecoder(bytes.NewReader([]byte(read(t, file))))
	configured, started := "", ""
	for {
		var object struct {
			Kind string
			Data map[string]string
			Spec struct {
				Template struct {
					Spec struct{ Containers []struct{ Args []string } }
				}
			}
		}
		if err := decoder.Decode(&object); err != nil {
			break
		}
		for name, text := range object.Data {
			path := filepath.Join(dir, name)
			if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			config, err := serve.ReadConfig(path)
			if err != nil {
				t.Errorf("%s: %v", file, err)
			}
			configured = config.Plane
		}
		for _, container := range object.Spec.Template.Spec.Containers {
			checkCommand(t, file, container.Args)
			started = container.Args[1]
		}
	}
	if configured == "" || configured != started {
		t.Errorf("%s configures %q and starts %q", file, configured, started)
	}
}
