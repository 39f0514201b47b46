// Package console is control over HTML: pages from the server that work
// without scripts, and fragments and events for what moves.
package console

import (
	"log/slog"
	"net/http"

	"github.com/slipway/slipway/internal/control/access"
	"github.com/slipway/slipway/internal/control/audit"
	"github.com/slipway/slipway/internal/control/environment"
	"github.com/slipway/slipway/internal/control/fleet"
)

// Options are the subjects the console shows.
type Options struct {
	Access       *access.Access
	Audit        *audit.Log
	Environments *environment.Environments
	Fleet        *fleet.Fleet
	Logger       *slog.Logger
}

// New returns the console's handler.
func New(o Options) http.Handler { return http.NotFoundHandler() }
