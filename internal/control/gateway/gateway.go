// Package gateway is the one place through which people act where a grant is
// needed: a shell over a device's methods and a stamp's data, and every request
// to the API and the console that only a grant allows. It records what is asked
// before it is done and what comes back before it is shown, cuts what was begun
// under a grant when that is over, and puts the digest of each record into the
// audit log.
package gateway

import (
	"context"
	"encoding/json"
	"log/slog"
	"sync"
	"time"

	"github.com/slipway/slipway/internal/control/access"
	"github.com/slipway/slipway/internal/control/audit"
	"github.com/slipway/slipway/internal/control/fleet"
	"github.com/slipway/slipway/internal/control/grant"
	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/sqldb"
	"github.com/slipway/slipway/internal/tasks"
)

// The ways by which people come.
const (
	Shell   = "shell"
	API     = "api"
	Console = "console"
)

// Session is what somebody does in one environment, by one way, with its
// record.
type Session struct {
	ID          string     `json:"id"`
	Environment string     `json:"environment"`
	Person      string     `json:"person"`
	Name        string     `json:"name"`
	Way         string     `json:"way" enum:"shell,api,console" doc:"A shell, or requests to the API or the console"`
	Grant       string     `json:"grant,omitempty" doc:"The grant that allows it; none where roles are enough"`
	Token       string     `json:"token,omitempty" doc:"Id of the token that opened a shell, which ends with it"`
	Until       *time.Time `json:"until,omitempty" doc:"When the grant ends, as it was when the session began"`
	Stamp       string     `json:"stamp,omitempty" doc:"The stamp whose data is asked"`
	Device      string     `json:"device,omitempty" doc:"The device it is about"`
	Reason      string     `json:"reason,omitempty"`
	OpenedAt    time.Time  `json:"openedAt"`
	LastAt      time.Time  `json:"lastAt" doc:"When something was last recorded"`
	Lines       int        `json:"lines" doc:"How many are recorded"`
	Bytes       int64      `json:"bytes"`
	ClosedAt    *time.Time `json:"closedAt,omitempty"`
	Outcome     string     `json:"outcome,omitempty" doc:"Why it was closed"`
	Digest      string     `json:"digest,omitempty" doc:"SHA-256 of its record, as the audit log has it"`
}

// Line is one line of a record.
type Line struct {
	Number int    `json:"number"`
	At     int64  `json:"at" doc:"Microseconds since the session was opened"`
	Kind   string `json:"kind" enum:"i,o" doc:"i: what was asked; o: what came back"`
	Text   string `json:"text"`
	// Request is the same as that of the entry in the audit log.
	Request string `json:"request,omitempty" doc:"Id of the request by which it came, as the audit log has it too"`
}

// The kinds of lines, as asciicast has them.
const (
	In  = "i"
	Out = "o"
)

// The limits of records.
const (
	maxLines   = 5000
	maxBytes   = 16 << 20
	maxText    = 256 << 10 // of a line; what is longer is cut, and says so
	maxIdle    = 30 * time.Minute
	maxSession = 8 * time.Hour
	maxOpen    = 200 // sessions of all people
	maxCommand = 64 << 10
	maxReason  = 2000
	lineWait   = 5 * time.Minute // how long one command may take
)

// Fleet is what a shell reaches.
type Fleet interface {
	Show(ctx context.Context, id string) (fleet.Detail, error)
	Twin(ctx context.Context, id string) (link.Twin, error)
	PatchTwin(ctx context.Context, actor access.Actor, id, ifMatch string, patch json.RawMessage) (link.Twin, error)
	InvokeMethod(ctx context.Context, actor access.Actor, req link.InvokeMethod) (link.MethodResult, error)
	SendMessage(ctx context.Context, actor access.Actor, m link.SendMessage) (link.QueuedMessage, error)
	Query(ctx context.Context, environment, stamp string, req link.RunQuery) ([]fleet.Answer, error)
}

// Grants is what the gateway needs of grants.
type Grants interface {
	Get(ctx context.Context, id string) (grant.Grant, error)
	Hold(ctx context.Context, id string) (context.Context, context.CancelFunc)
}

