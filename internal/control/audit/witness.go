package audit

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"time"

	"github.com/slipway/slipway/internal/blob"
	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/sqldb"
)

// Witness keeps checkpoints where who runs this installation cannot change
// them: what it has seen, the log has to go on from.
type Witness struct {
	Name string
	Keep func(ctx context.Context, c Checkpoint) error
}

// WitnessState is how far a witness has come.
type WitnessState struct {
	Name    string     `json:"name"`
	Size    int64      `json:"size" doc:"Entries of the newest checkpoint that it keeps"`
	At      *time.Time `json:"at,omitempty" doc:"When it took that"`
	Problem string     `json:"problem,omitempty" doc:"Why it did not take the last"`
}

// InFile has a file keep every checkpoint, one behind the other, such as on a
// disk that is written once.
func InFile(path string) Witness {
	return Witness{"file " + path, func(_ context.Context, c Checkpoint) error {
		file, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
		if err != nil {
			return err
		}
		_, err = file.WriteString(c.Note + checkpointEnd)
		return errors.Join(err, file.Sync(), file.Close())
	}}
}

// checkpointEnd stands behind each checkpoint in a file of several.
const checkpointEnd = "----\n"

// SplitCheckpoints takes the checkpoints out of a file that holds one, or the
// many that a witness kept.
func SplitCheckpoints(text []byte) []string {
	var all []string
	for _, one := range bytes.Split(text, []byte(checkpointEnd)) {
		if len(bytes.TrimSpace(one)) > 0 {
			all = append(all, string(one))
		}
	}
	return all
}

// AtURL sends each checkpoint to a URL, as it is.
func AtURL(url string, client *http.Client) Witness {
	return Witness{"url " + url, func(ctx context.Context, c Checkpoint) error {
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader([]byte(c.Note)))
		if err != nil {
			return err
		}
		req.Header.Set("Content-Type", "text/plain; charset=utf-8")
		resp, err := client.Do(req)
		if err != nil {
			return err
		}
		_, err = io.Copy(io.Discard, io.LimitReader(resp.Body, 64<<10))
		if resp.StatusCode >= 300 {
			err = errors.Join(err, fmt.Errorf("it answered %s", resp.Status))
		}
		return errors.Join(err, resp.Body.Close())
	}}
}

// InBucket puts each checkpoint into a bucket, such as one whose objects
// cannot be changed for a time.
func InBucket(name string, bucket blob.Bucket) Witness {
	return Witness{"bucket " + name, func(ctx context.Context, c Checkpoint) error {
		return bucket.Put(ctx, fmt.Sprintf("checkpoints/%016d", c.Size), int64(len(c.Note)), bytes.NewReader([]byte(c.Note)))
	}}
}

// publishTimeout bounds how long one witness is waited for.
const publishTimeout = 20 * time.Second

// Publish signs the log if it has grown, and gives each witness the newest
// checkpoint that it has not. What one does not take it is offered again.
func (l *Log) Publish(ctx context.Context) error {
	if err := l.Renew(ctx); err != nil {
		return err
	}
	c, err := l.Latest(ctx)
	if err != nil {
		return err
	}
	known, err := l.witnessed(ctx)
	if err != nil {
		return err
	}
	var failures []error
	for _, w := range l.Witnesses {
		before := known[w.Name]
		if before.Size == c.Size && before.Problem == "" {
			continue
		}
		if err := l.publish(ctx, w, before, c); err != nil {
			failures = append(failures, fmt.Errorf("witness %s: %w", w.Name, err))
		}
	}
	return errors.Join(failures...)
}

func (l *Log) publish(ctx context.Context, w Witness, before WitnessState, c Checkpoint) error {
	limited, cancel := context.WithTimeout(ctx, publishTimeout)
	defer cancel()
	failure := error(nil)
	if before.Size > c.Size {
		failure = problem.New(problem.Internal, "it has seen %d entries, and there are %d: the log is damaged", before.Size, c.Size)
	} else {
		failure = w.Keep(limited, c)
	}
	said, size, at := "", c.Size, sqldb.Micros(l.now())
	if failure != nil {
		said, size, at = cut(failure.Error()), before.Size, 0
		if before.At != nil {
			at = sqldb.Micros(*before.At)
		}
	}
	return errors.Join(failure, l.db.Commit(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		_, err := tx.Exec(ctx, "INSERT INTO audit_witness (name, size, at, problem) VALUES (?, ?, ?, ?) ON CONFLICT (name) DO UPDATE SET size = excluded.size, at = excluded.at, problem = excluded.problem", w.Name, size, at, said)
		return err
	}))
}

func (l *Log) witnessed(ctx context.Context) (map[string]WitnessState, error) {
	all, err := sqldb.Rows(ctx, l.db, func(rows *sql.Rows) (w WitnessState, err error) {
		var at int64
		err = rows.Scan(&w.Name, &w.Size, &at, &w.Problem)
		if at > 0 {
			then := sqldb.Time(at)
			w.At = &then
		}
		return w, err
	}, "SELECT name, size, at, problem FROM audit_witness")
	by := map[string]WitnessState{}
	for _, w := range all {
		by[w.Name] = w
	}
	return by, err
}

// WitnessStates tell how far each witness has come.
func (l *Log) WitnessStates(ctx context.Context) ([]WitnessState, error) {
	known, err := l.witnessed(ctx)
	all := make([]WitnessState, len(l.Witnesses))
	for i, w := range l.Witnesses {
		all[i] = known[w.Name]
		all[i].Name = w.Name
	}
	return all, err
}
