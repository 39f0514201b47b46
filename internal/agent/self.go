package agent

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"github.com/slipway/slipway/device/update"
)

// program is the agent's name below the directory it updates itself in.
const program = "slipway-agent"

// self installs the agent itself: files in two directories, and a note for the
// launcher, which goes back when the new agent does not come up.
type self struct {
	update.Files
	deadline time.Duration
}

func newSelf(directory string, deadline time.Duration) *self {
	return &self{update.Files{Path: directory, Starts: update.RestartAgent}, deadline}
}

// probation is the note: as long as it is there the agent is on trial.
type probation struct {
	Back    string  `json:"back"`    // where current led before; empty: nowhere
	Starts  int     `json:"starts"`  // so far
	Seconds float64 `json:"seconds"` // that one start has to prove itself
}

// The launcher starts a new agent so often, and gives it so many of its own
// deadlines: the agent itself gives up sooner, if it works at all.
const (
	mostStarts = 4
	deadlines  = 3
)

func probationIn(directory string) string { return filepath.Join(directory, "probation.json") }

// Install leaves the note and then has current lead to the new agent.
func (s *self) Install(ctx context.Context, t update.Task) error {
	if runs, err := s.Runs(ctx, t); err != nil || runs {
		return err
	}
	note := probation{Back: s.Current(), Seconds: max(s.deadline, time.Minute).Seconds() * deadlines}
	if err := note.save(s.Path); err != nil {
		return err
	}
	return s.Files.Install(ctx, t)
}

// Commit takes the note away.
func (s *self) Commit(ctx context.Context, t update.Task) error {
	if err := s.Files.Commit(ctx, t); err != nil {
		return err
	}
	return forget(s.Path)
}

// Rollback leads back, and takes the note away.
func (s *self) Rollback(ctx context.Context, t update.Task) error {
	if err := s.Files.Rollback(ctx, t); err != nil {
		return err
	}
	return forget(s.Path)
}

func (p probation) save(directory string) error {
	text, err := json.Marshal(p)
	if err != nil {
		return err
	}
	return update.WriteFile(probationIn(directory), text, 0o600)
}

func forget(directory string) error {
	if err := os.Remove(probationIn(directory)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// onProbation reads the note. One that cannot be read was cut off while it was
// first written: then nothing is changed yet.
func onProbation(directory string) (p probation, found bool) {
	text, err := os.ReadFile(probationIn(directory))
	return p, err == nil && json.Unmarshal(text, &p) == nil
}

// launcher starts the agent that is installed and starts it again when it
// ends. It never changes itself, as a boot loader does not, and so it stays
// small: one that was built years ago has to start the newest agent.
type launcher struct {
	directory string   // in which the agent updates itself
	arguments []string // of the agent
	logger    *slog.Logger
}

func (l *launcher) run(ctx context.Context) error {
	for wait := time.Duration(0); ctx.Err() == nil; {
		deadline, err := l.prepare()
		if err != nil {
			return err
		}
		start := time.Now()
		err = l.once(ctx, deadline)
		if ctx.Err() != nil {
			return nil
		}
		l.logger.Warn("the agent ended and is started again", "error", err)
		wait = min(2*wait+100*time.Millisecond, mostWait)
		if time.Since(start) > mostWait || ended(err, restartStatus) {
			wait = 0
		}
		select {
		case <-ctx.Done():
		case <-time.After(wait):
		}
	}
	return nil
}

// prepare counts a start on probation, and leads back after too many. It
// returns how long the agent may take to prove itself; 0: it has.
func (l *launcher) prepare() (time.Duration, error) {
	p, found := onProbation(l.directory)
	if !found {
		return 0, nil
	}
	if p.Starts++; p.Starts <= mostStarts {
		return time.Duration(p.Seconds * float64(time.Second)), p.save(l.directory)
	}
	l.logger.Error("the new agent does not come up; going back", "to", p.Back)
	if err := l.back(p.Back); err != nil {
		return 0, err
	}
	return 0, forget(l.directory)
}

func (l *launcher) back(to string) error {
	current := filepath.Join(l.directory, "current")
	if to == "" {
		if err := os.Remove(current); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return nil
	}
	draft := current + ".back"
	if err := os.Remove(draft); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.Symlink(to, draft); err != nil {
		return err
	}
	return os.Rename(draft, current)
}

// once runs the installed agent until it ends; without any, this program.
func (l *launcher) once(ctx context.Context, deadline time.Duration) error {
	path := filepath.Join(l.directory, "current", program)
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		if path, err = os.Executable(); err != nil {
			return err
		}
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if deadline > 0 {
		timer := time.AfterFunc(deadline, func() {
			if _, still := onProbation(l.directory); still {
				l.logger.Error("the new agent has not proven itself in time", "deadline", deadline)
				cancel()
			}
		})
		defer timer.Stop()
	}
	cmd := exec.CommandContext(ctx, path, l.arguments...)
	cmd.Stdout, cmd.Stderr, cmd.WaitDelay = os.Stdout, os.Stderr, 2*patience
	mortal(cmd)
	return cmd.Run()
}

func ended(err error, status int) bool {
	var exit *exec.ExitError
	return errors.As(err, &exit) && exit.ExitCode() == status && exit.Sys().(syscall.WaitStatus).Exited()
}
