package test

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestCIBringsAReleaseIn runs the script of the CI templates as GitHub and
// GitLab do: it makes the release, hands in test results, waits, and says what
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
	ci := func(want int, variables ...string) (out, summary, report string) {
		t.Helper()
		files := t.TempDir()
		command := exec.Command("sh", must(filepath.Abs("../deploy/ci/promote.sh")))
		command.Dir = dir
		command.Env = append(os.Environ(), "PATH="+filepath.Dir(binary)+":"+os.Getenv("PATH"), "SLIPWAY_URL="+in.ready.API, "SLIPWAY_TOKEN="+in.ready.AdminToken,
			"AUTHORITY="+string(must(os.ReadFile(in.ready.CA))), "GITHUB_ACTIONS=true", "GITHUB_STEP_SUMMARY="+files+"/summary.md", "REPORT="+files+"/report.xml", "REASON=the build 17")
		command.Env = append(command.Env, variables...)
		text, err := command.CombinedOutput()
		var exit *exec.ExitError
		if code := 0; errors.As(err, &exit) && exit.ExitCode() != want || err == nil && code != want {
			t.Fatalf("%v, not exit code %d:\n%s", err, want, text)
		}
		return string(text), string(must(os.ReadFile(files + "/summary.md"))), string(must(os.ReadFile(files + "/report.xml")))
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
	rejected := make(chan error, 1)
	go func() {
		<-time.After(time.Second)
		_, err := in.run("promotion", "reject", "promotion-3", "--reason", "its tests failed")
		rejected <- err
	}()
	if out, _, _ := ci(4, "RELEASE=v1.0.1", "ENVIRONMENT=bench", "TIMEOUT=60s"); !strings.Contains(out, "::error title=v1.0.1 to bench%3A aborted::") {
		t.Errorf("a release that is rejected:\n%s", out)
	}
	if err := <-rejected; err != nil {
		t.Error(err)
	}
}

// must is for what a test makes itself.
func must[T any](value T, err error) T {
	if err != nil {
		panic(err)
	}
	return value
}
