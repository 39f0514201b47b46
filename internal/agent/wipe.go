package agent

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/slipway/slipway/device/update"
)

// wipedFile marks the directory of an agent that has wiped its device: whoever
// starts it again is told so, and nothing else happens.
const wipedFile = "wiped"

// errWiped ends an agent whose device is out of use.
var errWiped = errors.New("this device was decommissioned and wiped")

// cutTime is how long the agent waits for its hub to cut the connection after
// the device was wiped.
const cutTime = time.Minute

func (c Config) wiped() bool {
	_, err := os.Stat(filepath.Join(c.Directory, wipedFile))
	return err == nil
}

// wipe destroys what the device keeps: by the owner's command what the
// application has, then what the agent has, its credentials last. Repeating it
// is harmless.
func (a *agent) wipe(ctx context.Context, decommission string) error {
	a.logger.Warn("the device is decommissioned: wiping it", "decommission", decommission)
	if command := a.config.Wipe; len(command) > 0 && !a.config.wiped() {
		if err := said(exec.CommandContext(ctx, command[0], command[1:]...)); err != nil {
			return fmt.Errorf("the command that wipes the device failed: %w", err)
		}
	}
	if err := update.WriteFile(filepath.Join(a.config.Directory, wipedFile), []byte(decommission+"\n"), 0o600); err != nil {
		return err
	}
	for _, name := range a.config.credentials() {
		if err := shred(name); err != nil {
			return err
		}
	}
	a.wiped.Do(func() {
		a.logger.Warn("the device is wiped; the agent ends once its hub has cut the connection")
		time.AfterFunc(cutTime, a.endWiped)
	})
	return nil
}

// credentials are the files by which the device proves who it is, and those
// with what its back end told it.
func (c Config) credentials() (files []string) {
	files = append(files, c.DesiredFile, filepath.Join(c.Directory, "connection.json"), c.KeyFile)
	if c.Certificate != nil {
		files = append(files, c.Certificate.KeyFile)
	}
	return files
}

// shred overwrites a file and removes it. What a disk keeps of the old blocks
// only its own erasure takes away.
func shred(name string) error {
	if name == "" {
		return nil
	}
	info, err := os.Stat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	file, err := os.OpenFile(name, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = file.Write(make([]byte, info.Size()))
	return errors.Join(err, file.Sync(), file.Close(), os.Remove(name))
}

// endWiped ends the agent.
func (a *agent) endWiped() { a.end(errWiped) }
