package update

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// task is for software with one artifact, which is on the disk.
func task(t *testing.T, job int64, version, file string, content []byte) Task {
	t.Helper()
	path := filepath.Join(t.TempDir(), "artifact")
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(content)
	return Task{
		Job: job, Previous: "v0", Files: map[string]string{file: path}, Directory: t.TempDir(),
		Software: Software{Name: "app", Version: version, Artifacts: []Artifact{{file, int64(len(content)), hex.EncodeToString(sum[:])}}},
	}
}

type action struct {
	name string
	do   func(context.Context, Task) error
}

func steps(h Handler) []action {
	return []action{{"prepare", h.Prepare}, {"install", h.Install}, {"commit", h.Commit}}
}

func TestFilesCanBeRepeatedAndUndoneAtEachStep(t *testing.T) {
	ctx := context.Background()
	read := func(f *Files) string {
		text, err := os.ReadFile(filepath.Join(f.Path, "current", "app"))
		if err != nil {
			return "nothing"
		}
		return string(text)
	}
	for done := range 4 {
		for _, first := range []bool{true, false} {
			f := &Files{Path: filepath.Join(t.TempDir(), "app")}
			want := "nothing"
			if !first {
				before := task(t, 1, "v1", "app", []byte("one"))
				for _, s := range steps(f) {
					if err := s.do(ctx, before); err != nil {
						t.Fatal(err)
					}
				}
				want = "one"
			}
			next := task(t, 2, "v2", "app", []byte("two"))
			for _, s := range steps(f)[:min(done, 3)] {
				for range 2 { // as after a loss of power
					if err := s.do(ctx, next); err != nil {
						t.Fatalf("%s: %v", s.name, err)
					}
				}
			}
			if runs, err := f.Runs(ctx, next); err != nil || runs != (done > 1) {
				t.Errorf("after %d steps it runs: %v %v", done, runs, err)
			}
			for range 2 {
				if err := f.Rollback(ctx, next); err != nil {
					t.Fatal(err)
				}
			}
			if got := read(f); got != want {
				t.Errorf("after %d steps and back %q runs, want %q", done, got, want)
			}
		}
	}
}

