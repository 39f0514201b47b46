package rehearse

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/slipway/slipway/internal/sqldb"
)

// Left is what a rehearsal leaves if nobody clears it away.
type Left struct {
	Dir    string `json:"dir"`
	Server string `json:"server,omitempty"`
	Prefix string `json:"prefix"` // of databases on the server
}

// clearTime bounds how long clearing away may take.
const clearTime = 2 * time.Minute

// Clear takes it away.
func (l Left) Clear(ctx context.Context) error {
	ctx, done := context.WithTimeout(ctx, clearTime)
	defer done()
	if !strings.HasPrefix(filepath.Base(l.Dir), dirPrefix) || !strings.HasPrefix(l.Prefix, databasePrefix) {
		return errors.New("that is not of a rehearsal")
	}
	failures := []error{os.RemoveAll(l.Dir)}
	if l.Server != "" {
		_, err := sqldb.DropDatabases(ctx, l.Server, l.Prefix)
		failures = append(failures, err)
	}
	return errors.Join(failures...)
}

// keep starts the process that clears away when this one ends, however that
// comes about. What it returns is called at the end.
func (x *run) keep(l Left) (done func() error, err error) {
	if x.Program == "" {
		return func() error { return nil }, nil
	}
	command := exec.Command(x.Program, "rehearsal", "keep")
	command.Env = append(os.Environ(), "SLIPWAY_TOKEN=")
	command.SysProcAttr = alone()
	to, err := command.StdinPipe()
	if err != nil {
		return nil, err
	}
	if err := command.Start(); err != nil {
		return nil, fmt.Errorf("the process that clears away: %w", err)
	}
	end := func() error { return errors.Join(to.Close(), command.Wait()) }
	if err := json.NewEncoder(to).Encode(l); err != nil {
		return nil, errors.Join(err, end())
	}
	return end, nil
}

// Keep is the process that clears away: it is told what, waits until whoever
// told it is gone, and then does.
func Keep(ctx context.Context, in io.Reader) error {
	var l Left
	decoder := json.NewDecoder(io.LimitReader(in, 1<<20))
	if err := decoder.Decode(&l); err != nil {
		return err
	}
	if _, err := io.Copy(io.Discard, in); err != nil {
		return errors.Join(err, l.Clear(ctx))
	}
	return l.Clear(ctx)
}

// ClearOld takes away what rehearsals have left in a directory that are long
// over: those whose host went down with all that was on it.
func ClearOld(scratch string, before time.Time) error {
	found, err := filepath.Glob(filepath.Join(scratch, dirPrefix+"*"))
	if err != nil {
		return err
	}
	var failures []error
	for _, dir := range found {
		if info, err := os.Lstat(dir); err == nil && info.IsDir() && info.ModTime().Before(before) {
			failures = append(failures, os.RemoveAll(dir))
		}
	}
	return errors.Join(failures...)
}
