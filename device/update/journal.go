package update

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// maxJournal is far more than a State needs.
const maxJournal = 4 << 20

// journal is the file that holds the State: one small record, replaced whole
// at each transition, before anything is done that follows from it.
type journal string

func (j journal) load() (State, error) {
	text, err := readFile(string(j), maxJournal)
	if errors.Is(err, fs.ErrNotExist) {
		return State{}, nil
	}
	if err != nil {
		return State{}, fmt.Errorf("read the journal: %w", err)
	}
	return ParseState(text)
}

// ParseState reads what a journal holds.
func ParseState(text []byte) (State, error) {
	var s State
	if err := json.Unmarshal(text, &s); err != nil {
		return State{}, fmt.Errorf("the journal is damaged: %w", err)
	}
	if s.Phase == Idle {
		return s, nil
	}
	if !s.Phase.begun() && s.Phase != Offered && s.Phase != Downloading && s.Phase != Waiting {
		return State{}, fmt.Errorf("the journal is damaged: there is no phase %q", clip(string(s.Phase)))
	}
	order := s.Order
	order.Order = max(order.Order, 1) // 0 where another hub gave it
	if err := order.check(); err != nil {
		return State{}, fmt.Errorf("the journal is damaged: %w", err)
	}
	return s, nil
}

func (j journal) save(s State) error {
	text, err := json.Marshal(s)
	if err == nil {
		err = WriteFile(string(j), text, 0o600)
	}
	if err != nil {
		return fmt.Errorf("write the journal: %w", err)
	}
	return nil
}

// WriteFile replaces a file whole: a loss of power leaves the old content or
// the new.
func WriteFile(file string, text []byte, mode fs.FileMode) error {
	draft := file + ".new"
	f, err := os.OpenFile(draft, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, mode)
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Rename(draft, file); err != nil {
		return err
	}
	return syncDirectory(filepath.Dir(file))
}

// syncDirectory makes what was created, renamed or removed in it last.
func syncDirectory(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

func readFile(file string, most int64) ([]byte, error) {
	info, err := os.Stat(file)
	if err != nil {
		return nil, err
	}
	if info.Size() > most {
		return nil, fmt.Errorf("%s has %d bytes, more than %d", file, info.Size(), most)
	}
	return os.ReadFile(file)
}
