package test

import (
	"compress/gzip"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestAReleaseBringsAProcessor promotes a release whose route has a program of
// its own: what devices send leaves the stamp as the program makes it, and no
// longer once the release is taken back.
func TestAReleaseBringsAProcessor(t *testing.T) {
	t.Parallel()
	in := start(t)
	in.enrol()
	if _, err := in.register("thermometer"); err != nil {
		t.Fatal(err)
	}
	conn, err := in.hub("thermometer", in.stamp("test-1"), true)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	dir := t.TempDir()
	build := exec.Command("go", "build", "-o", filepath.Join(dir, "celsius.wasm"), "../internal/stamp/processor/testdata/celsius")
	build.Env = append(os.Environ(), "GOOS=wasip1", "GOARCH=wasm")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	releases := map[string]string{
		"v1": "configuration: { unit: fahrenheit }",
		"v2": `configuration: { unit: celsius }
  routes:
    - name: celsius
      spec:
        processor: { artifact: { path: celsius.wasm }, memoryMiB: 64, timeoutMillis: 10000 }
        endpoint: { archive: { directory: celsius } }
        batch: { maxMessages: 1 }`,
	}
	for _, name := range []string{"v1", "v2"} {
		file := filepath.Join(dir, name+".yaml")
		text := "apiVersion: slipway/v1\nkind: Release\nmetadata: { name: " + name + " }\nspec:\n  " + releases[name] + "\n"
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		in.must("release", "create", "-f", file)
		in.must("promotion", "start", name, "--to", "test", "--wait", "--timeout", "60s")
	}
	archive := filepath.Join(in.dir, "data", "archive", "celsius")
	eventually(t, "a message leaves as the processor makes it", time.Minute, func() bool {
		if err := conn.publish(`{"temperature":212}`); err != nil {
			t.Fatal(err)
		}
		return strings.Contains(archived(t, archive), `"temperature":100}`)
	})
	if text := archived(t, archive); strings.Contains(text, "212") || !strings.Contains(text, `"deviceId":"thermometer"`) {
		t.Errorf("the archive holds %s", text)
	}
	in.must("rollback", "--environment", "test", "--reason", "trying it", "--wait", "--timeout", "60s")
	eventually(t, "the route is gone", 2*time.Minute, func() bool { // what was taken before still goes out
		before := len(archived(t, archive))
		if err := conn.publish(`{"temperature":32}`); err != nil {
			t.Fatal(err)
		}
		<-time.After(500 * time.Millisecond)
		return len(archived(t, archive)) == before
	})
}

// archived is everything that was written below a directory.
func archived(t *testing.T, dir string) string {
	t.Helper()
	var all strings.Builder
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || !strings.HasSuffix(path, ".jsonl.gz") {
			if os.IsNotExist(err) {
				return nil
			}
			return err
		}
		file, err := os.Open(path)
		if err != nil {
			return err
		}
		defer file.Close()
		unpacked, err := gzip.NewReader(file)
		if err != nil {
			return err
		}
		_, err = io.Copy(&all, unpacked)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all.String()
}
