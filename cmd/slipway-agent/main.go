// Command slipway-agent keeps a Linux device connected to its hub and has it
// follow orders to run other software.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/slipway/slipway/internal/agent"
)

func main() { os.Exit(run()) }

// run ends gracefully at the first signal; the second one meets the system's
// own answer, which is to end at once.
func run() int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop)
	return agent.Main(ctx, os.Args[1:], os.Stdout, os.Stderr)
}
