package blob

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"time"

	"github.com/slipway/slipway/internal/problem"
)

// Dir is a bucket in a directory. An object is written as a draft, brought to
// disk, and given its name then.
type Dir string

const drafts = "drafts"

func (d Dir) at(name string) string { return filepath.Join(string(d), filepath.FromSlash(name)) }

// Put implements Bucket.
func (d Dir) Put(_ context.Context, name string, size int64, content io.Reader) error {
	return d.write(name, size, content, os.Rename)
}

// Create implements Bucket. A directory keeps nothing from being removed.
func (d Dir) Create(_ context.Context, name string, size int64, content io.Reader, _ time.Time) error {
	if _, err := os.Lstat(d.at(name)); err == nil {
		return taken(name)
	}
	// A link, unlike a new name, is refused where there is a file.
	err := d.write(name, size, content, os.Link)
	if errors.Is(err, fs.ErrExist) {
		err = taken(name)
	}
	return err
}

func taken(name string) error { return problem.New(problem.Conflict, "there is a %s already", name) }

// write brings a draft to disk and names it.
func (d Dir) write(name string, size int64, content io.Reader, naming func(draft, file string) error) (err error) {
	file := d.at(name)
	if err := makeDir(d.at(drafts)); err != nil {
		return err
	}
	draft, err := os.CreateTemp(d.at(drafts), "draft-*")
	if err != nil {
		return err
	}
	n, err := io.Copy(draft, io.LimitReader(content, size+1))
	if err == nil && n != size {
		err = problem.New(problem.Invalid, "there came %d bytes where %d were announced; send them again", n, size)
	}
	if err == nil {
		err = draft.Sync()
	}
	if err = errors.Join(err, draft.Close()); err != nil {
		return errors.Join(err, os.Remove(draft.Name()))
	}
	err = place(draft.Name(), file, naming)
	if removing := os.Remove(draft.Name()); !errors.Is(removing, fs.ErrNotExist) {
		err = errors.Join(err, removing) // a link or a failure leaves the draft
	}
	return err
}

// placings is how often a directory may be taken away, by who removed the last
// object in it, while another is put there.
const placings = 10

// place gives a draft its name, to stay.
func place(draft, file string, naming func(draft, file string) error) (err error) {
	for range placings {
		if err = makeDir(filepath.Dir(file)); err == nil {
			err = naming(draft, file)
		}
		if err == nil {
			break
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	if err != nil {
		return err
	}
	if err := syncDir(filepath.Dir(file)); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil // the object was removed at once, and its directory with it
}

// Get implements Bucket.
func (d Dir) Get(_ context.Context, name string, offset int64) (io.ReadCloser, error) {
	file, err := os.Open(d.at(name))
	if err != nil {
		return nil, absent(name, err)
	}
	if _, err := file.Seek(offset, io.SeekStart); err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return file, nil
}

// Size implements Bucket.
func (d Dir) Size(_ context.Context, name string) (int64, error) {
	info, err := os.Stat(d.at(name))
	if err != nil {
		return 0, absent(name, err)
	}
	return info.Size(), nil
}

func absent(name string, err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return problem.New(problem.NotFound, "there is no %s", name)
	}
	return fmt.Errorf("blob: %w", err)
}

// List implements Bucket.
func (d Dir) List(_ context.Context, prefix string) ([]Object, error) {
	entries, err := os.ReadDir(d.at(prefix))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var all []Object
	for _, entry := range entries {
		info, infoErr := entry.Info()
		if infoErr == nil && info.Mode().IsRegular() {
			all = append(all, Object{path.Join(prefix, entry.Name()), info.Size()})
		}
	}
	return all, err
}

// Remove implements Bucket. A directory goes with its last object.
func (d Dir) Remove(_ context.Context, name string) error {
	file := d.at(name)
	if err := os.Remove(file); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	_ = os.Remove(filepath.Dir(file)) // fails, as it should, where others are in it
	return nil
}

// Sweep implements Bucket.
func (d Dir) Sweep(_ context.Context, before time.Time) error {
	entries, err := os.ReadDir(d.at(drafts))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	for _, entry := range entries {
		info, infoErr := entry.Info()
		if infoErr != nil || !info.ModTime().Before(before) {
			continue
		}
		if err := os.Remove(filepath.Join(d.at(drafts), entry.Name())); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return err
}

// makeDir makes a directory and those above it, to stay.
func makeDir(dir string) error {
	if info, err := os.Stat(dir); err == nil && info.IsDir() {
		return nil
	}
	above := filepath.Dir(dir)
	if err := makeDir(above); err != nil {
		return err
	}
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return syncDir(above)
}

func syncDir(dir string) error {
	holder, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(holder.Sync(), holder.Close())
}
