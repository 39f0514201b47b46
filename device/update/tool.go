package update

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// Tool installs by the commands of a tool that is there already. In their
// arguments {file} stands for the path of the first artifact, {software} and
// {version} for what is installed, {previous} for the version before. A step
// without a command has nothing to do.
type Tool struct {
	Called                         string
	PrepareBy, InstallBy, CommitBy []string
	RollbackBy, RunsBy             []string // RunsBy exits 0 where the new software runs
	Starts                         Restart
}

// SWUpdate calls swupdate, with an image for the slot that does not run, and
// keeps its boot loader's word: ustate is 1 after an installation, 2 when the
// new slot came up, 3 when the boot loader fell back.
func SWUpdate() *Tool {
	return &Tool{
		Called: "swupdate", Starts: RestartDevice, InstallBy: []string{"swupdate", "-i", "{file}"},
		RunsBy:   []string{"sh", "-c", `test "$(fw_printenv -n ustate)" = 2`},
		CommitBy: []string{"fw_setenv", "ustate", "0"}, RollbackBy: []string{"fw_setenv", "ustate", "3"},
	}
}

// Container loads images from archives with docker or what is like it, and has
// the tag current name the one that the service starts.
func Container(docker string) *Tool {
	return &Tool{
		Called: "container", PrepareBy: []string{docker, "load", "--input", "{file}"},
		InstallBy:  []string{docker, "tag", "{software}:{version}", "{software}:current"},
		RollbackBy: []string{docker, "tag", "{software}:{previous}", "{software}:current"},
	}
}

// Name is what orders call it.
func (h *Tool) Name() string { return h.Called }

// Restart is what it was made with.
func (h *Tool) Restart() Restart { return h.Starts }

// Prepare runs PrepareBy.
func (h *Tool) Prepare(ctx context.Context, t Task) error { return h.run(ctx, t, h.PrepareBy) }

// Install runs InstallBy.
func (h *Tool) Install(ctx context.Context, t Task) error { return h.run(ctx, t, h.InstallBy) }

// Commit runs CommitBy.
func (h *Tool) Commit(ctx context.Context, t Task) error { return h.run(ctx, t, h.CommitBy) }

// Rollback runs RollbackBy, unless nothing ran before.
func (h *Tool) Rollback(ctx context.Context, t Task) error {
	if t.Previous == "" && slices.ContainsFunc(h.RollbackBy, func(argument string) bool { return strings.Contains(argument, "{previous}") }) {
		return nil
	}
	return h.run(ctx, t, h.RollbackBy)
}

// Runs asks RunsBy; without it, what was installed is what starts.
func (h *Tool) Runs(ctx context.Context, t Task) (bool, error) {
	err := h.run(ctx, t, h.RunsBy)
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.Exited() {
		return false, nil
	}
	return err == nil, err
}

func (h *Tool) run(ctx context.Context, t Task, command []string) error {
	if len(command) == 0 {
		return nil
	}
	first := ""
	if len(t.Software.Artifacts) > 0 {
		first = t.Files[t.Software.Artifacts[0].File]
	}
	replace := strings.NewReplacer("{file}", first, "{software}", t.Software.Name, "{version}", t.Software.Version, "{previous}", t.Previous)
	arguments := make([]string, len(command))
	for i, argument := range command {
		arguments[i] = replace.Replace(argument)
	}
	_, err := output(exec.CommandContext(ctx, arguments[0], arguments[1:]...))
	return err
}

// maxOutput is how much of what a command says is kept.
const maxOutput = 64 << 10

// output runs a command; its error holds the end of what the command said.
func output(c *exec.Cmd) ([]byte, error) {
	said := &tail{}
	c.Stderr = said
	if c.Stdout == nil {
		c.Stdout = said
	}
	err := c.Run()
	if err != nil && len(said.text) > 0 {
		return said.text, fmt.Errorf("%s: %w: %s", filepath.Base(c.Path), err, clip(strings.TrimSpace(string(said.text[max(0, len(said.text)-250):]))))
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", filepath.Base(c.Path), err)
	}
	return said.text, nil
}

// tail keeps the end of what is written.
type tail struct{ text []byte }

// Write keeps the end.
func (t *tail) Write(b []byte) (int, error) {
	t.text = append(t.text, b...)
	if more := len(t.text) - maxOutput; more > 0 {
		t.text = slices.Clone(t.text[more:])
	}
	return len(b), nil
}

// Script runs the first artifact, a signed script or program, with one
// argument: prepare, install, commit or rollback. It runs in a directory in
// which all artifacts are, by their names.
type Script struct {
	Starts Restart
}

