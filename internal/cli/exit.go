package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/slipway/slipway/internal/problem"
)

// The exit codes, documented in docs/operating.md.
const (
	exitDone        = 0
	exitFailed      = 1
	exitUsage       = 2
	exitNo          = 3 // the question was answered, and the answer is no
	exitNotFound    = 4
	exitConflict    = 5
	exitUnreachable = 6
	exitDenied      = 7
	exitLate        = 8
	exitInterrupted = 130
)

// usageError is a mistake in arguments or flags.
type usageError struct{ cause error }

func (u usageError) Error() string { return u.cause.Error() }
func (u usageError) Unwrap() error { return u.cause }

func usage(format string, args ...any) error { return usageError{fmt.Errorf(format, args...)} }

// answer ends a command with an exit code and without a complaint, as what it
// printed says it all.
type answer int

func (a answer) Error() string { return fmt.Sprintf("exit code %d", int(a)) }

// hinted is an error that knows its remedy.
type hinted struct {
	error
	hint string
}

func (h hinted) Unwrap() error { return h.error }

// withHint pairs an error with what to do about it.
func withHint(err error, format string, args ...any) error {
	return hinted{err, fmt.Sprintf(format, args...)}
}

// codes are the exit codes by kind of failure.
var codes = map[problem.Kind]int{
	problem.Invalid: exitUsage, problem.TooLarge: exitUsage,
	problem.NotFound: exitNotFound,
	problem.Conflict: exitConflict, problem.Stale: exitConflict,
	problem.NotReady: exitUnreachable, problem.Busy: exitUnreachable,
	problem.TimedOut:        exitLate,
	problem.Unauthenticated: exitDenied, problem.Denied: exitDenied,
	problem.Internal: exitFailed,
}

// codeOf is the exit code of a failure past usage.
func codeOf(err error) int {
	var known *problem.Error
	switch {
	case errors.As(err, &known):
		return codes[known.Kind]
	case errors.Is(err, context.DeadlineExceeded):
		return exitLate
	}
	return exitFailed
}

// conclude turns the result of a command into words and an exit code.
func (a *app) conclude(ctx context.Context, cmd *cobra.Command, err error) int {
	var silent answer
	var mistake usageError
	var known *problem.Error
	switch {
	case err == nil:
		return exitDone
	case errors.As(err, &silent):
		return int(silent)
	case ctx.Err() != nil && errors.Is(err, context.Canceled):
		a.complain("interrupted", a.hintOf(err, ""))
		return exitInterrupted
	case errors.As(err, &mistake) || !a.started:
		a.complain(err.Error(), a.hintOf(err, "`"+cmd.CommandPath()+" --help` shows how it is used"))
		return exitUsage
	case errors.As(err, &known):
		a.complain(err.Error(), a.hintOf(err, hints[known.Kind]))
	case errors.Is(err, context.DeadlineExceeded):
		a.complain("not done in time", a.hintOf(err, ""))
	default:
		a.complain(err.Error(), a.hintOf(err, ""))
	}
	return codeOf(err)
}

// hints are what helps with a kind of failure when nothing better is known.
var hints = map[problem.Kind]string{
	problem.NotFound:        "the matching `list` command shows what there is",
	problem.Stale:           "read it again, look at what changed, and repeat",
	problem.NotReady:        "`slipway doctor` finds out what is missing",
	problem.Busy:            "wait a little, then repeat",
	problem.TimedOut:        "the other side did not answer in time; it may still have done what was asked",
	problem.Unauthenticated: "set SLIPWAY_TOKEN, or tokenFile in ~/.config/slipway/config.yaml; the first token is in admin-token in the server's data directory",
	problem.Denied:          "ask somebody whose token may do this",
	problem.Internal:        "the server's log has the details",
}

func (a *app) hintOf(err error, otherwise string) string {
	var h hinted
	if errors.As(err, &h) {
		return h.hint
	}
	return otherwise
}

// complain writes an error in the one form all commands use. A stderr that
// cannot be written to leaves nobody to tell.
func (a *app) complain(message, hint string) {
	text := "slipway: " + strings.TrimSpace(clean(message)) + "\n"
	if hint != "" {
		text += "hint: " + hint + "\n"
	}
	a.note("%s", text)
}
