//go:build unix

package rehearse

import "syscall"

// alone keeps a signal for the terminal's programs from a process: it ends when
// its parent has.
func alone() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setsid: true} }
