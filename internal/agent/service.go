package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/slipway/slipway/device/update"
)

// How a command is kept running: how long it has to end when it is asked to,
// and how long the agent waits before it starts it again.
const (
	patience  = 10 * time.Second
	firstWait = time.Second
	mostWait  = time.Minute
)

// child is a command that the agent keeps running. It dies with the agent.
type child struct {
	command   []string
	directory string // its working directory, the software's current
	logger    *slog.Logger
	output    io.Writer

	changing sync.Mutex // one Restart or stop at a time
	mu       sync.Mutex
	stop     context.CancelFunc // nil: it is not to run
	ended    chan struct{}
	fault    error // since it was started by Restart or Ensure
}

// Ensure starts the command unless it is to run already.
func (c *child) Ensure(ctx context.Context) error {
	c.mu.Lock()
	running := c.stop != nil
	c.mu.Unlock()
	if running {
		return nil
	}
	return c.Restart(ctx)
}

// Restart ends the command and starts it as it is installed now. Without
// anything installed there is nothing to start.
func (c *child) Restart(context.Context) error {
	c.changing.Lock()
	defer c.changing.Unlock()
	c.halt()
	if _, err := os.Stat(c.directory); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	ctx, cancel := context.WithCancel(context.Background())
	begun := make(chan error, 1)
	ended := make(chan struct{})
	c.mu.Lock()
	c.stop, c.ended, c.fault = cancel, ended, nil
	c.mu.Unlock()
	go func() {
		defer close(ended)
		c.keep(ctx, func(err error) {
			select {
			case begun <- err:
			default:
			}
		})
	}()
	err := <-begun
	if err != nil {
		c.halt()
	}
	return err
}

// Check reports a command that ended although it was to run.
func (c *child) Check(context.Context) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.stop == nil {
		return errors.New("it does not run")
	}
	return c.fault
}

// Stop ends the command.
func (c *child) Stop() {
	c.changing.Lock()
	defer c.changing.Unlock()
	c.halt()
}

func (c *child) halt() {
	c.mu.Lock()
	stop, ended := c.stop, c.ended
	c.stop = nil
	c.mu.Unlock()
	if stop != nil {
		stop()
		<-ended
	}
}

// keep runs the command again and again, until ctx ends.
func (c *child) keep(ctx context.Context, begun func(error)) {
	// The kernel ends the command with the thread that started it.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	for wait := firstWait; ; wait = min(2*wait, mostWait) {
		start := time.Now()
		err := c.once(ctx, begun)
		if ctx.Err() != nil {
			return
		}
		if err == nil {
			err = errors.New("it ended, with status 0")
		}
		c.mu.Lock()
		c.fault = err
		c.mu.Unlock()
		c.logger.Warn("a command ended", "command", c.command[0], "error", err)
		if time.Since(start) > mostWait {
			wait = firstWait
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
	}
}

func (c *child) once(ctx context.Context, begun func(error)) error {
	cmd := exec.CommandContext(ctx, c.command[0], c.command[1:]...)
	cmd.Dir, cmd.Stdout, cmd.Stderr, cmd.WaitDelay = c.directory, c.output, c.output, patience
	if strings.Contains(c.command[0], "/") && !filepath.IsAbs(c.command[0]) {
		cmd.Path, cmd.Err = filepath.Join(c.directory, c.command[0]), nil
	}
	mortal(cmd)
	err := cmd.Start()
	begun(err)
	if err != nil {
		return err
	}
	return cmd.Wait()
}

// mortal makes a command end with this process, and end by being asked.
func mortal(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
}

// unit is a systemd service.
type unit string

// Ensure leaves it to systemd.
func (unit) Ensure(context.Context) error { return nil }

// Restart has systemd start it anew.
func (u unit) Restart(ctx context.Context) error {
	return said(exec.CommandContext(ctx, "systemctl", "restart", string(u)))
}

// Check asks systemd whether it is up.
func (u unit) Check(ctx context.Context) error {
	return said(exec.CommandContext(ctx, "systemctl", "is-active", string(u)))
}

// said runs a command; its error holds what it said.
func said(cmd *exec.Cmd) error {
	cmd.WaitDelay = patience
	text, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s: %w: %s", filepath.Base(cmd.Path), err, strings.ToValidUTF8(strings.TrimSpace(string(text[max(0, len(text)-250):])), "?"))
	}
	return nil
}

// selfTest runs a command that says by its status whether all is well.
func selfTest(command []string) func(context.Context) error {
	return func(ctx context.Context) error {
		cmd := exec.CommandContext(ctx, command[0], command[1:]...)
		mortal(cmd)
		return said(cmd)
	}
}

// services are those of a configuration, and what ends them.
func (c Config) services(logger *slog.Logger, output io.Writer) (all map[string]update.Service, stop func()) {
	all = map[string]update.Service{}
	var children []*child
	for name, s := range c.Software {
		switch {
		case len(s.Run) > 0:
			run := &child{command: s.Run, directory: filepath.Join(s.Directory, "current"), logger: logger, output: output}
			children = append(children, run)
			all[name] = run
		case s.Unit != "":
			all[name] = unit(s.Unit)
		}
	}
	return all, func() {
		for _, c := range children {
			c.Stop()
		}
	}
}
