package update

import (
	"archive/tar"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// Files installs into two directories, a and b, below its own, of which the
// symbolic link current names the one that runs. Changing the link is one step
// that nothing can cut in two.
type Files struct {
	Path string // of the directory that holds a, b and current
	// Unpack takes artifacts that are tar archives, maybe gzipped, apart.
	Unpack bool
	// Most is how many bytes may come out of them; default a gigabyte.
	Most int64
	// Starts is what has to start anew; default the software's service.
	Starts Restart
}

// marker is written into a directory once all else in it is there for good.
const marker = ".slipway.json"

type mark struct {
	Job     int64  `json:"job"`
	Version string `json:"version"`
}

// Name is files.
func (f *Files) Name() string { return "files" }

// Restart is Starts.
func (f *Files) Restart() Restart { return f.Starts }

// Prepare writes the directory that does not run.
func (f *Files) Prepare(ctx context.Context, t Task) error {
	if err := os.MkdirAll(f.Path, 0o755); err != nil {
		return err
	}
	if f.slot(t.Job) != "" {
		return nil
	}
	slot := "a"
	if f.Current() == "a" {
		slot = "b"
	}
	if err := f.clear(slot); err != nil {
		return err
	}
	dir := filepath.Join(f.Path, slot)
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	if err := f.fill(ctx, dir, t); err != nil {
		return err
	}
	text, err := json.Marshal(mark{t.Job, t.Software.Version})
	if err != nil {
		return err
	}
	if err := WriteFile(filepath.Join(dir, marker), text, 0o644); err != nil {
		return err
	}
	return syncDirectory(f.Path)
}

// Install has the link name the new directory.
func (f *Files) Install(_ context.Context, t Task) error {
	slot := f.slot(t.Job)
	if slot == "" {
		return errNotInstalled
	}
	return f.point(slot)
}

// Runs reports whether the link names the new directory.
func (f *Files) Runs(_ context.Context, t Task) (bool, error) {
	slot := f.slot(t.Job)
	return slot != "" && slot == f.Current(), nil
}

// Commit has nothing to do: the link is as it should be, and the directory of
// before is overwritten when something follows.
func (f *Files) Commit(ctx context.Context, t Task) error {
	runs, err := f.Runs(ctx, t)
	if err == nil && !runs {
		err = errNotInstalled
	}
	return err
}

// Rollback has the link name the directory of before, and empties the new one.
func (f *Files) Rollback(_ context.Context, t Task) error {
	slot := f.slot(t.Job)
	if slot == "" {
		return nil
	}
	if slot == f.Current() {
		if err := f.back(slot); err != nil {
			return err
		}
	}
	return f.clear(slot)
}

func (f *Files) back(from string) error {
	other := "a"
	if from == "a" {
		other = "b"
	}
	if _, err := os.Stat(filepath.Join(f.Path, other)); err == nil {
		return f.point(other)
	}
	if err := os.Remove(filepath.Join(f.Path, "current")); err != nil { // nothing ran before
		return err
	}
	return syncDirectory(f.Path)
}

// Current is the directory the link names, a or b; empty: neither.
func (f *Files) Current() string {
	to, err := os.Readlink(filepath.Join(f.Path, "current"))
	if name := filepath.Base(to); err == nil && (name == "a" || name == "b") {
		return name
	}
	return ""
}

// slot is the directory that is complete for a job.
func (f *Files) slot(job int64) string {
	for _, slot := range []string{"a", "b"} {
		var m mark
		text, err := readFile(filepath.Join(f.Path, slot, marker), 4096)
		if err == nil && json.Unmarshal(text, &m) == nil && m.Job == job {
			return slot
		}
	}
	return ""
}

func (f *Files) point(slot string) error {
	draft := filepath.Join(f.Path, "current.new")
	if err := os.Remove(draft); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.Symlink(slot, draft); err != nil {
		return err
	}
	if err := os.Rename(draft, filepath.Join(f.Path, "current")); err != nil {
		return err
	}
	return syncDirectory(f.Path)
}

// clear removes a directory, first of all what says that it is complete.
func (f *Files) clear(slot string) error {
	dir := filepath.Join(f.Path, slot)
	if err := os.Remove(filepath.Join(dir, marker)); err == nil {
		err = syncDirectory(dir)
		if err != nil {
			return err
		}
	} else if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return os.RemoveAll(dir)
}

// fill copies or unpacks the artifacts. What is written is what was hashed:
// the copy is hashed as it is made.
func (f *Files) fill(ctx context.Context, dir string, t Task) error {
	root, err := os.OpenRoot(dir) // nothing in an archive leads out of it
	if err != nil {
		return err
	}
	defer root.Close() //nolint:errcheck // a directory that was read
	left := f.Most
	if left == 0 {
		left = 1 << 30
	}
	for _, a := range t.Software.Artifacts {
		if err := f.place(ctx, root, a, t.Files[a.File], &left); err != nil {
			return fmt.Errorf("%s: %w", a.File, err)
		}
	}
	return syncTree(dir)
}

func (f *Files) place(ctx context.Context, root *os.Root, a Artifact, path string, left *int64) (err error) {
	source, err := os.Open(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, source.Close()) }()
	sum := sha256.New()
	reader := io.TeeReader(source, sum)
	if f.Unpack && archive(a.File) {
		if err = unpack(ctx, root, reader, left); err == nil {
			_, err = io.Copy(io.Discard, reader)
		}
	} else {
		err = write(root, a.File, 0o755, reader, left)
	}
	if err == nil && hex.EncodeToString(sum.Sum(nil)) != a.SHA256 {
		err = errors.New("it was changed on this device")
	}
	return err
}

