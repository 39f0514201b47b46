//go:build !linux

package drill

import (
	"errors"
	"syscall"
)

// apart reports whether the kernel can give a process a network of its own.
func apart() bool { return false }

func alone() *syscall.SysProcAttr { return nil }

func raiseLoopback() error { return errors.ErrUnsupported }