// Name is script.
func (h *Script) Name() string { return "script" }

// Restart is Starts.
func (h *Script) Restart() Restart { return h.Starts }

// Prepare runs it with prepare.
func (h *Script) Prepare(ctx context.Context, t Task) error { return h.run(ctx, t, "prepare") }

// Install runs it with install.
func (h *Script) Install(ctx context.Context, t Task) error { return h.run(ctx, t, "install") }

// Runs takes what was installed for what starts.
func (h *Script) Runs(context.Context, Task) (bool, error) { return true, nil }

// Commit runs it with commit.
func (h *Script) Commit(ctx context.Context, t Task) error { return h.run(ctx, t, "commit") }

// Rollback runs it with rollback.
func (h *Script) Rollback(ctx context.Context, t Task) error { return h.run(ctx, t, "rollback") }

func (h *Script) run(ctx context.Context, t Task, step string) error {
	dir := filepath.Join(t.Directory, "script")
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	for name, path := range t.Files {
		if err := os.Symlink(path, filepath.Join(dir, name)); err != nil {
			return err
		}
	}
	program := t.Files[t.Software.Artifacts[0].File]
	if err := os.Chmod(program, 0o700); err != nil {
		return err
	}
	c := exec.CommandContext(ctx, program, step)
	c.Dir = dir
	c.Env = append(os.Environ(), "SLIPWAY_SOFTWARE="+t.Software.Name, "SLIPWAY_VERSION="+t.Software.Version,
		"SLIPWAY_PREVIOUS="+t.Previous, "SLIPWAY_JOB="+strconv.FormatInt(t.Job, 10))
	_, err := output(c)
	return err
}

// RAUC calls rauc, which writes a bundle into the slots that do not run and
// has the boot loader try them next.
type RAUC struct {
	Command string // default rauc
}

// Name is rauc.
func (h *RAUC) Name() string { return "rauc" }

// Restart is that of the device.
func (h *RAUC) Restart() Restart { return RestartDevice }

// Prepare notes which slot runs.
func (h *RAUC) Prepare(ctx context.Context, t Task) error {
	if _, err := os.Stat(h.note(t)); err == nil {
		return nil
	}
	booted, err := h.booted(ctx)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(t.Directory, 0o700); err != nil {
		return err
	}
	return WriteFile(h.note(t), []byte(booted), 0o600)
}

// Install has rauc install the bundle.
func (h *RAUC) Install(ctx context.Context, t Task) error {
	return h.run(ctx, "install", t.Files[t.Software.Artifacts[0].File])
}

// Runs reports whether another slot runs than when the installation began.
func (h *RAUC) Runs(ctx context.Context, t Task) (bool, error) {
	before, err := readFile(h.note(t), 1024)
	if err != nil {
		return false, err
	}
	booted, err := h.booted(ctx)
	return booted != string(before), err
}

// Commit marks the slot that runs as good.
func (h *RAUC) Commit(ctx context.Context, _ Task) error {
	return h.run(ctx, "status", "mark-good", "booted")
}

// Rollback has the boot loader start the slot of before.
func (h *RAUC) Rollback(ctx context.Context, t Task) error {
	if _, err := os.Stat(h.note(t)); err != nil {
		return nil // nothing was begun
	}
	runs, err := h.Runs(ctx, t)
	if err != nil {
		return err
	}
	if !runs {
		return h.run(ctx, "status", "mark-active", "booted")
	}
	return errors.Join(h.run(ctx, "status", "mark-bad", "booted"), h.run(ctx, "status", "mark-active", "other"))
}

func (h *RAUC) note(t Task) string { return filepath.Join(t.Directory, "rauc-booted") }

func (h *RAUC) run(ctx context.Context, arguments ...string) error {
	_, err := output(exec.CommandContext(ctx, h.command(), arguments...))
	return err
}

func (h *RAUC) command() string {
	if h.Command == "" {
		return "rauc"
	}
	return h.Command
}

// booted is the slot that runs, as rauc tells it.
func (h *RAUC) booted(ctx context.Context) (string, error) {
	var text bytes.Buffer
	c := exec.CommandContext(ctx, h.command(), "status", "--output-format=json")
	c.Stdout = &text
	if _, err := output(c); err != nil {
		return "", err
	}
	var status struct {
		Booted string `json:"booted"`
	}
	if err := json.Unmarshal(text.Bytes(), &status); err != nil || status.Booted == "" {
		return "", fmt.Errorf("rauc does not say which slot runs: %q", clip(text.String()))
	}
	return status.Booted, nil
}
