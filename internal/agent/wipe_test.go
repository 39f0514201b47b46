package agent

import (
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
)

// A device that is decommissioned destroys its credentials after its owner's
// command has run, once, and its agent does nothing any more.
func TestADecommissionedDeviceWipesItself(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	c := Config{Directory: dir, KeyFile: filepath.Join(dir, "key"), DesiredFile: filepath.Join(dir, "desired.json"), Wipe: []string{"sh", "-c", `echo ran >> "$0"`, filepath.Join(dir, "ran")}}
	for _, name := range []string{c.KeyFile, c.DesiredFile} {
		if err := os.WriteFile(name, []byte("secret"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	a := &agent{config: c, logger: slog.New(slog.DiscardHandler), end: func(error) {}}
	if c.wiped() {
		t.Fatal("it counts as wiped before it is")
	}
	for range 2 { // the answer may be lost, and the order come again
		if err := a.wipe(t.Context(), "decommission-1"); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{c.KeyFile, c.DesiredFile} {
		if _, err := os.Stat(name); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s is still there: %v", name, err)
		}
	}
	if ran, err := os.ReadFile(filepath.Join(dir, "ran")); err != nil || string(ran) != "ran\n" {
		t.Errorf("the command ran: %q, %v", ran, err)
	}
	if err := work(t.Context(), c, a.logger, io.Discard); !errors.Is(err, errWiped) {
		t.Errorf("the agent starts again: %v", err)
	}
	if status, err := worked(errWiped); status != 0 || err == nil {
		t.Errorf("it ends with %d, %v", status, err)
	}

	failing := Config{Directory: t.TempDir(), KeyFile: filepath.Join(t.TempDir(), "key"), Wipe: []string{"false"}}
	if err := (&agent{config: failing, logger: a.logger}).wipe(t.Context(), "decommission-2"); err == nil || failing.wiped() {
		t.Errorf("its command failed, and it says that it is wiped: %v", err)
	}
}
