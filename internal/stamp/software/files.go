package software

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"sync"
	"time"

	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/problem"
)

// Control is where files come from.
type Control interface {
	Artifact(ctx context.Context, req link.ReadPart) (link.Part, error)
	Metadata(ctx context.Context, req link.ReadPart) (link.Part, error)
}

// DefaultSpace is how many bytes of artifacts a stamp keeps at most.
const DefaultSpace = 64 << 30

// files are the artifacts of the stamp, by the SHA-256 of their content: one
// that is there under its name is whole. What is on its way has the name with
// partial behind it.
type files struct {
	dir     string
	space   int64
	control Control
	whole   sync.Map // digests of releases all of whose artifacts are there
}

const partial = ".partial"

var digestName = regexp.MustCompile(`^[0-9a-f]{64}$`)

func openFiles(dir string, space int64, control Control) (*files, error) {
	return &files{dir: dir, space: space, control: control}, os.MkdirAll(dir, 0o700)
}

func (f *files) path(sha string) string { return filepath.Join(f.dir, sha) }

// has reports whether an artifact is there.
func (f *files) has(sha string) bool {
	info, err := os.Stat(f.path(sha))
	return err == nil && info.Mode().IsRegular()
}

// ready reports whether all artifacts of a release's software are there.
func (f *files) ready(r *link.Release) bool {
	if _, known := f.whole.Load(r.Digest); known {
		return true
	}
	for _, a := range artifactsOf(r) {
		if !f.has(a.SHA256) {
			return false
		}
	}
	f.whole.Store(r.Digest, true)
	return true
}

// artifactsOf are the files of a release that a stamp needs: what devices
// install, and what works on their messages.
func artifactsOf(r *link.Release) (all []link.Artifact) {
	for _, one := range r.Spec.Software {
		all = append(all, one.Artifacts...)
	}
	for _, route := range r.Spec.Routes {
		if route.Spec.Processor != nil {
			all = append(all, route.Spec.Processor.Artifact)
		}
	}
	return all
}

// open opens an artifact.
func (f *files) open(sha string) (*os.File, int64, error) {
	if !digestName.MatchString(sha) {
		return nil, 0, problem.New(problem.Invalid, "an artifact is named by its SHA-256 as 64 hexadecimal digits").At("sha256")
	}
	file, err := os.Open(f.path(sha))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, 0, problem.New(problem.NotFound, "the stamp does not have the artifact %s", sha)
	}
	if err != nil {
		return nil, 0, err
	}
	info, err := file.Stat()
	if err != nil {
		return nil, 0, errors.Join(err, file.Close())
	}
	return file, info.Size(), nil
}

