package ofrep

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/slipway/slipway/internal/control/featureflag"
	"github.com/slipway/slipway/internal/problem"
)

// ticketStep is how long two answers give the same address of a stream, so that
// clients keep the stream they have.
const ticketStep = 12 * time.Hour

// ticket lets its bearer hear when the flags of a scope have changed, and
// nothing else. It says nothing about who that is.
func (h *handler) ticket(scope []string) string {
	until := h.Now().Truncate(ticketStep).Add(ticketStep + streamLife).Unix()
	return strconv.FormatInt(until, 10) + "." + h.mac(scope, until)
}

func (h *handler) mac(scope []string, until int64) string {
	mac := hmac.New(sha256.New, h.Secret)
	fmt.Fprintf(mac, "stream\n%s\n%d", strings.Join(scope, "/"), until)
	return base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
}

func (h *handler) checkTicket(scope []string, ticket string) error {
	text, mac, _ := strings.Cut(ticket, ".")
	until, err := strconv.ParseInt(text, 10, 64)
	if err != nil || !hmac.Equal([]byte(mac), []byte(h.mac(scope, until))) {
		return problem.New(problem.Unauthenticated, "the ticket is not for this stream; ask for all flags, the answer has one")
	}
	if h.Now().Unix() >= until {
		return problem.New(problem.Unauthenticated, "the ticket has expired; ask for all flags, the answer has one")
	}
	return nil
}

// event is what a stream says.
type event struct {
	Type string `json:"type"`
	ETag string `json:"etag"`
}

// stream tells each change of a scope's flags until the client leaves or the
// stream has lived long enough.
func (h *handler) stream(w http.ResponseWriter, r *http.Request, path []string) {
	scope := featureflag.Scope{Environment: path[1]}
	var err error
	if path[0] == "stamps" {
		scope, err = h.Flags.ScopeOfStamp(path[1])
	}
	if ticketErr := h.checkTicket(path, r.URL.Query().Get("ticket")); ticketErr != nil {
		err = ticketErr
	}
	if err != nil {
		h.fail(w, "", err)
		return
	}
	select {
	case h.streams <- struct{}{}:
		defer func() { <-h.streams }()
	default:
		h.fail(w, "", problem.New(problem.Busy, "there are %d streams, the most at once", maxStreams).After(30*time.Second))
		return
	}
	ctx, done := context.WithTimeout(r.Context(), streamLife)
	defer done()
	f := follower{handler: h, scope: scope, out: http.NewResponseController(w), w: w, seen: r.Header.Get("Last-Event-ID")}
	w.Header().Set("Content-Type", "text/event-stream; charset=utf-8")
	w.WriteHeader(http.StatusOK)
	if err := f.follow(ctx); err != nil {
		h.Logger.Debug("a stream of flags ended", "error", err)
	}
}

// follower is one stream.
type follower struct {
	*handler
	scope featureflag.Scope
	out   *http.ResponseController
	w     http.ResponseWriter
	seen  string // the version that the client knows
}

// writeTime is how long a client may take to read an event.
const writeTime = 10 * time.Second

func (f *follower) say(text string) error {
	if err := f.out.SetWriteDeadline(time.Now().Add(writeTime)); err != nil {
		return err
	}
	if _, err := f.w.Write([]byte(text)); err != nil {
		return err
	}
	return f.out.Flush()
}

func (f *follower) follow(ctx context.Context) error {
	if err := f.greet(ctx); err != nil {
		return err
	}
	alive := time.NewTicker(keepAlive)
	defer alive.Stop()
	for {
		changed := f.Changed.Next()
		if err := f.tell(); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-changed:
		case <-alive.C:
			if err := f.say(": alive\n\n"); err != nil {
				return err
			}
		}
	}
}

// greet begins the stream. Who knows another version than there is now, or does
// not say which, is told to ask, at some moment of a short while: others come
// at the same time.
func (f *follower) greet(ctx context.Context) error {
	if err := f.say("retry: 2000\n\n"); err != nil {
		return err
	}
	state, err := f.Flags.Of(f.scope)
	if err != nil || f.seen == state.Version {
		return err
	}
	select {
	case <-ctx.Done():
	case <-time.After(rand.N(spread)):
	}
	return nil
}

// tell says that there is another version than the client knows.
func (f *follower) tell() error {
	state, err := f.Flags.Of(f.scope)
	if err != nil {
		return err
	}
	if state.Version == f.seen {
		return nil
	}
	f.seen = state.Version
	text, err := json.Marshal(event{Type: "refetchEvaluation", ETag: state.Version})
	if err != nil {
		return err
	}
	return f.say("id: " + f.seen + "\nevent: message\ndata: " + string(text) + "\n\n")
}
