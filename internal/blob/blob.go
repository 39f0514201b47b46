// Package blob keeps files by the SHA-256 of what is in them. A file comes in
// parts, which survive a crash, and is seen only when it is whole and its
// content is what it is named by. Several processes may share a store.
package blob

import (
	"context"
	"crypto/md5"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/slipway/slipway/internal/problem"
)

// Bucket keeps objects by name, which has slashes. An object is there whole or
// not at all.
type Bucket interface {
	// Put stores what content gives until it ends, which are size bytes. What
	// was there under the name is replaced.
	Put(ctx context.Context, name string, size int64, content io.Reader) error
	// Create is Put for an object that must not be there yet: otherwise it is
	// problem.Conflict, and what is there stays. Until a time that is not zero
	// nobody may remove or replace the object, where the bucket offers that.
	Create(ctx context.Context, name string, size int64, content io.Reader, until time.Time) error
	// Get reads an object from an offset on.
	Get(ctx context.Context, name string, offset int64) (io.ReadCloser, error)
	// Size tells how long an object is.
	Size(ctx context.Context, name string) (int64, error)
	// List returns the objects whose names begin with a prefix that ends in a
	// slash, in order of name.
	List(ctx context.Context, prefix string) ([]Object, error)
	// Remove removes an object, also one that is not there.
	Remove(ctx context.Context, name string) error
	// Sweep removes what writers that died before a moment left half written.
	Sweep(ctx context.Context, before time.Time) error
}

// Object is what a bucket tells of one object.
type Object struct {
	Name string
	Size int64
}

// Store keeps files by their content, in a bucket.
type Store struct{ bucket Bucket }

// New returns the files that are kept in a bucket.
func New(bucket Bucket) *Store { return &Store{bucket} }

// Digests are the digests of a file, in hex.
type Digests struct{ SHA256, SHA1, MD5 string }

func fileName(sha256 string) string { return "files/" + sha256[:2] + "/" + sha256 }

func partsOf(sha256 string) string { return "parts/" + sha256 + "/" }

func partName(sha256 string, offset int64) string {
	return partsOf(sha256) + fmt.Sprintf("%016d", offset)
}

// Size tells how long a file is that is here whole.
func (s *Store) Size(ctx context.Context, sha256 string) (int64, error) {
	return s.bucket.Size(ctx, fileName(sha256))
}

// Open reads a file that is here whole, from an offset on.
func (s *Store) Open(ctx context.Context, sha256 string, offset int64) (io.ReadCloser, error) {
	return s.bucket.Get(ctx, fileName(sha256), offset)
}

// Received tells how much of a file is here, from its beginning without a gap.
func (s *Store) Received(ctx context.Context, sha256 string) (int64, error) {
	size, err := s.Size(ctx, sha256)
	if !problem.Is(err, problem.NotFound) {
		return size, err
	}
	_, received, err := s.parts(ctx, sha256)
	return received, err
}

// parts are the parts of a file that follow one another. A part that begins
// inside another, which two senders at once may leave, is passed over.
func (s *Store) parts(ctx context.Context, sha256 string) (chain []Object, received int64, err error) {
	all, err := s.bucket.List(ctx, partsOf(sha256))
	for _, part := range all {
		if offset, err := strconv.ParseInt(strings.TrimPrefix(part.Name, partsOf(sha256)), 10, 64); err == nil && offset == received {
			chain, received = append(chain, part), received+part.Size
		}
	}
	return chain, received, err
}

// WritePart keeps a part of a file: size bytes that belong at an offset. Parts
// come in order; Received tells which is next.
func (s *Store) WritePart(ctx context.Context, sha256 string, offset, size int64, content io.Reader) error {
	return s.bucket.Put(ctx, partName(sha256, offset), size, content)
}

// Finish makes a file of its parts, which stay until Discard. Where their
// content is not what the file is named by, that is problem.Invalid, and there
// is no file.
func (s *Store) Finish(ctx context.Context, sha256 string, size int64) (Digests, error) {
	chain, received, err := s.parts(ctx, sha256)
	if err != nil {
		return Digests{}, err
	}
	if received != size {
		return s.digest(ctx, sha256, size)
	}
	joined := &joining{ctx: ctx, bucket: s.bucket, parts: chain}
	checked := newChecking(joined, sha256, size)
	err = s.bucket.Put(ctx, fileName(sha256), size, checked)
	if closeErr := joined.close(); err == nil {
		err = closeErr
	}
	switch {
	case checked.wrong != nil:
		err = checked.wrong
	case problem.Is(err, problem.NotFound):
		// Another sender of the same has finished it, and drops the parts.
		return s.digest(ctx, sha256, size)
	}
	return checked.digests(), err
}