func TestFilesTakeOnlyWhatIsSigned(t *testing.T) {
	f := &Files{Path: filepath.Join(t.TempDir(), "app")}
	next := task(t, 1, "v1", "app", []byte("one"))
	if err := os.WriteFile(next.Files["app"], []byte("two"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := f.Prepare(context.Background(), next); err == nil || !strings.Contains(err.Error(), "changed") {
		t.Errorf("changed on the disk: %v", err)
	}
	if err := f.Install(context.Background(), next); err == nil {
		t.Error("it was made what starts next")
	}
}

func archiveOf(t *testing.T, entries ...tar.Header) []byte {
	t.Helper()
	var text bytes.Buffer
	packed := gzip.NewWriter(&text)
	w := tar.NewWriter(packed)
	for _, e := range entries {
		if e.Typeflag == tar.TypeReg {
			e.Size = 3
		}
		if e.Mode == 0 {
			e.Mode = 0o755
		}
		if err := w.WriteHeader(&e); err != nil {
			t.Fatal(err)
		}
		if e.Typeflag == tar.TypeReg {
			if _, err := w.Write([]byte("abc")); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if err := packed.Close(); err != nil {
		t.Fatal(err)
	}
	return text.Bytes()
}

func TestArchivesStayInTheirDirectory(t *testing.T) {
	outside := filepath.Join(t.TempDir(), "outside")
	for name, c := range map[string]struct {
		entries []tar.Header
		fails   bool
	}{
		"files and links":       {[]tar.Header{{Name: "bin/app", Typeflag: tar.TypeReg}, {Name: "lib", Typeflag: tar.TypeDir}, {Name: "run", Linkname: "bin/app", Typeflag: tar.TypeSymlink}}, false},
		"a path that leads out": {[]tar.Header{{Name: "../evil", Typeflag: tar.TypeReg}}, true},
		"through a link":        {[]tar.Header{{Name: "out", Linkname: filepath.Dir(outside), Typeflag: tar.TypeSymlink}, {Name: "out/outside", Typeflag: tar.TypeReg}}, true},
		"an absolute path":      {[]tar.Header{{Name: outside, Typeflag: tar.TypeReg}}, true},
		"a device":              {[]tar.Header{{Name: "null", Typeflag: tar.TypeChar}}, true},
		"more than is taken":    {[]tar.Header{{Name: "1", Typeflag: tar.TypeReg}, {Name: "2", Typeflag: tar.TypeReg}, {Name: "3", Typeflag: tar.TypeReg}, {Name: "4", Typeflag: tar.TypeReg}}, true},
	} {
		t.Run(name, func(t *testing.T) {
			f := &Files{Path: filepath.Join(t.TempDir(), "app"), Unpack: true, Most: 10}
			err := f.Prepare(context.Background(), task(t, 1, "v1", "app.tar.gz", archiveOf(t, c.entries...)))
			if (err != nil) != c.fails {
				t.Errorf("it ended with %v", err)
			}
			if _, err := os.Stat(outside); err == nil {
				t.Error("a file was written outside")
			}
		})
	}
}

// program writes a script that notes how it was called.
func program(t *testing.T, name, body string) (path string, called func() string) {
	t.Helper()
	dir := t.TempDir()
	path, log := filepath.Join(dir, name), filepath.Join(dir, "log")
	if err := os.WriteFile(path, fmt.Appendf(nil, "#!/bin/sh\necho \"$*\" >>%s\n%s\n", log, body), 0o700); err != nil {
		t.Fatal(err)
	}
	return path, func() string {
		text, err := os.ReadFile(log)
		if err != nil {
			return ""
		}
		return strings.ReplaceAll(strings.TrimSpace(string(text)), "\n", "; ")
	}
}

func TestScripts(t *testing.T) {
	ctx, out := context.Background(), filepath.Join(t.TempDir(), "out")
	body := "#!/bin/sh\necho $1 $SLIPWAY_VERSION $SLIPWAY_PREVIOUS $(ls) >>" + out + "\ntest $1 != install || { echo no room; exit 3; }\n"
	next := task(t, 1, "v1", "setup.sh", []byte(body))
	h := &Script{}
	if err := h.Prepare(ctx, next); err != nil {
		t.Fatal(err)
	}
	if err := h.Install(ctx, next); err == nil || !strings.Contains(err.Error(), "no room") || !strings.Contains(err.Error(), "3") {
		t.Errorf("a script that fails: %v", err)
	}
	if err := h.Rollback(ctx, next); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(out)
	if got := strings.ReplaceAll(string(text), "\n", "; "); err != nil || got != "prepare v1 v0 setup.sh; install v1 v0 setup.sh; rollback v1 v0 setup.sh; " {
		t.Errorf("it was called: %s %v", got, err)
	}
}

func TestContainersAreLoadedAndTagged(t *testing.T) {
	docker, called := program(t, "docker", "")
	ctx, h, next := context.Background(), Container(docker), task(t, 1, "v1", "image.tar", []byte("image"))
	for _, s := range append(steps(h), action{"rollback", h.Rollback}) {
		if err := s.do(ctx, next); err != nil {
			t.Fatal(err)
		}
	}
	want := "load --input " + next.Files["image.tar"] + "; tag app:v1 app:current; tag app:v0 app:current"
	if called() != want {
		t.Errorf("docker was called: %s", called())
	}
	next.Previous = ""
	if err := h.Rollback(ctx, next); err != nil || called() != want {
		t.Errorf("with nothing to go back to: %s %v", called(), err)
	}
}

func TestRAUCWritesTheOtherSlotAndMarks(t *testing.T) {
	ctx, slot := context.Background(), filepath.Join(t.TempDir(), "slot")
	boot := func(name string) {
		if err := os.WriteFile(slot, []byte(name), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	boot("A")
	rauc, called := program(t, "rauc", `test "$2" != --output-format=json || printf '{"compatible":"gw","booted":"%s"}' "$(cat `+slot+`)"`)
	h, next := &RAUC{Command: rauc}, task(t, 1, "v1", "os.raucb", []byte("bundle"))
	if err := h.Prepare(ctx, next); err != nil {
		t.Fatal(err)
	}
	if err := h.Install(ctx, next); err != nil {
		t.Fatal(err)
	}
	if runs, err := h.Runs(ctx, next); err != nil || runs {
		t.Errorf("before the restart it runs: %v %v", runs, err)
	}
	boot("B")
	if runs, err := h.Runs(ctx, next); err != nil || !runs {
		t.Errorf("after the restart it runs: %v %v", runs, err)
	}
	if err := h.Commit(ctx, next); err != nil || !strings.Contains(called(), "install "+next.Files["os.raucb"]) || !strings.HasSuffix(called(), "status mark-good booted") {
		t.Errorf("rauc was called: %s %v", called(), err)
	}
	if err := h.Rollback(ctx, next); err != nil || !strings.HasSuffix(called(), "status mark-active other") {
		t.Errorf("rauc was called: %s %v", called(), err)
	}
}

func TestSWUpdateIsBelievedByItsBootLoader(t *testing.T) {
	ctx, dir := context.Background(), t.TempDir()
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	state := filepath.Join(dir, "ustate")
	for name, body := range map[string]string{
		"swupdate":    "echo 1 >" + state,
		"fw_printenv": "cat " + state,
		"fw_setenv":   "echo $2 >" + state,
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("#!/bin/sh\n"+body+"\n"), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	h, next := SWUpdate(), task(t, 1, "v1", "app.swu", []byte("image"))
	if err := h.Install(ctx, next); err != nil {
		t.Fatal(err)
	}
	for ustate, want := range map[string]bool{"1": false, "2": true, "3": false} {
		if err := os.WriteFile(state, []byte(ustate+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		if runs, err := h.Runs(ctx, next); err != nil || runs != want {
			t.Errorf("with ustate %s it runs: %v %v", ustate, runs, err)
		}
	}
	if err := h.Commit(ctx, next); err != nil {
		t.Fatal(err)
	}
	if text, err := os.ReadFile(state); err != nil || string(text) != "0\n" {
		t.Errorf("ustate is %q %v", text, err)
	}
}
