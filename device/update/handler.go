package update

import (
	"context"
	"errors"
)

// Task is the installation of one kind of software.
type Task struct {
	Job       int64 // the device's own number, no two orders share one
	Software  Software
	Previous  string            // the version that runs; empty: none
	Files     map[string]string // paths of verified artifacts, by file name
	Directory string            // for what the handler must remember; gone when the order has ended
}

// Handler installs one kind of software. Its methods are called in the order
// in which they stand here, Rollback in place of any after Prepare. Each may
// be cut off at any instant, and is then called again: it must come to the
// same end whether it is done once, twice or once and a half.
type Handler interface {
	// Name is what orders call it.
	Name() string
	// Restart is what has to start anew for the software to run.
	Restart() Restart
	// Prepare writes the software beside what runs, and changes nothing of that.
	Prepare(ctx context.Context, t Task) error
	// Install makes it what starts next.
	Install(ctx context.Context, t Task) error
	// Runs reports, after a start, whether it is the new software that runs.
	Runs(ctx context.Context, t Task) (bool, error)
	// Commit keeps it for good.
	Commit(ctx context.Context, t Task) error
	// Rollback makes what ran before what starts next.
	Rollback(ctx context.Context, t Task) error
}

// Service starts and watches what runs.
type Service interface {
	// Ensure starts it unless it runs.
	Ensure(ctx context.Context) error
	// Restart starts what is installed now.
	Restart(ctx context.Context) error
	// Check reports whether it has run without a fault since it was started.
	Check(ctx context.Context) error
}

// Component is what a device knows of one kind of software it may be told to
// run. Orders for any other are refused.
type Component struct {
	Version string // with which the device was made; empty: none
	Handler Handler
	Service Service // nil: nothing to start
}

// errNotInstalled is why nothing can be made what starts next.
var errNotInstalled = errors.New("it is not prepared")
