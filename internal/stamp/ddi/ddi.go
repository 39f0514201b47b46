// Package ddi is the hawkBit Direct Device Integration edge of a stamp: update
// clients that exist, such as SWUpdate, RAUC's and Zephyr's, get their orders
// from it and answer it as they do a hawkBit server. What a device is to run is
// decided elsewhere; this package translates, and remembers how far a client
// has come with what it was offered.
package ddi

import (
	"cmp"
	"context"
	"io"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/sqldb"
	"github.com/slipway/slipway/internal/stamp/hub"
)

// Engine decides what devices run.
type Engine interface {
	// Order is what a device is to run, and where it stands with it; false: it
	// has no order.
	Order(ctx context.Context, deviceID string) (link.UpdateOrder, link.Update, bool, error)
	// Report takes what a device says of itself.
	Report(ctx context.Context, deviceID string, report link.UpdateReport) error
	// Artifact opens the file with a digest.
	Artifact(ctx context.Context, sha256 string) (io.ReadSeekCloser, int64, error)
}

// Settings are what an operator may set.
type Settings struct {
	// Poll is how long a client waits before it looks again.
	Poll time.Duration
	// Hardware are the attributes that name a device's kind of hardware, the
	// first that is there counting.
	Hardware []string
	// Versions are the attributes that say which version of a software runs, by
	// attribute. One called software.NAME needs no entry.
	Versions map[string]string
}

// DefaultSettings suit the clients as they come.
var DefaultSettings = Settings{
	Poll:     5 * time.Minute,
	Hardware: []string{"hardware", "hw_revision", "hwRevision", "compatible"},
	Versions: map[string]string{"version": "firmware"},
}

// Parts are what the edge serves.
type Parts struct {
	Hub      *hub.Hub
	Engine   Engine
	DB       *sqldb.DB
	Settings Settings
	Logger   *slog.Logger
	Now      func() time.Time
}

// Edge serves the update clients of one stamp.
type Edge struct {
	Parts
	records  store
	gateways gateways
	routes   []route

	mu        sync.Mutex
	transfers map[string]int // under way, by device
}

// or is s with what it leaves out as usual.
func (s Settings) or(usual Settings) Settings {
	s.Poll = cmp.Or(s.Poll, usual.Poll)
	if s.Hardware == nil {
		s.Hardware = usual.Hardware
	}
	if s.Versions == nil {
		s.Versions = usual.Versions
	}
	return s
}

// New returns the edge of a stamp.
func New(p Parts) *Edge {
	p.Settings = p.Settings.or(DefaultSettings)
	e := &Edge{Parts: p, records: store{p.DB}, gateways: gateways{p.DB}, transfers: map[string]int{}}
	e.routes = e.table()
	return e
}

// maxBody bounds what a client sends; the longest seen are the logs of failed
// installations, a tenth of it.
const maxBody = 64 << 10

// bodyTimeout is how long a client may take to send it.
const bodyTimeout = 30 * time.Second

// request is one request of a client that has proven who it is.
type request struct {
	ctx    context.Context
	w      http.ResponseWriter
	r      *http.Request
	at     place
	sender hub.Sender
}

// ServeHTTP answers one request of an update client.
func (e *Edge) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if err := e.serve(w, r); err != nil {
		e.refuse(w, r, err)
	}
}

func (e *Edge) serve(w http.ResponseWriter, r *http.Request) error {
	at, ok := placeOf(r.URL.EscapedPath())
	if !ok {
		return problem.New(problem.NotFound, "there is nothing at %s", r.URL.Path)
	}
	serve, err := e.find(r.Method, at.rest)
	if err != nil {
		return err
	}
	sender, err := e.authenticate(r, at)
	if err != nil {
		return err
	}
	return serve(&request{r.Context(), w, r, at, sender})
}

// find leads a method and what stands behind the controller's id to what
// serves it.
func (e *Edge) find(method string, rest []string) (func(*request) error, error) {
	served := false
	for _, route := range e.routes {
		if !matches(route.pattern, rest) {
			continue
		}
		if route.method == method {
			return route.serve, nil
		}
		served = true
	}
	if served {
		return nil, refusal{problem.New(problem.Invalid, "this takes no %s", method), http.StatusMethodNotAllowed}
	}
	return nil, problem.New(problem.NotFound, "update clients have no such resource here")
}

// route leads a method and a path to what serves it.
type route struct {
	method  string
	pattern []string // "" stands for any one segment
	serve   func(*request) error
}

// table is every resource that clients use.
func (e *Edge) table() []route {
	artifacts := []string{"softwaremodules", "", "artifacts"}
	file := []string{"softwaremodules", "", "artifacts", ""}
	return []route{
		{http.MethodGet, nil, e.poll},
		{http.MethodGet, []string{"deploymentBase", ""}, e.deployment},
		{http.MethodPost, []string{"deploymentBase", "", "feedback"}, e.feedback},
		{http.MethodGet, []string{"cancelAction", ""}, e.cancellation},
		{http.MethodPost, []string{"cancelAction", "", "feedback"}, e.cancelFeedback},
		{http.MethodGet, []string{"installedBase", ""}, e.installed},
		{http.MethodPut, []string{"installedBase"}, e.runs},
		{http.MethodGet, []string{"confirmationBase"}, e.confirmation},
		{http.MethodPut, []string{"configData"}, e.attributes},
		{http.MethodGet, artifacts, e.artifacts},
		{http.MethodGet, file, e.download},
		{http.MethodHead, file, e.download},
	}
}

func matches(pattern, segments []string) bool {
	if len(pattern) != len(segments) {
		return false
	}
	for i, want := range pattern {
		if want != "" && want != segments[i] || segments[i] == "" {
			return false
		}
	}
	return true
}
