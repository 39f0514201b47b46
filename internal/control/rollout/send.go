package rollout

import (
	"context"
	"time"

	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/sqldb"
)

const (
	sendEvery   = time.Second      // how often documents are looked through
	repeatEvery = 10 * time.Second // how often a stamp is told what it was told
	sendWait    = 5 * time.Second  // how long a stamp may take to answer
	maxReleases = 200              // contents of releases that are kept at hand
)

// sending is what a stamp was told last.
type sending struct {
	version int64
	at      time.Time
	busy    bool // it is being told just now
}

// Send tells each stamp what it is to run, if it was not told yet or a while
// ago. Each is told by itself: one that is slow keeps no other waiting.
func (rs *Rollouts) Send(ctx context.Context) error {
	standings, err := sqldb.Rows(ctx, rs.o.DB, scanStanding, selectStandings)
	if err != nil {
		return err
	}
	for _, s := range standings {
		if !rs.due(s) {
			continue
		}
		rs.sending.Go(func() { rs.told(s, rs.tell(ctx, s)) })
	}
	return nil
}

// due reports whether a stamp is to be told, and notes that it is.
func (rs *Rollouts) due(s Standing) bool {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	last := rs.sent[s.Stamp]
	if last.busy || last.version >= s.Version && rs.o.Now().Sub(last.at) < repeatEvery {
		return false
	}
	last.busy = true
	rs.sent[s.Stamp] = last
	return true
}

func (rs *Rollouts) told(s Standing, err error) {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	if err != nil {
		last := rs.sent[s.Stamp]
		last.busy = false
		rs.sent[s.Stamp] = last
		if !problem.Is(err, problem.NotReady) {
			rs.o.Logger.Warn("a stamp was not told what it is to run; trying again", "stamp", s.Stamp, "error", err)
		}
		return
	}
	rs.sent[s.Stamp] = sending{version: s.Version, at: rs.o.Now()}
	ring(rs.send) // it may have changed meanwhile
}

func (rs *Rollouts) tell(ctx context.Context, s Standing) error {
	ctx, cancel := context.WithTimeout(ctx, sendWait)
	defer cancel()
	doc, err := rs.document(ctx, s)
	if err != nil {
		return err
	}
	return rs.o.Put(ctx, s.Stamp, doc)
}

// Document is what a stamp is to run.
func (rs *Rollouts) Document(ctx context.Context, stamp string) (link.Releases, error) {
	s, found, err := sqldb.Row(ctx, rs.o.DB, scanStanding, selectStandings+" WHERE stamp = ?", stamp)
	if err == nil && !found {
		err = problem.New(problem.NotFound, "there is no stamp %q", stamp)
	}
	if err != nil {
		return link.Releases{}, err
	}
	return rs.document(ctx, s)
}

func (rs *Rollouts) document(ctx context.Context, s Standing) (link.Releases, error) {
	r, err := rs.inEffect(ctx, s)
	if err != nil {
		return link.Releases{}, err
	}
	var failed error
	doc := Document(s, r, func(name string) *link.Release {
		release, err := rs.release(ctx, name)
		if err != nil {
			failed = err
		}
		return release
	})
	return doc, failed
}

// inEffect is the rollout that is in effect on a stamp; nil if none is.
func (rs *Rollouts) inEffect(ctx context.Context, s Standing) (*Rollout, error) {
	if s.Rollout == "" {
		return nil, nil
	}
	r, err := readRollout(ctx, rs.o.DB, s.Rollout)
	return &r.Rollout, err
}

// release finds the content of a release, which never changes.
func (rs *Rollouts) release(ctx context.Context, name string) (*link.Release, error) {
	rs.mu.Lock()
	known := rs.releases[name]
	rs.mu.Unlock()
	if known != nil {
		return known, nil
	}
	release, err := rs.o.Release(ctx, name)
	if err != nil {
		return nil, err
	}
	rs.mu.Lock()
	defer rs.mu.Unlock()
	if len(rs.releases) >= maxReleases {
		clear(rs.releases)
	}
	rs.releases[name] = &release
	return &release, nil
}

// Routes are those of the release that runs on a stamp; they come and go with
// it.
func (rs *Rollouts) Routes(ctx context.Context, stamp string) ([]link.Route, error) {
	s, found, err := sqldb.Row(ctx, rs.o.DB, scanStanding, selectStandings+" WHERE stamp = ?", stamp)
	if err != nil || !found {
		return nil, err
	}
	r, err := rs.inEffect(ctx, s)
	if err != nil {
		return nil, err
	}
	name := shapeOf(s, r).runs()
	if name == "" {
		return nil, nil
	}
	release, err := rs.release(ctx, name)
	if err != nil {
		return nil, err
	}
	routes := make([]link.Route, len(release.Spec.Routes))
	for i, one := range release.Spec.Routes {
		one.Spec.Environment = s.Environment
		routes[i] = link.Route(one)
	}
	return routes, nil
}