// digest reads a file that is here whole already, as one does whose sender
// died before it heard so.
func (s *Store) digest(ctx context.Context, sha256 string, size int64) (Digests, error) {
	content, err := s.Open(ctx, sha256, 0)
	if problem.Is(err, problem.NotFound) {
		return Digests{}, problem.New(problem.Conflict, "parts of %s are missing; ask how much has arrived, and go on there", sha256)
	}
	if err != nil {
		return Digests{}, err
	}
	checked := newChecking(content, sha256, size)
	_, err = io.Copy(io.Discard, checked)
	if closeErr := content.Close(); err == nil {
		err = closeErr
	}
	return checked.digests(), err
}

// Discard drops the parts of a file.
func (s *Store) Discard(ctx context.Context, sha256 string) error {
	all, err := s.bucket.List(ctx, partsOf(sha256))
	if err != nil {
		return err
	}
	for _, part := range all {
		if err := s.bucket.Remove(ctx, part.Name); err != nil {
			return err
		}
	}
	return nil
}

// Remove removes a file with whatever there is of its parts.
func (s *Store) Remove(ctx context.Context, sha256 string) error {
	if err := s.Discard(ctx, sha256); err != nil {
		return err
	}
	return s.bucket.Remove(ctx, fileName(sha256))
}

// Sweep removes what writers that died before a moment left half written.
func (s *Store) Sweep(ctx context.Context, before time.Time) error {
	return s.bucket.Sweep(ctx, before)
}

// joining reads parts one after the other.
type joining struct {
	ctx    context.Context
	bucket Bucket
	parts  []Object
	open   io.ReadCloser
}

// Read implements io.Reader.
func (j *joining) Read(p []byte) (int, error) {
	for {
		if j.open == nil {
			if len(j.parts) == 0 {
				return 0, io.EOF
			}
			next, err := j.bucket.Get(j.ctx, j.parts[0].Name, 0)
			if err != nil {
				return 0, err
			}
			j.open, j.parts = next, j.parts[1:]
		}
		n, err := j.open.Read(p)
		if err == io.EOF {
			err = j.close()
		}
		if n > 0 || err != nil {
			return n, err
		}
	}
}

func (j *joining) close() error {
	if j.open == nil {
		return nil
	}
	err := j.open.Close()
	j.open = nil
	return err
}

// checking passes a file on while it works out the digests. It keeps the end
// back unless they are right, so that nobody has the whole of a wrong file.
type checking struct {
	from              io.Reader
	want              string
	left              int64
	sha256, sha1, md5 hash.Hash
	wrong             error
}

func newChecking(from io.Reader, want string, size int64) *checking {
	return &checking{from: from, want: want, left: size, sha256: sha256.New(), sha1: sha1.New(), md5: md5.New()}
}

// Read implements io.Reader.
func (c *checking) Read(p []byte) (int, error) {
	if c.wrong != nil || c.left == 0 {
		return 0, orEOF(c.wrong)
	}
	n, err := c.from.Read(p[:min(int64(len(p)), c.left)])
	c.left -= int64(n)
	for _, h := range []hash.Hash{c.sha256, c.sha1, c.md5} {
		if _, hashErr := h.Write(p[:n]); hashErr != nil {
			return 0, hashErr
		}
	}
	switch {
	case err == io.EOF && c.left > 0:
		c.wrong = problem.New(problem.Conflict, "parts of %s are missing; ask how much has arrived, and go on there", c.want)
		return 0, c.wrong
	case c.left == 0 && c.digests().SHA256 != c.want:
		c.wrong = problem.New(problem.Invalid, "the content has the SHA-256 %s, not %s as it was announced; nothing of it was kept", c.digests().SHA256, c.want).At("sha256")
		return 0, c.wrong
	case err == io.EOF:
		err = nil
	}
	return n, err
}

func orEOF(err error) error {
	if err == nil {
		return io.EOF
	}
	return err
}

func (c *checking) digests() Digests {
	text := func(h hash.Hash) string { return hex.EncodeToString(h.Sum(nil)) }
	return Digests{text(c.sha256), text(c.sha1), text(c.md5)}
}
