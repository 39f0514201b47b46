package seal

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/slipway/slipway/internal/problem"
)

// Source is where a ring comes from.
type Source struct {
	// File is kept by Slipway: made where it is missing, and rotated.
	File string
	// Credential is the name of one that systemd passes to the process.
	Credential string
	// Command is run, and prints the ring.
	Command []string
}

// FileName is that of a ring where nothing else is said: beside the database.
const FileName = "sealing.key"

// ParseSource reads where a ring comes from: file:PATH, credential:NAME or
// command:PROGRAM ARGUMENT…; empty is a file in dir.
func ParseSource(text, dir string) (Source, error) {
	kind, rest, _ := strings.Cut(text, ":")
	switch {
	case text == "":
		return Source{File: filepath.Join(dir, FileName)}, nil
	case kind == "file" && rest != "":
		return Source{File: rest}, nil
	case kind == "credential" && rest != "" && rest == filepath.Base(rest):
		return Source{Credential: rest}, nil
	case kind == "command" && len(strings.Fields(rest)) > 0:
		return Source{Command: strings.Fields(rest)}, nil
	}
	return Source{}, problem.New(problem.Invalid, "sealing keys come from file:PATH, credential:NAME (of systemd) or command:PROGRAM ARGUMENT…, not from %q", text)
}

// String is the source as ParseSource reads it.
func (s Source) String() string {
	switch {
	case s.File != "":
		return "file:" + s.File
	case s.Credential != "":
		return "credential:" + s.Credential
	}
	return "command:" + s.Command[0] // its arguments may be nobody's business
}

const (
	maxRing = 64 << 10
	// commandWait is how long a command may take.
	commandWait = 30 * time.Second
)

// Read reads the ring. One that does not exist is fs.ErrNotExist.
func (s Source) Read(ctx context.Context) (Ring, error) {
	var text []byte
	var err error
	switch {
	case s.File != "":
		text, err = readPrivate(s.File)
	case s.Credential != "":
		dir := os.Getenv("CREDENTIALS_DIRECTORY")
		if dir == "" {
			return nil, problem.New(problem.Invalid, "systemd has passed no credentials (LoadCredential=%s:PATH in the unit does)", s.Credential)
		}
		text, err = readAll(filepath.Join(dir, s.Credential))
	default:
		text, err = s.run(ctx)
	}
	if err != nil {
		return nil, err
	}
	ring, err := ParseRing(text)
	if err != nil {
		return nil, problem.Of(err).At(s.String())
	}
	return ring, nil
}

func (s Source) run(ctx context.Context) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, commandWait)
	defer cancel()
	var out, said bytes.Buffer
	command := exec.CommandContext(ctx, s.Command[0], s.Command[1:]...)
	command.Stdout, command.Stderr = &out, &said
	if err := command.Run(); err != nil {
		return nil, problem.New(problem.Invalid, "%s did not tell the sealing keys: %s: %.200s", s.Command[0], err, strings.TrimSpace(said.String()))
	}
	if out.Len() > maxRing {
		return nil, problem.New(problem.TooLarge, "%s prints more than the %d bytes that sealing keys may have", s.Command[0], maxRing)
	}
	return out.Bytes(), nil
}

// readPrivate reads a file that others must not be able to read.
func readPrivate(file string) ([]byte, error) {
	info, err := os.Stat(file)
	if err != nil {
		return nil, err
	}
	if info.Mode().Perm()&0o007 != 0 {
		return nil, problem.New(problem.Invalid, "%s can be read by everybody on the machine; chmod 600 it, and rotate the key", file)
	}
	return readAll(file)
}

func readAll(file string) (_ []byte, err error) {
	opened, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, opened.Close()) }()
	return io.ReadAll(io.LimitReader(opened, maxRing))
}

// Ours reports whether Slipway itself keeps the ring, so that it can rotate it.
func (s Source) Ours() bool { return s.File != "" }

// Make makes a ring of one key, unless another process has meanwhile.
func (s Source) Make(ctx context.Context, now time.Time) (Ring, error) {
	if !s.Ours() {
		return nil, problem.New(problem.NotFound, "%s has no sealing keys", s)
	}
	draft, err := s.draft(Ring{Generate(now)})
	if err != nil {
		return nil, err
	}
	// A link does not replace what another process made meanwhile.
	err = errors.Join(os.Link(draft, s.File), os.Remove(draft))
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, err
	}
	if err := syncDir(filepath.Dir(s.File)); err != nil {
		return nil, err
	}
	return s.Read(ctx)
}

// Write replaces the ring.
func (s Source) Write(r Ring) error {
	if !s.Ours() {
		return problem.New(problem.Conflict, "the sealing keys come from %s, so put a new first line there (`slipway keys generate` makes one) and start the process anew; what is sealed follows by itself", s)
	}
	draft, err := s.draft(r)
	if err != nil {
		return err
	}
	if err := os.Rename(draft, s.File); err != nil {
		return errors.Join(err, os.Remove(draft))
	}
	return syncDir(filepath.Dir(s.File))
}

// draft writes a ring to a file beside its own.
func (s Source) draft(r Ring) (string, error) {
	if err := os.MkdirAll(filepath.Dir(s.File), 0o700); err != nil {
		return "", err
	}
	draft, err := os.CreateTemp(filepath.Dir(s.File), ".sealing-*") // 0600
	if err != nil {
		return "", err
	}
	_, err = draft.Write(r.Text())
	if err = errors.Join(err, draft.Sync(), draft.Close()); err != nil {
		return "", errors.Join(err, os.Remove(draft.Name()))
	}
	return draft.Name(), nil
}

func syncDir(dir string) error {
	holder, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(holder.Sync(), holder.Close())
}
