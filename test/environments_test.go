package test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestANewEnvironmentIsReadyInAMinute makes an environment like another one on
// a host that has nothing, and promotes a release into it.
func TestANewEnvironmentIsReadyInAMinute(t *testing.T) {
	t.Parallel()
	in := start(t)
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
}
