// Package datadir keeps a process's data directory to that process, and
// writes small files into it whole or not at all.
package datadir

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"

	"github.com/gofrs/flock"

	"github.com/slipway/slipway/internal/problem"
)

// Lock makes sure that one process at a time works on a directory, making it
// when missing: nothing else would stop a second one from damaging the logs.
func Lock(dir string) (unlock func() error, err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("data directory: %w", err)
	}
	lock := flock.New(filepath.Join(dir, "lock"))
	held, err := lock.TryLock()
	if err != nil {
		return nil, fmt.Errorf("lock the data directory %s: %w", dir, err)
	}
	if !held {
		return nil, problem.New(problem.Conflict, "another slipway runs on the data directory %s; stop it or choose another directory", dir)
	}
	return lock.Unlock, nil
}

// Locked reports whether a process works on a directory, making it when missing.
func Locked(dir string) (bool, error) {
	unlock, err := Lock(dir)
	if problem.Is(err, problem.Conflict) {
		return true, nil
	}
	if err != nil {
		return false, err
	}
	return false, unlock()
}

// WriteJSON writes a file that only its owner reads. Who waits for it finds it
// whole or not at all.
func WriteJSON(file string, content any) error {
	text, err := json.MarshalIndent(content, "", "  ")
	if err != nil {
		return err
	}
	draft := file + ".tmp"
	if err := os.WriteFile(draft, append(text, '\n'), 0o600); err != nil {
		return err
	}
	return os.Rename(draft, file)
}