// fetch brings an artifact from control, from where an earlier try ended.
func (f *files) fetch(ctx context.Context, a link.Artifact) (err error) {
	if !digestName.MatchString(a.SHA256) {
		return problem.New(problem.Invalid, "an artifact is named by its SHA-256, not %q", a.SHA256)
	}
	file, err := os.OpenFile(f.path(a.SHA256)+partial, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	sum := sha256.New()
	had, err := io.Copy(sum, file)
	if err != nil {
		return err
	}
	if err := f.receive(ctx, a, file, sum, had); err != nil {
		return err
	}
	if hex.EncodeToString(sum.Sum(nil)) != a.SHA256 {
		return errors.Join(problem.New(problem.Conflict, "what control sent as artifact %s is something else; trying again from its beginning", a.SHA256), os.Remove(file.Name()))
	}
	if err := file.Sync(); err != nil {
		return err
	}
	if err := os.Rename(file.Name(), f.path(a.SHA256)); err != nil {
		return err
	}
	return syncDir(f.dir)
}

// receive writes down the parts of an artifact that are not there.
func (f *files) receive(ctx context.Context, a link.Artifact, file io.Writer, sum hash.Hash, offset int64) error {
	for {
		part, err := f.control.Artifact(ctx, link.ReadPart{Name: a.SHA256, Offset: offset})
		if err != nil {
			return err
		}
		end := offset + int64(len(part.Data))
		if end > part.Size || a.Size > 0 && part.Size != a.Size || len(part.Data) > link.MaxPart || part.Size > f.space {
			return problem.New(problem.Conflict, "control sends %d bytes of artifact %s from %d of %d, which cannot be", len(part.Data), a.SHA256, offset, part.Size)
		}
		if _, err := file.Write(part.Data); err != nil {
			return err
		}
		sum.Write(part.Data) // a hash takes everything
		if offset = end; offset == part.Size {
			return nil
		}
		if len(part.Data) == 0 {
			return problem.New(problem.NotReady, "control has nothing of artifact %s from %d on", a.SHA256, offset)
		}
	}
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// sweep removes the artifacts that nobody needs.
func (f *files) sweep(needed map[string]bool) error {
	entries, err := os.ReadDir(f.dir)
	if err != nil {
		return err
	}
	var failures []error
	for _, entry := range entries {
		sha := entry.Name()
		if len(sha) > 64 {
			sha = sha[:64]
		}
		if !needed[sha] {
			f.whole.Clear()
			failures = append(failures, os.Remove(f.path(entry.Name())))
		}
	}
	return errors.Join(failures...)
}

// used is how many bytes the artifacts take.
func (f *files) used() (total int64, err error) {
	entries, err := os.ReadDir(f.dir)
	for _, entry := range entries {
		if info, err := entry.Info(); err == nil {
			total += info.Size()
		}
	}
	return total, err
}

const (
	fetchAgain = 5 * time.Second // after a failure
	fetchCheck = time.Minute     // without a reason
)

// mirror keeps the artifacts of the document's releases here until ctx ends.
func (e *Engine) mirror(ctx context.Context) {
	for ctx.Err() == nil {
		wait := fetchCheck
		if err := e.mirrorOnce(ctx); err != nil && ctx.Err() == nil {
			e.Logger.Warn("not all artifacts are here; trying again", "error", err)
			wait = fetchAgain
		}
		select {
		case <-ctx.Done():
		case <-e.fetch:
		case <-time.After(wait):
		}
	}
}

// mirrorOnce fetches what is missing. A release that cannot be had does not
// keep the other from being fetched.
func (e *Engine) mirrorOnce(ctx context.Context) error {
	p := e.plan.Load()
	if p == nil {
		return nil
	}
	var failures []error
	if p.Base != nil {
		failures = append(failures, e.mirrorRelease(ctx, p.Base))
	}
	if p.Rollout != nil {
		failures = append(failures, e.mirrorRelease(ctx, &p.Rollout.Release))
	}
	return errors.Join(failures...)
}

func (e *Engine) mirrorRelease(ctx context.Context, r *link.Release) error {
	fetched := false
	for _, a := range artifactsOf(r) {
		if e.files.has(a.SHA256) {
			continue
		}
		if err := e.makeRoom(ctx, a.Size); err != nil {
			return err
		}
		if err := e.files.fetch(ctx, a); err != nil {
			return fmt.Errorf("release %s, artifact %s: %w", r.Name, a.File, err)
		}
		fetched = true
	}
	if fetched {
		e.Logger.Info("the artifacts of a release are here", "release", r.Name)
		e.hurry()
		if e.Fetched != nil {
			e.Fetched()
		}
	}
	return nil
}

// makeRoom sees to it that an artifact fits in.
func (e *Engine) makeRoom(ctx context.Context, size int64) error {
	used, err := e.files.used()
	if err != nil || used+size <= e.files.space {
		return err
	}
	if err := e.sweep(ctx); err != nil {
		return err
	}
	if used, err = e.files.used(); err == nil && used+size > e.files.space {
		err = problem.New(problem.TooLarge, "the artifacts of the stamp have %d bytes, and with this one's %d would have more than the %d allowed", used, size, e.files.space)
	}
	return err
}

// sweep removes the artifacts of releases that no document and no twin speaks
// of.
func (e *Engine) sweep(ctx context.Context) error {
	releases, err := e.releases(ctx)
	if err != nil {
		return err
	}
	needed := map[string]bool{}
	for _, r := range releases {
		for _, a := range artifactsOf(&r) {
			needed[a.SHA256] = true
		}
	}
	return e.files.sweep(needed)
}
