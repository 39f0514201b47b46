package blob

import (
	"context"
	"io"
	"net/http"
	"net/url"
	"path"
	"strings"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"

	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/problem"
)

// s3 is a bucket of a store that speaks the S3 protocol, which keeps drafts to
// itself.
type s3 struct {
	spec   link.S3
	client *minio.Client
}

// pieceSize is how much of an object is in memory on its way to a store.
const pieceSize = 16 << 20

// OpenS3 returns a bucket of a store that speaks the S3 protocol. It asks the
// store nothing yet.
func OpenS3(spec link.S3, transport http.RoundTripper) (Bucket, error) {
	at, err := url.Parse(spec.Endpoint)
	if err != nil || at.Host == "" || at.Scheme != "https" && at.Scheme != "http" {
		return nil, problem.New(problem.Invalid, "the URL of a store reads https://host:port, not %q", spec.Endpoint).At("endpoint")
	}
	client, err := minio.New(at.Host, &minio.Options{
		Creds: credentials.NewStaticV4(spec.AccessKey, spec.SecretKey, ""), Secure: at.Scheme == "https", Region: spec.Region,
		Transport: transport, BucketLookup: minio.BucketLookupPath, MaxRetries: 3,
	})
	if err != nil {
		return nil, problem.New(problem.Invalid, "s3: %w", err).At("endpoint")
	}
	return &s3{spec, client}, nil
}

func (s *s3) key(name string) string { return path.Join(s.spec.Prefix, name) }

// Put implements Bucket.
func (s *s3) Put(ctx context.Context, name string, size int64, content io.Reader) error {
	return s.put(ctx, name, size, content, minio.PutObjectOptions{})
}

// Create implements Bucket.
func (s *s3) Create(ctx context.Context, name string, size int64, content io.Reader, until time.Time) error {
	options := minio.PutObjectOptions{}
	options.SetMatchETagExcept("*")
	if !until.IsZero() {
		options.Mode, options.RetainUntilDate = minio.Compliance, until
		options.SendContentMd5 = true // without it stores refuse a lock
	}
	return s.put(ctx, name, size, content, options)
}

func (s *s3) put(ctx context.Context, name string, size int64, content io.Reader, options minio.PutObjectOptions) error {
	exact := &exactly{from: content, left: size}
	options.ContentType, options.PartSize = "application/octet-stream", pieceSize
	_, err := s.client.PutObject(ctx, s.spec.Bucket, s.key(name), exact, size, options)
	if exact.failed != nil {
		return exact.failed
	}
	return s.said(name, err)
}

// Locks reports whether a bucket keeps objects from being removed until a
// time, as Create asks.
func Locks(ctx context.Context, b Bucket) (bool, error) {
	store, ok := b.(*s3)
	if !ok {
		return false, nil
	}
	state, _, _, _, err := store.client.GetObjectLockConfig(ctx, store.spec.Bucket)
	told := minio.ToErrorResponse(err)
	switch {
	case err == nil:
		return state == "Enabled", nil
	case told.StatusCode == http.StatusNotFound, told.StatusCode == http.StatusNotImplemented, told.StatusCode == http.StatusMethodNotAllowed:
		return false, nil
	}
	return false, store.said(store.spec.Bucket, err)
}

// exactly fails unless a reader gives as much as was announced, and remembers
// why it failed.
type exactly struct {
	from   io.Reader
	left   int64
	failed error
}

// Read implements io.Reader.
func (e *exactly) Read(p []byte) (int, error) {
	n, err := e.from.Read(p)
	if e.left -= int64(n); e.left < 0 || err == io.EOF && e.left > 0 {
		err = problem.New(problem.Invalid, "there came more or less than was announced; send it again")
	}
	if err != nil && err != io.EOF {
		e.failed = err
	}
	return n, err
}

// Get implements Bucket.
func (s *s3) Get(ctx context.Context, name string, offset int64) (io.ReadCloser, error) {
	options := minio.GetObjectOptions{}
	if offset > 0 {
		if err := options.SetRange(offset, 0); err != nil {
			return nil, err
		}
	}
	core := minio.Core{Client: s.client}
	content, _, _, err := core.GetObject(ctx, s.spec.Bucket, s.key(name), options)
	if err != nil {
		if minio.ToErrorResponse(err).StatusCode == http.StatusRequestedRangeNotSatisfiable {
			return http.NoBody, nil // at its end
		}
		return nil, s.said(name, err)
	}
	return content, nil
}

// Size implements Bucket.
func (s *s3) Size(ctx context.Context, name string) (int64, error) {
	info, err := s.client.StatObject(ctx, s.spec.Bucket, s.key(name), minio.StatObjectOptions{})
	return info.Size, s.said(name, err)
}

// List implements Bucket.
func (s *s3) List(ctx context.Context, prefix string) ([]Object, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // ends the listing where it is left early
	var all []Object
	for info := range s.client.ListObjects(ctx, s.spec.Bucket, minio.ListObjectsOptions{Prefix: s.key(prefix) + "/", Recursive: true}) {
		if info.Err != nil {
			return nil, s.said(prefix, info.Err)
		}
		all = append(all, Object{strings.TrimPrefix(strings.TrimPrefix(info.Key, s.spec.Prefix), "/"), info.Size})
	}
	return all, nil
}

// Remove implements Bucket.
func (s *s3) Remove(ctx context.Context, name string) error {
	err := s.said(name, s.client.RemoveObject(ctx, s.spec.Bucket, s.key(name), minio.RemoveObjectOptions{}))
	if problem.Is(err, problem.NotFound) {
		return nil
	}
	return err
}

// Sweep implements Bucket: the store ends what was left half sent by the rules
// of its own.
func (s *s3) Sweep(context.Context, time.Time) error { return nil }

// said puts what the store says into our vocabulary.
func (s *s3) said(name string, err error) error {
	if err == nil {
		return nil
	}
	told := minio.ToErrorResponse(err)
	switch {
	case told.StatusCode == http.StatusPreconditionFailed:
		return taken(name)
	case told.Code == minio.NoSuchKey || told.StatusCode == http.StatusNotFound:
		return problem.New(problem.NotFound, "there is no %s", name)
	case told.StatusCode == http.StatusForbidden || told.StatusCode == http.StatusUnauthorized:
		return problem.New(problem.NotReady, "the store of objects refuses access: %w", err)
	}
	return problem.New(problem.NotReady, "the store of objects cannot be reached: %w", err)
}
