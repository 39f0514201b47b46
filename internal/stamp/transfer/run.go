package transfer

import (
	"bufio"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/sqldb"
)

// Registry is what is imported into and exported from, a line at a time.
type Registry interface {
	// ImportLine applies one line for an actor and says which identity it is about.
	ImportLine(ctx context.Context, line []byte, actor string) (id string, err error)
	// ExportLines returns the lines of the identities after one, in order, and
	// the last of their ids; no lines are the end.
	ExportLines(ctx context.Context, after string, keys bool) (lines [][]byte, last string, err error)
}

// The names of the files in a container.
const (
	devicesFile = "devices.txt"
	errorsFile  = "importErrors.log"
)

const (
	lookEvery  = time.Second
	checkpoint = 100 // lines between two looks at the transfer
)

// Wait bounds one request of storage, for the client that Options name.
const Wait = time.Hour

// Run works on transfers, one after another, until ctx ends.
func (r *Runner) Run(ctx context.Context, registry Registry) error {
	if err := os.MkdirAll(r.dir, 0o700); err != nil {
		return err
	}
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		if err := r.next(ctx, registry); err != nil && ctx.Err() == nil {
			r.logger.Error("imports and exports do not go on", "error", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		case <-r.kick:
		}
	}
}

// next takes up what is under way or waits, the oldest first.
func (r *Runner) next(ctx context.Context, registry Registry) error {
	for {
		t, found, err := sqldb.Row(ctx, r.db, scanTransfer, selectTransfer+" WHERE status IN ('enqueued', 'running') ORDER BY created_at, id LIMIT 1")
		if err != nil || !found {
			return err
		}
		if err := r.begin(ctx, t.ID); err != nil {
			return err
		}
		failure := r.work(ctx, registry, t)
		if ctx.Err() != nil {
			return nil // the next process goes on with it
		}
		if err := os.RemoveAll(r.pathOf(t)); err != nil {
			return err
		}
		status, text := Completed, ""
		if failure != nil {
			status, text = Failed, failure.Error()
			r.logger.Warn("a transfer of the registry failed", "job", t.ID, "type", t.Type, "error", text)
		}
		if err := r.end(ctx, t.ID, status, text); err != nil {
			return err
		}
	}
}

// begin marks a transfer as running and drops those long ended.
func (r *Runner) begin(ctx context.Context, id string) error {
	return r.db.Commit(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		if _, err := tx.Exec(ctx, "DELETE FROM transfer WHERE end_at < ?", sqldb.Micros(r.now().Add(-keepEnded))); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, "UPDATE transfer SET status = 'running' WHERE id = ? AND status = 'enqueued'", id)
		return err
	})
}

func (r *Runner) pathOf(t Transfer) string { return filepath.Join(r.dir, t.ID) }

// errCancelled ends the work on a transfer that was cancelled meanwhile.
var errCancelled = errors.New("cancelled")

func (r *Runner) work(ctx context.Context, registry Registry, t Transfer) error {
	if err := os.MkdirAll(r.pathOf(t), 0o700); err != nil {
		return err
	}
	move := r.export
	if t.Type == Import {
		move = r.importFile
	}
	err := move(ctx, registry, t)
	if errors.Is(err, errCancelled) {
		return nil // its end is written down already
	}
	return err
}

// export writes the registry to a file and puts it into the container.
func (r *Runner) export(ctx context.Context, registry Registry, t Transfer) error {
	path := filepath.Join(r.pathOf(t), devicesFile)
	file, err := os.Create(path)
	if err != nil {
		return err
	}
	out := bufio.NewWriter(file)
	err = r.writeLines(ctx, registry, t, out)
	if err = errors.Join(err, out.Flush(), file.Close()); err != nil {
		return err
	}
	return r.put(ctx, t.Output, devicesFile, path)
}

func (r *Runner) writeLines(ctx context.Context, registry Registry, t Transfer, out *bufio.Writer) error {
	var written int64
	for after := ""; ; {
		lines, last, err := registry.ExportLines(ctx, after, !t.ExcludeKeys)
		if err != nil || len(lines) == 0 {
			return err
		}
		for _, line := range lines {
			if _, err := out.Write(append(line, '\n')); err != nil {
				return err
			}
		}
		after, written = last, written+int64(len(lines))
		if err := r.note(ctx, t.ID, written, nil); err != nil {
			return err
		}
	}
}

// refusal is a line that was not applied.
type refusal struct {
	line int64
	text []byte
}

// importFile fetches the file, once, applies its lines in their order and puts a log
// of those refused into the container. After a restart it goes on at the last
// checkpoint: a line applied since then is applied again.
func (r *Runner) importFile(ctx context.Context, registry Registry, t Transfer) error {
	path := filepath.Join(r.pathOf(t), devicesFile)
	if _, err := os.Stat(path); err != nil {
		if err := r.get(ctx, t.Input, devicesFile, path); err != nil {
			return err
		}
	}
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer file.Close()
	if err := r.applyLines(ctx, registry, t, file); err != nil {
		return err
	}
	return r.putRefusals(ctx, t)
}

