// Package agent is the program that keeps a Linux device connected to its hub
// and has it follow orders to run other software: the device SDK, the update
// client, and what they need of a Linux system.
package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"sync"

	"github.com/slipway/slipway/device"
	"github.com/slipway/slipway/device/update"
	"github.com/slipway/slipway/internal/datadir"
)

// agent is a device's connection and its updates.
type agent struct {
	config  Config
	client  *device.Client
	updater *update.Updater
	desired *desiredFile // nil: no application reads it
	logger  *slog.Logger
	connect chan struct{} // a connection is new
	wiped   sync.Once
	end     context.CancelCauseFunc // of run
}

// work runs the agent until ctx ends, or until the agent or the device has to
// start anew, which its error tells.
func work(ctx context.Context, c Config, logger *slog.Logger, output io.Writer) (err error) {
	if c.wiped() {
		return errWiped
	}
	unlock, err := datadir.Lock(c.Directory)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, unlock()) }()
	services, stop := c.services(logger, output)
	defer stop()
	a, err := newAgent(c, logger, services)
	if err != nil {
		return err
	}
	err = a.run(ctx)
	var restart *update.ErrRestart
	if !errors.As(err, &restart) || restart.What != update.RestartDevice {
		return err
	}
	return a.reboot(ctx)
}

func newAgent(c Config, logger *slog.Logger, services map[string]update.Service) (*agent, error) {
	connection, err := c.device()
	if err != nil {
		return nil, err
	}
	updates, err := c.updates(services)
	if err != nil {
		return nil, err
	}
	connection.Logger, updates.Logger = logger, logger
	a := &agent{config: c, logger: logger, connect: make(chan struct{}, 1)}
	if a.client, err = device.New(connection); err != nil {
		return nil, err
	}
	if a.updater, err = update.New(updates, a.client); err != nil {
		return nil, err
	}
	if c.DesiredFile != "" {
		a.desired = &desiredFile{name: c.DesiredFile}
	}
	a.client.OnEvent(a.happened)
	a.client.OnWipe(a.wipe)
	a.client.OnDesired(func(_ int64, patch []byte) {
		a.updater.Desired(patch)
		a.note(patch, (*desiredFile).patch)
	})
	return a, nil
}

func (a *agent) happened(e device.Event) {
	if e.Kind == device.Disconnected && a.config.wiped() {
		a.endWiped()
	}
	if e.Kind != device.Connected {
		return
	}
	select {
	case a.connect <- struct{}{}:
	default:
	}
}

// run ends everything when the first part of it ends.
func (a *agent) run(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	a.end = cancel
	var parts sync.WaitGroup
	parts.Go(func() { cancel(a.client.Run(ctx)) })
	parts.Go(func() { a.greet(ctx) })
	err := a.updater.Run(ctx)
	cancel(err)
	parts.Wait()
	if errors.Is(context.Cause(ctx), errWiped) {
		return errWiped
	}
	return err
}

// greet reads the twin when a connection is new: what changed while there was
// none is not repeated.
func (a *agent) greet(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-a.connect:
		}
		text, err := a.client.Twin(ctx)
		var twin struct {
			Desired json.RawMessage `json:"desired"`
		}
		if err == nil {
			err = json.Unmarshal(text, &twin)
		}
		if err != nil {
			a.logger.Warn("the twin cannot be read", "error", err)
			continue
		}
		at := a.client.Assignment()
		a.updater.Connected(at.Hub+"/"+at.DeviceID, twin.Desired)
		a.note(twin.Desired, (*desiredFile).put)
	}
}

func (a *agent) note(text []byte, how func(*desiredFile, []byte) error) {
	if a.desired == nil {
		return
	}
	if err := how(a.desired, text); err != nil {
		a.logger.Error("desired properties are not written", "file", a.desired.name, "error", err)
	}
}

// reboot restarts the device, and waits for its end.
func (a *agent) reboot(ctx context.Context) error {
	command := a.config.Reboot
	if len(command) == 0 {
		command = []string{"systemctl", "reboot"}
	}
	a.logger.Info("the device is restarted for its update")
	if err := said(exec.CommandContext(ctx, command[0], command[1:]...)); err != nil {
		return fmt.Errorf("restart the device: %w", err)
	}
	<-ctx.Done()
	return nil
}

// journal reads where an agent's update stands, while it runs or not.
func (c Config) journal() (update.State, error) {
	text, err := os.ReadFile(update.JournalIn(filepath.Join(c.Directory, "updates")))
	if errors.Is(err, os.ErrNotExist) {
		return update.State{}, nil
	}
	if err != nil {
		return update.State{}, err
	}
	return update.ParseState(text)
}
