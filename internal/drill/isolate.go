package drill

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os/exec"
	"path/filepath"

	"github.com/slipway/slipway/internal/seal"
)

// inspect looks through a target in a process of its own, from which nothing
// can be reached: where the kernel offers that, it has a network with nothing
// in it.
func (r *Runner) inspect(ctx context.Context, dir string) (f Findings, isolation string, err error) {
	keys, err := r.sealingKeys(ctx, dir)
	if err != nil {
		return f, "", err
	}
	subject, err := json.Marshal(Subject{Dir: dir, Database: r.Database, SealingKeys: keys, Version: r.Version})
	if err != nil {
		return f, "", err
	}
	ways := []string{"kernel", "process"}
	if r.Database != "" || !apart() {
		ways = ways[1:] // PostgreSQL is on the network
	}
	for _, way := range ways {
		f, err = r.child(ctx, subject, way == "kernel")
		if err == nil || ctx.Err() != nil || !errors.Is(err, errNotStarted) {
			return f, way, err
		}
	}
	return f, "", err
}

// sealingKeys writes keys that are in no backup into the target, with which they
// are destroyed: from where it is looked through they cannot be reached.
func (r *Runner) sealingKeys(ctx context.Context, dir string) (string, error) {
	if r.SealingKeys == "" {
		return "", nil
	}
	from, err := seal.ParseSource(r.SealingKeys, dir)
	if err != nil {
		return "", err
	}
	ring, err := from.Read(ctx)
	if err != nil {
		return "", err
	}
	to := seal.Source{File: filepath.Join(dir, seal.FileName)}
	return to.String(), to.Write(ring)
}

var errNotStarted = errors.New("the process that looks through the target was not started")

func (r *Runner) child(ctx context.Context, subject []byte, kernel bool) (f Findings, err error) {
	command := exec.CommandContext(ctx, r.Program, "drill", "inspect")
	var out, said bytes.Buffer
	command.Stdin, command.Stdout, command.Stderr = bytes.NewReader(subject), &out, &said
	command.Env = []string{"PATH=/usr/bin:/bin"}
	if kernel {
		command.Env = append(command.Env, apartVariable+"=1")
		command.SysProcAttr = alone()
	}
	if err := command.Start(); err != nil {
		return f, errors.Join(errNotStarted, err)
	}
	if err := command.Wait(); err != nil {
		return f, fmt.Errorf("the process that looked through the target ended with %w: %.2000s", err, said.String())
	}
	return f, json.Unmarshal(out.Bytes(), &f)
}

// apartVariable tells the process that it has a network of its own, with a
// loopback that is not up yet.
const apartVariable = "SLIPWAY_DRILL_APART"

// Serve is the process that looks through a target: it reads what it is to look
// at, and writes what it found.
func Serve(ctx context.Context, in io.Reader, out io.Writer, env func(string) string, logger *slog.Logger) error {
	var s Subject
	if err := json.NewDecoder(io.LimitReader(in, 1<<20)).Decode(&s); err != nil {
		return err
	}
	if env(apartVariable) != "" {
		if err := raiseLoopback(); err != nil {
			return fmt.Errorf("loopback: %w", err)
		}
	}
	return json.NewEncoder(out).Encode(Inspect(ctx, s, logger))
}
