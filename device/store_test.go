package device_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/slipway/slipway/device"
)

func TestFileStoreReplacesItsFileWhole(t *testing.T) {
	name := filepath.Join(t.TempDir(), "state.json")
	store := device.FileStore(name)
	if text, err := store.Load(); text != nil || err != nil {
		t.Errorf("an empty store has %q, %v", text, err)
	}
	for _, want := range []string{"a long text", "short"} {
		if err := store.Save([]byte(want)); err != nil {
			t.Fatal(err)
		}
		if text, err := store.Load(); string(text) != want || err != nil {
			t.Errorf("kept %q, %v; want %q", text, err, want)
		}
	}
	if err := os.WriteFile(name+".tmp", []byte("cut off by a loss of pow"), 0o600); err != nil {
		t.Fatal(err)
	}
	if text, err := store.Load(); string(text) != "short" || err != nil {
		t.Errorf("after a loss of power: %q, %v", text, err)
	}
	if info, err := os.Stat(name); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
	if err := device.FileStore(filepath.Join(name, "below")).Save(nil); err == nil {
		t.Error("a file is no directory")
	}
}
