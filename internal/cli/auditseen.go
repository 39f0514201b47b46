package cli

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/slipway/slipway/internal/control/audit"
	"github.com/slipway/slipway/internal/problem"
)

// seenLogs remembers the audit logs that were verified on this machine, a file
// for each: a log that is shorter later, or another one, is found out by it.
type seenLogs struct{ dir string }

func (a *app) seenLogs() seenLogs { return seenLogs{filepath.Join(a.configDir(), "audit")} }

// seenLog is what is remembered of a log.
type seenLog struct {
	Key        string `json:"key"`
	Checkpoint string `json:"checkpoint"`
	Size       int64  `json:"size"`
}

var originForm = regexp.MustCompile(`^[a-z0-9/-]{1,100}$`)

func (s seenLogs) file(origin string) (string, error) {
	if !originForm.MatchString(origin) {
		return "", problem.New(problem.Invalid, "%q is no name of an audit log", origin)
	}
	return filepath.Join(s.dir, strings.ReplaceAll(origin, "/", "_")+".json"), nil
}

func (s seenLogs) recall(origin string) (key, checkpoint string, err error) {
	name, err := s.file(origin)
	if err != nil {
		return "", "", err
	}
	text, err := os.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		return "", "", nil
	}
	var known seenLog
	if err == nil {
		err = json.Unmarshal(text, &known)
	}
	return known.Key, known.Checkpoint, err
}

// remember keeps what was verified, unless it is less than what was before.
func (s seenLogs) remember(r audit.Report) error {
	name, err := s.file(r.Origin)
	if err != nil {
		return err
	}
	var known seenLog
	if text, err := os.ReadFile(name); err == nil && json.Unmarshal(text, &known) == nil && known.Size >= r.Size {
		return nil
	}
	text, err := json.MarshalIndent(seenLog{r.Key, r.Last, r.Size}, "", "  ")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(s.dir, 0o700); err != nil {
		return err
	}
	draft := name + ".new"
	return errors.Join(os.WriteFile(draft, text, 0o600), os.Rename(draft, name))
}
