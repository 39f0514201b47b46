//go:build !unix

package serve

import (
	"os"
	"syscall"
)

// detached is how a process is started that is not to end with this one.
func detached() *syscall.SysProcAttr { return nil }

// terminate ends a process.
func terminate(pid int) error {
	process, err := os.FindProcess(pid)
	if err != nil {
		return err
	}
	return process.Kill()
}