func archive(name string) bool {
	return strings.HasSuffix(name, ".tar") || strings.HasSuffix(name, ".tar.gz") || strings.HasSuffix(name, ".tgz")
}

var errBomb = errors.New("it holds more than this device takes")

func unpack(ctx context.Context, root *os.Root, source io.Reader, left *int64) error {
	head := make([]byte, 2)
	n, err := io.ReadFull(source, head)
	if err != nil {
		return err
	}
	source = io.MultiReader(strings.NewReader(string(head[:n])), source)
	if head[0] == 0x1f && head[1] == 0x8b {
		if source, err = gzip.NewReader(source); err != nil {
			return err
		}
	}
	archive := tar.NewReader(source)
	for entries := 0; ctx.Err() == nil; entries++ {
		entry, err := archive.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		if entries > 1_000_000 {
			return errBomb
		}
		if err := extract(root, archive, entry, left); err != nil {
			return fmt.Errorf("%s: %w", clip(entry.Name), err)
		}
	}
	return ctx.Err()
}

// extract takes one entry out; os.Root refuses paths and links that lead out
// of the directory.
func extract(root *os.Root, archive io.Reader, entry *tar.Header, left *int64) error {
	name := filepath.Clean(entry.Name)
	switch entry.Typeflag {
	case tar.TypeDir:
		return root.MkdirAll(name, 0o755)
	case tar.TypeReg:
		if err := root.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			return err
		}
		return write(root, name, entry.FileInfo().Mode().Perm(), archive, left)
	case tar.TypeSymlink:
		if err := root.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			return err
		}
		return root.Symlink(entry.Linkname, name)
	}
	return fmt.Errorf("an entry of type %q is not taken", entry.Typeflag)
}

func write(root *os.Root, name string, mode fs.FileMode, source io.Reader, left *int64) error {
	file, err := root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, mode)
	if err != nil {
		return err
	}
	n, err := io.Copy(file, io.LimitReader(source, *left+1))
	if *left -= n; err == nil && *left < 0 {
		err = errBomb
	}
	return errors.Join(err, file.Sync(), file.Close())
}

// syncTree makes the directories of a tree last; their files already do.
func syncTree(dir string) error {
	return filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.IsDir() {
			return err
		}
		return syncDirectory(path)
	})
}
