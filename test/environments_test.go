package test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/slipway/slipway/internal/control/drift"
)

// TestANewEnvironmentIsReadyInAMinute makes an environment like another one on
// a host that has nothing, and promotes a release into it.
func TestANewEnvironmentIsReadyInAMinute(t *testing.T) {
	t.Parallel()
	in := start(t)
	in.enrol()
	begun := time.Now()
	said := in.must("environment", "create", "scratch", "--like", "production", "--scale", "1%")
	if !strings.Contains(said, "environment/scratch created") {
		t.Errorf("it says %q", said)
	}
	file := filepath.Join(t.TempDir(), "release.yaml")
	if err := os.WriteFile(file, []byte("apiVersion: slipway/v1\nkind: Release\nmetadata: { name: v1-scratch }\nspec: { configuration: { reportEvery: 3 } }\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	in.must("release", "create", "-f", file)
	in.must("promotion", "start", "v1-scratch", "--to", "scratch")
	eventually(t, "the release is in", time.Minute, func() bool {
		list, err := in.run("promotion", "list", "--environment", "scratch")
		return err == nil && strings.Contains(list, "succeeded")
	})
	took := time.Since(begun)
	t.Logf("from nothing to a release that runs: %s", took.Round(100*time.Millisecond))
	if took > time.Minute {
		t.Errorf("it took %s, and is to take a minute at most", took)
	}
	if said := in.must("environment", "explain", "scratch"); !strings.Contains(said, "scale is \"1%\"") || !strings.Contains(said, "stamps[") {
		t.Errorf("explained:\n%s", said)
	}
	if before, after := in.must("export"), in.must("export"); before != after || !strings.Contains(after, "blueprint: production") {
		t.Errorf("exported:\n%s", after)
	}
	configures(t, in)
	drifts(t, in)
}

// configures has a version of a configuration reach the stamps of an
// environment, and go again by one command.
func configures(t *testing.T, in *installation) {
	t.Helper()
	dir := t.TempDir()
	for name, text := range map[string]string{"schema.json": `{"type":"object","properties":{"every":{"type":"integer","minimum":1}}}`, "pace.json": `{"every":30}`, "wrong.json": `{"every":0}`} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	in.must("configuration", "define", "pace", "--schema", filepath.Join(dir, "schema.json"), "--reason", "how often devices report")
	if out, err := in.run("configuration", "write", "pace", "-f", filepath.Join(dir, "wrong.json"), "--reason", "r"); err == nil {
		t.Errorf("what the schema does not allow was taken: %s", out)
	}
	in.must("configuration", "write", "pace", "-f", filepath.Join(dir, "pace.json"), "--reason", "twice as often")
	in.must("configuration", "promote", "pace", "--to", "scratch", "--reason", "try it")
	eventually(t, "stamps have it", time.Minute, func() bool {
		list, err := in.run("configuration", "list")
		return err == nil && strings.Contains(list, "slipway-pace-1\tscratch-eu-1") && !strings.Contains(list, "\ttest-1")
	})
	in.must("configuration", "rollback", "pace", "--environment", "scratch", "--reason", "batteries")
	eventually(t, "stamps have it no more", time.Minute, func() bool {
		list, err := in.run("configuration", "list")
		return err == nil && !strings.Contains(list, "slipway-pace")
	})
	if history := in.must("configuration", "history", "pace"); !strings.Contains(history, "batteries") || !strings.Contains(history, "try it") {
		t.Errorf("the history is\n%s", history)
	}
}

// drifts has a stamp be changed beside its blueprint: that is seen within a
// minute, and somebody can answer for it.
func drifts(t *testing.T, in *installation) {
	t.Helper()
	var page drift.Page
	look := func(class drift.Class) bool {
		text, _ := in.run("drift", "list", "--json") // of all environments
		page = drift.Page{}
		return json.Unmarshal([]byte(text), &page) == nil && !page.At.IsZero() && (class == "" && len(page.Findings) == 0 || class != "" && len(page.Findings) == 1 && page.Findings[0].Class == class)
	}
	eventually(t, "nothing drifts", time.Minute, func() bool { return look("") })
	in.apply("apiVersion: slipway/v1\nkind: Stamp\nmetadata: { name: scratch-eu-1 }\nspec: { environment: scratch, region: eu-west, capacity: 77 }\n")
	begun := time.Now()
	eventually(t, "the change is found", 2*time.Minute, func() bool { return look(drift.Changed) })
	if took := time.Since(begun); took > time.Minute {
		t.Errorf("it was found after %s, and is to be within a minute", took)
	}
	if f := page.Findings[0]; f.Path != "/capacity" || string(f.Live) != "77" || string(f.Declared) != "200" {
		t.Errorf("found %+v", f)
	}
	in.must("drift", "accept", page.Findings[0].ID, "--owner", "ann", "--reason", "a trial", "--for", "1h")
	if !look(drift.Accepted) {
		t.Errorf("accepted: %+v", page.Findings)
	}
	if said := in.must("parity", "test", "production"); !strings.Contains(said, "test is like production by") {
		t.Errorf("parity says\n%s", said)
	}
}
