package device

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/slipway/slipway/device/retry"
	"github.com/slipway/slipway/internal/mqtt"
)

// The reasons for which a message is not sent or a question not answered.
var (
	ErrDropped  = errors.New("the message was dropped: the queue is full")
	ErrGivenUp  = errors.New("the message was given up: no connection survived sending it")
	ErrTooLarge = errors.New("the message is larger than a hub takes")
	ErrInvalid  = errors.New("the message is not one a hub takes")
	ErrClosed   = errors.New("the device is closed")
)

// errRenew ends a connection whose token is about to expire.
var errRenew = errors.New("the token is being renewed")

// errSlow ends a connection on which more arrives than the handlers work off.
// What was not acknowledged comes again, and Connected tells to read the twin.
var errSlow = fmt.Errorf("the handlers are too slow: %d calls wait", maxCalls)

// errLost is why a question on a lost connection has no answer.
var errLost = errors.New("the connection was lost before the answer")

// Refusal is an answer that says no.
type Refusal struct {
	ByHub      bool          // not by provisioning
	Permanent  bool          // asking again is no use
	Status     int           // 0 when the connection was refused
	RetryAfter time.Duration // what the other side asked for; 0: nothing
	Message    string
}

// Error says who refused and why.
func (r *Refusal) Error() string {
	who := "provisioning"
	if r.ByHub {
		who = "the hub"
	}
	if r.Status == 0 {
		return fmt.Sprintf("refused by %s: %s", who, r.Message)
	}
	return fmt.Sprintf("refused by %s with status %d: %s", who, r.Status, r.Message)
}

func asRefusal(err error) *Refusal {
	var r *Refusal
	if errors.As(err, &r) {
		return r
	}
	return nil
}

// refusedConnect is what a CONNACK other than 0 means: only "server
// unavailable" passes.
func refusedConnect(byHub bool, code mqtt.ConnackCode) *Refusal {
	return &Refusal{ByHub: byHub, Permanent: code != mqtt.ServerUnavailable, Message: code.String()}
}

// refusedRequest reads an answer with a status that is no success.
func refusedRequest(byHub bool, status int, after time.Duration, body []byte) *Refusal {
	var answer struct {
		Message string `json:"message"`
	}
	if json.Unmarshal(body, &answer) != nil || answer.Message == "" {
		answer.Message = excerpt(body)
	}
	return &Refusal{ByHub: byHub, Permanent: !retry.Transient(status), Status: status, RetryAfter: after, Message: answer.Message}
}

// excerpt keeps what others send short in errors.
func excerpt(body []byte) string {
	return strings.ToValidUTF8(string(body[:min(len(body), 200)]), "?")
}
