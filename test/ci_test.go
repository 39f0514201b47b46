package test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/goccy/go-yaml"
)

// TestCIBringsAReleaseIn runs the CI templates' scripts as GitHub and GitLab do,
// in turn: it fetches the program, makes the release, hands in test results, waits, and says what
// became of it where these show it.
func TestCIBringsAReleaseIn(t *testing.T) {
	t.Parallel()
	in := start(t)
	in.apply(`
apiVersion: slipway/v1
kind: Environment
metadata: { name: bench }
spec: { promotion: { gates: [{ name: unit-tests, key: true, tests: { suites: [unit], environment: bench } }] } }
---
apiVersion: slipway/v1
kind: Environment
metadata: { name: field }
spec: { promotesFrom: bench, promotion: { gates: [{ name: agreed, key: true, approvals: { count: 1 } }] } }
`)
	dir := t.TempDir()
	for name, text := range map[string]string{
		"release.yaml": "apiVersion: slipway/v1\nkind: Release\nmetadata: { name: next }\nspec: { configuration: { reportEvery: 30 } }\n",
		"other.yaml":   "apiVersion: slipway/v1\nkind: Release\nmetadata: { name: next }\nspec: { configuration: { reportEvery: 31 } }\n",
		"good.xml":     `<testsuite name="unit" tests="1"><testcase name="a"/></testsuite>`,
		"bad.xml":      `<testsuite name="unit" tests="1" failures="1"><testcase name="a"><failure message="no"/></testcase></testsuite>`,
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	// What GitHub runs of the action, and GitLab of the template.
	var action struct {
		Runs struct{ Steps []struct{ Run string } }
	}
	var template map[string]struct{ Script []string }
	for file, document := range map[string]any{"action.yml": &action, "gitlab/slipway.gitlab-ci.yml": &template} {
		if err := yaml.Unmarshal(must(os.ReadFile("../deploy/ci/"+file)), document); err != nil {
			t.Fatal(err)
		}
	}
	scripts := []string{action.Runs.Steps[0].Run, template[".promote"].Script[0]}
	program := httptest.NewServer(http.FileServer(http.Dir(filepath.Dir(binary))))
	defer program.Close()
	sum := sha256.Sum256(must(os.ReadFile(binary)))
	runs := 0
	var says spoken
	ci := func(want int, variables ...string) (out, summary, report string) {
		t.Helper()
		files := t.TempDir()
		command := exec.Command("sh", "-c", scripts[runs%2])
		runs++
		command.Dir = dir
		command.Env = append(os.Environ(), "PROGRAM="+program.URL+"/slipway", "PROGRAM_SHA256="+hex.EncodeToString(sum[:]), "GITHUB_ACTION_PATH="+must(filepath.Abs("../deploy/ci")), "SLIPWAY_URL="+in.ready.API, "SLIPWAY_TOKEN="+in.ready.AdminToken,
			"AUTHORITY="+string(must(os.ReadFile(in.ready.CA))), "GITHUB_ACTIONS=true", "GITHUB_STEP_SUMMARY="+files+"/summary.md", "REPORT="+files+"/report.xml", "REASON=the build 17")
		command.Env = append(command.Env, variables...)
		says.begin()
		command.Stdout, command.Stderr = &says, &says
		err, text := command.Run(), says.text()
		var exit *exec.ExitError
		if code := 0; errors.As(err, &exit) && exit.ExitCode() != want || err == nil && code != want {
			t.Fatalf("%v, not exit code %d:\n%s", err, want, text)
		}
		return text, string(must(os.ReadFile(files + "/summary.md"))), string(must(os.ReadFile(files + "/report.xml")))
	}
	out, summary, report := ci(0, "RELEASE=v1.0.0", "ENVIRONMENT=bench", "RELEASE_FILE=release.yaml", "RESULTS=good.xml")
	if !strings.Contains(out, "::notice title=v1.0.0 to bench%3A succeeded::") || !strings.Contains(summary, "| unit-tests | pass |") || !strings.Contains(report, `failures="0"`) {
		t.Errorf("a release that is in:\n%s\n%s\n%s", out, summary, report)
	}
	out, summary, report = ci(3, "RELEASE=v1.0.0", "ENVIRONMENT=field", "TIMEOUT=2s")
	if !strings.Contains(out, "::warning title=v1.0.0 to field%3A blocked::") || !strings.Contains(summary, "| agreed |") || !strings.Contains(report, `failures="2"`) {
		t.Errorf("a release that waits for somebody:\n%s\n%s\n%s", out, summary, report)
	}
	if _, _, report = ci(3, "RELEASE=v1.0.1", "ENVIRONMENT=bench", "RELEASE_FILE=other.yaml", "RESULTS=bad.xml", "TIMEOUT=2s"); !strings.Contains(report, `name="gate unit-tests"`) {
		t.Errorf("a release whose tests failed:\n%s", report)
	}
	says.begin()
	rejected := make(chan error, 1)
	go func() {
		for t.Context().Err() == nil && !strings.Contains(says.text(), "promotion-3: v1.0.1 to bench is blocked") {
			<-time.After(50 * time.Millisecond)
		}
		_, err := in.run("promotion", "reject", "promotion-3", "--reason", "its tests failed")
		rejected <- err
	}()
	if out, _, _ := ci(4, "RELEASE=v1.0.1", "ENVIRONMENT=bench", "TIMEOUT=10m"); !strings.Contains(out, "::error title=v1.0.1 to bench%3A aborted::") {
		t.Errorf("a release that is rejected:\n%s", out)
	}
	if err := <-rejected; err != nil {
		t.Error(err)
	}
}

// spoken is what a program has said so far.
type spoken struct {
	mu  sync.Mutex
	all bytes.Buffer
}

func (s *spoken) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.all.Write(b)
}

func (s *spoken) begin() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.all.Reset()
}

func (s *spoken) text() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.all.String()
}

// must is for what a test makes itself.
func must[T any](value T, err error) T {
	if err != nil {
		panic(err)
	}
	return value
}
