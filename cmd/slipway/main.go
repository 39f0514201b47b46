// Command slipway takes an IoT solution from test to production: it runs an
// installation and is the tool to work with one.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/slipway/slipway/internal/cli"
)

func main() { os.Exit(run()) }

// run ends gracefully at the first signal; the second one meets the system's
// own answer, which is to end at once.
func run() int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop)
	return cli.Run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr)
}
