// Package problem is the one vocabulary of failure inside Slipway: a kind, and
// a sentence fit for the person or program that asked. Each edge (HTTP API,
// console, MQTT, CLI) translates a kind once, in one function of its own; an
// error without a kind is internal: logged in full, shown as nothing.
package problem

import (
	"errors"
	"fmt"
	"time"
)

// Kind says what sort of failure an error is.
type Kind string

// The kinds. Internal is what every other error is.
const (
	Invalid         Kind = "invalid"         // the request is wrong and stays wrong
	Unauthenticated Kind = "unauthenticated" // who asks could not be established
	Denied          Kind = "denied"          // who asks is known and may not
	NotFound        Kind = "not-found"       // the thing is not here
	Conflict        Kind = "conflict"        // the thing's state forbids it
	Stale           Kind = "stale"           // the ETag sent is not the current one
	TooLarge        Kind = "too-large"       // a size limit was passed
	NotReady        Kind = "not-ready"       // the other side is away; try again
	TimedOut        Kind = "timed-out"       // the other side did not answer in time
	Busy            Kind = "busy"            // a rate limit was passed; see RetryAfter
	Internal        Kind = "internal"        // a fault of ours
)

// Error is a failure with a kind. Message names the field, the limit and the
// remedy where there is one; Field is a path such as "spec.capacity".
type Error struct {
	Kind       Kind          `json:"kind"`
	Message    string        `json:"message"`
	Field      string        `json:"field,omitempty"`
	RetryAfter time.Duration `json:"retryAfter,omitempty"`
	cause      error
}

// New makes an Error of a kind. A %w in format keeps its cause for errors.Is.
func New(kind Kind, format string, args ...any) *Error {
	wrapped := fmt.Errorf(format, args...)
	return &Error{Kind: kind, Message: wrapped.Error(), cause: errors.Unwrap(wrapped)}
}

// At returns a copy of e that names the field at fault.
func (e *Error) At(field string) *Error {
	named := *e
	named.Field = field
	return &named
}

// After returns a copy of e that asks the caller to wait d before trying again.
func (e *Error) After(d time.Duration) *Error {
	delayed := *e
	delayed.RetryAfter = d
	return &delayed
}

// Error returns the message, led by the field when one is named.
func (e *Error) Error() string {
	if e.Field == "" {
		return e.Message
	}
	return e.Field + ": " + e.Message
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.cause }

// Of returns err as an *Error; one without a kind comes back as Internal with
// a message that gives nothing away.
func Of(err error) *Error {
	var known *Error
	if errors.As(err, &known) {
		return known
	}
	return &Error{Kind: Internal, Message: "something went wrong inside Slipway; the server's log has the details", cause: err}
}

// Is reports whether err is of the kind.
func Is(err error, kind Kind) bool { return err != nil && Of(err).Kind == kind }