func (r *Runner) applyLines(ctx context.Context, registry Registry, t Transfer, file io.Reader) error {
	lines := bufio.NewScanner(file)
	lines.Buffer(nil, maxLine)
	var at int64
	var refused []refusal
	for lines.Scan() {
		if at++; at <= t.Lines {
			continue
		}
		line := []byte(strings.TrimPrefix(strings.TrimSpace(lines.Text()), "\ufeff"))
		if len(line) > 0 {
			if id, err := registry.ImportLine(ctx, line, t.Actor); ctx.Err() != nil {
				return ctx.Err()
			} else if err != nil {
				refused = append(refused, refusalOf(at, id, err))
			}
		}
		if at%checkpoint == 0 {
			if err := r.note(ctx, t.ID, at, refused); err != nil {
				return err
			}
			refused = nil
		}
	}
	if errors.Is(lines.Err(), bufio.ErrTooLong) {
		return problem.New(problem.TooLarge, "line %d of %s has more than %d bytes; the lines before it are applied", at+1, devicesFile, maxLine)
	}
	return errors.Join(lines.Err(), r.note(ctx, t.ID, at, refused))
}

func refusalOf(line int64, id string, err error) refusal {
	text, failed := json.Marshal(map[string]any{"line": line, "id": id, "errorStatus": problem.Of(err).Error()})
	if failed != nil {
		text = []byte(`{"errorStatus":"the line cannot be shown"}`)
	}
	return refusal{line, text}
}

// note writes down how far a transfer has come, together with the lines refused
// on the way, and ends the work when it was cancelled.
func (r *Runner) note(ctx context.Context, id string, lines int64, refused []refusal) error {
	return r.db.Commit(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		n, err := tx.Exec(ctx, "UPDATE transfer SET lines = ?, refused = refused + ? WHERE id = ? AND status = 'running'", lines, len(refused), id)
		if err != nil {
			return err
		}
		if n == 0 {
			return errCancelled
		}
		kept, _, err := sqldb.Row(ctx, tx, scanInt, "SELECT count(*) FROM transfer_refusal WHERE transfer_id = ?", id)
		if err != nil {
			return err
		}
		for _, f := range refused[:min(len(refused), int(maxRefusals-kept))] {
			if _, err := tx.Exec(ctx, "INSERT INTO transfer_refusal (transfer_id, line, text) VALUES (?, ?, ?)", id, f.line, string(f.text)); err != nil {
				return err
			}
		}
		return nil
	})
}

func scanText(rows *sql.Rows) (s string, err error) { return s, rows.Scan(&s) }

func (r *Runner) putRefusals(ctx context.Context, t Transfer) error {
	lines, err := sqldb.Rows(ctx, r.db, scanText, "SELECT text FROM transfer_refusal WHERE transfer_id = ? ORDER BY line", t.ID)
	if err != nil || len(lines) == 0 {
		return err
	}
	path := filepath.Join(r.pathOf(t), errorsFile)
	if err := os.WriteFile(path, []byte(strings.Join(lines, "\n")+"\n"), 0o600); err != nil {
		return err
	}
	return r.put(ctx, t.Output, errorsFile, path)
}

// blobIn is the address of a file in a container, with the container's token.
func blobIn(container, name string) (string, error) {
	u, err := url.Parse(container)
	if err != nil {
		return "", err
	}
	return u.JoinPath(name).String(), nil
}

// get fetches a file from a container; it appears whole or not at all.
func (r *Runner) get(ctx context.Context, container, name, path string) error {
	response, err := r.send(ctx, http.MethodGet, container, name, nil, 0)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	file, err := os.Create(path + ".part")
	if err != nil {
		return err
	}
	size, err := io.Copy(file, io.LimitReader(response.Body, maxFile+1))
	if err = errors.Join(err, file.Sync(), file.Close()); err != nil {
		return fmt.Errorf("%s was not fetched whole: %w", name, err)
	}
	if size > maxFile {
		return problem.New(problem.TooLarge, "%s has more than %d bytes", name, int64(maxFile))
	}
	return os.Rename(path+".part", path)
}

// put stores a file in a container.
func (r *Runner) put(ctx context.Context, container, name, path string) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return err
	}
	if info.Size() > maxFile {
		return problem.New(problem.TooLarge, "%s has more than the %d bytes that storage takes at once", name, int64(maxFile))
	}
	response, err := r.send(ctx, http.MethodPut, container, name, file, info.Size())
	if err != nil {
		return err
	}
	return response.Body.Close()
}

// send makes one request of storage. Its errors never hold the address, which
// is a secret.
func (r *Runner) send(ctx context.Context, method, container, name string, body io.Reader, size int64) (*http.Response, error) {
	address, err := blobIn(container, name)
	if err != nil {
		return nil, err
	}
	request, err := http.NewRequestWithContext(ctx, method, address, body)
	if err != nil {
		return nil, err
	}
	if method == http.MethodPut {
		request.ContentLength = size
		request.Header.Set("x-ms-blob-type", "BlockBlob")
		request.Header.Set("Content-Type", "text/plain; charset=utf-8")
		if size == 0 {
			request.Body = http.NoBody
		}
	}
	response, err := r.client.Do(request)
	var wrapped *url.Error
	if errors.As(err, &wrapped) {
		err = wrapped.Err
	}
	if err != nil {
		return nil, fmt.Errorf("the container was not reached for %s: %w", name, err)
	}
	if response.StatusCode/100 != 2 {
		return nil, errors.Join(fmt.Errorf("the container answered %s for %s %s", response.Status, method, name), response.Body.Close())
	}
	return response, nil
}
