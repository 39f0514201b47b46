//go:build !linux

package sqldb

import (
	"syscall"
	"time"
)

// giveUpAfter leaves it to keep-alive: the option is one of Linux.
func giveUpAfter(time.Duration) func(network, address string, raw syscall.RawConn) error { return nil }
