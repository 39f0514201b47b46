//go:build !unix

package rehearse

import "syscall"

// alone keeps a signal for the terminal's programs from a process.
func alone() *syscall.SysProcAttr { return nil }
