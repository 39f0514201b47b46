package endpoint

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
	"github.com/parquet-go/parquet-go"

	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/problem"
)

// archive writes each batch as files, one for each hour its messages are of.
// A file is named by its messages, so that a batch that comes again replaces
// its files instead of adding to them.
type archive struct {
	spec    link.Archive
	options Options
	put     func(ctx context.Context, name string, content []byte) error
}

func openArchive(spec link.Archive, o Options) (*archive, error) {
	a := &archive{spec: spec, options: o}
	if spec.S3 == nil {
		a.put = directory(filepath.Join(o.Archive, filepath.FromSlash(spec.Directory))).put
		return a, nil
	}
	store, err := openS3(*spec.S3, o)
	if err != nil {
		return nil, err
	}
	a.put = store.put
	return a, nil
}

// Send implements Endpoint.
func (a *archive) Send(ctx context.Context, batch []Message) error {
	ctx, cancel := context.WithTimeout(ctx, 2*sendWait)
	defer cancel()
	for len(batch) > 0 {
		hour := batch[0].EnqueuedTime.UTC().Truncate(time.Hour)
		n := 1
		for n < len(batch) && batch[n].EnqueuedTime.UTC().Truncate(time.Hour).Equal(hour) {
			n++
		}
		content, extension, err := a.encode(batch[:n])
		if err != nil {
			return err
		}
		if err := a.put(ctx, a.name(hour, batch[:n], extension), content); err != nil {
			return err
		}
		batch = batch[n:]
	}
	return nil
}

// name partitions files the way query engines find them.
func (a *archive) name(hour time.Time, batch []Message, extension string) string {
	return path.Join("environment="+a.options.Environment, "stamp="+a.options.Stamp, "route="+a.options.Route, hour.Format("date=2006-01-02"), hour.Format("hour=15"),
		fmt.Sprintf("%020d-%020d.%s", batch[0].Sequence, batch[len(batch)-1].Sequence, extension))
}

// row is a message as a row of a Parquet file.
type row struct {
	DeviceID     string    `parquet:"device_id,dict"`
	Sequence     uint64    `parquet:"sequence,delta"`
	EnqueuedTime time.Time `parquet:"enqueued_time,timestamp(microsecond)"`
	Message      string    `parquet:"message,json,zstd"`
}

func (a *archive) encode(batch []Message) (content []byte, extension string, err error) {
	var b bytes.Buffer
	if a.spec.Format == "parquet" {
		rows := make([]row, len(batch))
		for i, m := range batch {
			rows[i] = row{m.DeviceID, m.Sequence, m.EnqueuedTime.UTC(), string(m.JSON)}
		}
		err := parquet.Write(&b, rows)
		return b.Bytes(), "parquet", err
	}
	w := gzip.NewWriter(&b)
	for _, m := range batch {
		if _, err := w.Write(append(m.JSON[:len(m.JSON):len(m.JSON)], '\n')); err != nil {
			return nil, "", err
		}
	}
	err = w.Close() // before the bytes are looked at: it writes the last of them
	return b.Bytes(), "jsonl.gz", err
}

// Close implements Endpoint.
func (a *archive) Close() error { return nil }

// directory is an archive on this machine.
type directory string

// put writes a file whole or not at all, and on disk when it returns.
func (d directory) put(_ context.Context, name string, content []byte) (err error) {
	file := filepath.Join(string(d), filepath.FromSlash(name))
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		return err
	}
	draft, err := os.CreateTemp(filepath.Dir(file), ".draft-*")
	if err != nil {
		return err
	}
	_, err = draft.Write(content)
	if err = errors.Join(err, draft.Sync(), draft.Close()); err != nil {
		return errors.Join(err, os.Remove(draft.Name()))
	}
	if err := os.Rename(draft.Name(), file); err != nil {
		return err
	}
	holder, err := os.Open(filepath.Dir(file))
	if err != nil {
		return err
	}
	return errors.Join(holder.Sync(), holder.Close())
}

// s3Store is an archive in a bucket.
type s3Store struct {
	spec   link.S3
	client *minio.Client
}

func openS3(spec link.S3, o Options) (*s3Store, error) {
	at, err := url.Parse(spec.Endpoint)
	if err != nil {
		return nil, problem.New(problem.Invalid, "the endpoint cannot be read: %w", err).At("spec.endpoint.archive.s3.endpoint")
	}
	client, err := minio.New(at.Host, &minio.Options{
		Creds: credentials.NewStaticV4(spec.AccessKey, spec.SecretKey, ""), Secure: at.Scheme == "https", Region: spec.Region,
		Transport: o.Guard.Client(0).Transport, BucketLookup: minio.BucketLookupPath, MaxRetries: 1,
	})
	if err != nil {
		return nil, problem.New(problem.Invalid, "s3: %w", err).At("spec.endpoint.archive.s3")
	}
	return &s3Store{spec, client}, nil
}

func (s *s3Store) put(ctx context.Context, name string, content []byte) error {
	_, err := s.client.PutObject(ctx, s.spec.Bucket, path.Join(s.spec.Prefix, name), bytes.NewReader(content), int64(len(content)), minio.PutObjectOptions{ContentType: "application/octet-stream"})
	if err != nil {
		return fmt.Errorf("s3: %w", err)
	}
	return nil
}