// Options are what the gateway is built from.
type Options struct {
	DB     *sqldb.DB
	Audit  *audit.Log
	Fleet  Fleet
	Grants Grants
	// Check lets an actor do something to a device, or on a stamp, or says what
	// is missing. Where a grant lets it be done, Pass is called.
	Check func(ctx context.Context, actor access.Actor, permission string, at Place) error
	// Still is an actor as it is now, by its token, or says that it is void.
	Still func(ctx context.Context, actor access.Actor) (access.Actor, error)
	// Environment fails if there is no such environment.
	Environment func(ctx context.Context, name string) error
	// Stamp returns the environment of a stamp.
	Stamp  func(ctx context.Context, name string) (environment string, err error)
	Logger *slog.Logger
	Now    func() time.Time
}

// Place is where a line of a shell does something.
type Place struct{ Environment, Stamp, Tenant, Device string }

// Gateway records and cuts what people do, in control's database.
type Gateway struct {
	o    Options
	bell tasks.Bell // rings whenever something was recorded or closed

	mu   sync.Mutex
	busy map[string]int // what goes on in each session, and will have an answer
}

// New returns a gateway over o.DB.
func New(o Options) *Gateway { return &Gateway{o: o, busy: map[string]int{}} }

// enter and leave say that something goes on in a session, whose record is not
// closed before the answer is in it.
func (g *Gateway) enter(id string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.busy[id]++
}

func (g *Gateway) leave(id string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.busy[id]--; g.busy[id] == 0 {
		delete(g.busy, id)
	}
}

func (g *Gateway) idle(id string) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.busy[id] == 0
}

func (g *Gateway) now() time.Time { return g.o.Now().UTC().Truncate(time.Microsecond) }

// lookEvery is how often Run looks for sessions that should be closed.
const lookEvery = 500 * time.Millisecond

// Run closes sessions whose grant or time is over, until ctx ends. Nothing is
// let through in the meantime: each request checks for itself.
func (g *Gateway) Run(ctx context.Context) error {
	return tasks.Every(ctx, lookEvery, func() {
		if err := g.Look(ctx); err != nil && ctx.Err() == nil {
			g.o.Logger.Warn("sessions are looked at again", "error", err)
		}
	})
}

// Look does once what Run repeats.
func (g *Gateway) Look(ctx context.Context) error {
	all, err := g.sessions(ctx, "open = 1")
	if err != nil {
		return err
	}
	for _, s := range all {
		over, err := g.over(ctx, s)
		if err == nil && over != "" && g.idle(s.ID) {
			err = g.close(ctx, s.ID, grant.Robot, over)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// over says why a session is over, or nothing if it goes on.
func (g *Gateway) over(ctx context.Context, s Session) (string, error) {
	now := g.now()
	if s.Grant != "" {
		given, err := g.o.Grants.Get(ctx, s.Grant)
		if err != nil {
			return "", err
		}
		if !given.On(now) {
			return "grant " + s.Grant + " is over", nil
		}
	}
	if s.Way == Shell {
		if err := g.still(ctx, s); access.Lost(err) {
			return problem.Of(err).Message, nil
		} else if err != nil {
			return "", err
		}
	}
	switch {
	case s.Way == Shell && now.Sub(s.LastAt) >= maxIdle:
		return "nothing was asked for " + maxIdle.String(), nil
	case s.Way == Shell && now.Sub(s.OpenedAt) >= maxSession:
		return "a session lasts at most " + maxSession.String(), nil
	}
	return "", nil
}

// still says why who opened a shell may not go on with it: their token is void,
// or their roles let them read there no longer. A grant ends by itself.
func (g *Gateway) still(ctx context.Context, s Session) error {
	ctx = access.OnceMore(ctx)
	actor, err := g.o.Still(ctx, access.Actor{TokenID: s.Token})
	if err != nil || s.Grant != "" {
		return err
	}
	return g.o.Check(ctx, actor, reading, Place{Environment: s.Environment, Stamp: s.Stamp})
}
