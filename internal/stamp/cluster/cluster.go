// Package cluster keeps the processes of one stamp together: which of them are
// there, by leases in the database they share; which one leads, for the work
// that only one may do; and what they ask and tell one another over the stamp's
// NATS servers.
//
// A process that has lost what others have, or all of them, sets itself apart
// long before its lease ends: it serves no device any more. So whoever finds a
// lease ended knows that no device is connected there. And one that stood still
// for so long that others may have taken its devices lets go of them before it
// does anything else.
package cluster

import (
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/slipway/slipway/internal/bus"
	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/sqldb"
	"github.com/slipway/slipway/internal/tasks"
)

// The times of a cluster. A process is apart well before its lease ends, and
// leads no more well before another one may.
const (
	renewEvery  = time.Second
	lease       = 15 * time.Second
	apartAfter  = 8 * time.Second
	leaderLease = 6 * time.Second
	leadsFor    = 4 * time.Second
	// askWait is how long another process may take to say that it is there.
	askWait = 2 * time.Second
	// admitsFor is how long after its last renewal a process lets devices in.
	admitsFor = 3 * time.Second
	// stillAfter is how late the pulse of a process may be. claimWait, after
	// which others take the devices of one that does not answer, is longer.
	pulseEvery = 100 * time.Millisecond
	stillAfter = 4 * time.Second
	claimWait  = 5 * time.Second
	// awayFor is how long a process may take to find another server.
	awayFor = 2 * time.Second
	// reachEvery is how often it is tried whether the log has a leader, and
	// reachFor how long elections may take: a process on the lesser side of
	// servers that have lost one another renews no lease.
	reachEvery = 2 * time.Second
	reachFor   = 12 * time.Second
	// noticeWait is how long it takes a process at most to notice that it was
	// given up: to find out that no server answers, and look at its lease.
	noticeWait = renewEvery + 2*askWait
)

// Member is one process of a stamp.
type Member struct {
	ID          string
	Name        string // as people know it
	Version     string
	StartedAt   time.Time
	Connections int64
	Left        time.Duration // of its lease, when it was looked at
	GivenUp     bool          // it did not answer another one
	GivenUpFor  time.Duration
	Leads       bool
}

// Options are what a process is a member by.
type Options struct {
	Stamp, Name, Version string

	DB   *sqldb.DB
	Conn *bus.Conn // to the stamp's NATS servers
	// Reach tries whether the stamp's log has a leader.
	Reach func(ctx context.Context) error
	// Connections is how many devices the process has.
	Connections func() int64
	// Apart and Again are told when the process must not serve devices any
	// more, and when it may again; Stood when it stood still.
	Apart, Again, Stood func()
	// Gone is told of a process that is no more.
	Gone   func(ctx context.Context, id string) error
	Logger *slog.Logger
	Now    func() time.Time
}

// Cluster is a process's view of the processes of its stamp.
type Cluster struct {
	Options
	id      string
	started time.Time
	born    time.Time // monotonic, of this view

	contact atomic.Int64 // when the process was last known to be one of them, in ns since born
	leading atomic.Int64 // until when it leads, in ns since born
	reached atomic.Int64 // when the log last had a leader, in ns since born
	renewed atomic.Int64 // when it last renewed its lease, in ns since born
	pulse   atomic.Int64 // when it last ran, in ns since born
	apart   atomic.Bool
	lead    tasks.Bell // it begins to lead, or ends

	mu      sync.Mutex
	members []Member
	looked  time.Time            // when those were read
	silent  map[string]time.Time // since when a process does not answer

	joined bool // the lease was taken, as far as this process knows; renew's alone
}

// Join makes the process a member. It answers the others from then on, and
// must be Run soon.
func Join(ctx context.Context, o Options) (*Cluster, error) {
	c := &Cluster{Options: o, id: o.Name + "-" + rand.Text()[:8], started: o.Now(), born: time.Now(), silent: map[string]time.Time{}}
	err := errors.Join(
		Answer(c, alive, func(context.Context, link.None) (health, error) { return health{Renews: c.Admits()}, nil }),
		Answer(c, hello, func(ctx context.Context, _ link.None) (link.None, error) {
			members, err := c.look(ctx, c.DB)
			if err == nil {
				c.take(members)
			}
			return link.None{}, err
		}),
	)
	if err == nil {
		err = c.renew(ctx)
	}
	if err != nil {
		return nil, err
	}
	c.DB.Fence("SELECT 1 FROM process WHERE renewed_at > 0 AND id = '" + c.id + "'")
	c.pulse.Store(c.since())
	// The others are to ask this one from now on. Whoever does not answer finds
	// it in the database a moment later.
	ctx, cancel := context.WithTimeout(ctx, askWait)
	defer cancel()
	AskOthers(ctx, c, hello, link.None{})
	return c, nil
}

// ID is the process's own.
func (c *Cluster) ID() string { return c.id }

// alive is how one process asks another whether it is there, and hello how it
// says that it has come, or goes.
var (
	alive = link.Call[link.None, health]{Name: "alive"}
	hello = link.Call[link.None, link.None]{Name: "hello"}
)

// health is what a process says of itself.
type health struct {
	Renews bool `json:"renews"` // it renews its lease, so it has the database
}

// since is a moment as the atomics keep it.
func (c *Cluster) since() int64 { return int64(time.Since(c.born)) }

// clock is the database's own, as it stores times.
func (c *Cluster) clock() string {
	if c.DB.Dialect() == sqldb.PostgreSQL {
		return "(EXTRACT(EPOCH FROM clock_timestamp()) * 1000000)::BIGINT"
	}
	return "CAST(unixepoch('subsec') * 1000000 AS INTEGER)"
}

// look reads who is there.
func (c *Cluster) look(ctx context.Context, q sqldb.Querier) ([]Member, error) {
	return sqldb.Rows(ctx, q, scanMember, `SELECT p.id, p.name, p.version, p.started_at, p.connections, CASE WHEN p.renewed_at <= 0 THEN `+c.clock()+` + p.renewed_at ELSE -1 END, p.renewed_at + ? - `+c.clock()+`, coalesce(l.process, '') = p.id
		FROM process p LEFT JOIN leader l ON l.id = 1 ORDER BY p.name, p.id`, lease.Microseconds())
}

func scanMember(rows *sql.Rows) (m Member, err error) {
	var started, since, left int64
	err = rows.Scan(&m.ID, &m.Name, &m.Version, &started, &m.Connections, &since, &left, &m.Leads)
	m.StartedAt, m.Left = sqldb.Time(started), time.Duration(left)*time.Microsecond
	m.GivenUp, m.GivenUpFor = since >= 0, time.Duration(since)*time.Microsecond
	return m, err
}

func (c *Cluster) take(members []Member) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.members, c.looked = members, time.Now()
}

// Members are the processes that were there a moment ago, this one too.
func (c *Cluster) Members() []Member {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.members
}

// listed reports whether a process is one of some, and not given up.
func listed(members []Member, id string) bool {
	return slices.ContainsFunc(members, func(m Member) bool { return m.ID == id && !m.GivenUp })
}

// others are the ids of those whose lease runs.
func (c *Cluster) others() []string {
	var ids []string
	for _, m := range c.Members() {
		if m.ID != c.id && m.Left > 0 {
			ids = append(ids, m.ID)
		}
	}
	return ids
}

// met notes that the process was one of them at a moment.
func (c *Cluster) met(at int64) { c.contact.Store(max(at, c.contact.Load())) }

// Admits reports whether the process may let devices in: it has what the
// others have.
func (c *Cluster) Admits() bool {
	return c.Live() && c.since()-c.renewed.Load() < int64(admitsFor)
}

// Live reports whether the devices of the process are still its own. It asks
// nothing but the clock, so that it holds for whoever goes on in the midst of
// something after a standstill.
func (c *Cluster) Live() bool {
	now := c.since()
	return !c.apart.Load() && now-c.pulse.Load() < int64(stillAfter) && now-c.contact.Load() < int64(apartAfter)
}

// Run keeps the process a member until ctx ends, and then has the others know
// at once that it is gone. What serves devices must have ended by then.
func (c *Cluster) Run(ctx context.Context) error {
	err := tasks.Run(ctx, tasks.Task{Name: "lease", Run: c.keep}, tasks.Task{Name: "contact", Run: c.watch}, tasks.Task{Name: "pulse", Run: c.beat}, tasks.Task{Name: "reach", Run: c.reach})
	return errors.Join(err, c.leave())
}

func (c *Cluster) keep(ctx context.Context) error {
	return tasks.Every(ctx, renewEvery, func() {
		err := c.renew(ctx)
		if err == nil && c.Leads() {
			err = c.bury(ctx)
		}
		if err != nil && ctx.Err() == nil {
			c.Logger.Warn("the process's lease was not renewed", "error", err)
		}
	})
}

// reach keeps trying whether the log has a leader.
func (c *Cluster) reach(ctx context.Context) error {
	return tasks.Every(ctx, reachEvery, func() {
		began := c.since()
		try, cancel := context.WithTimeout(ctx, 2*reachEvery)
		defer cancel()
		if err := c.Reach(try); err == nil {
			c.reached.Store(began)
		} else if ctx.Err() == nil {
			c.Logger.Warn("the log has no leader that can be reached", "error", err)
		}
	})
}

// beat notices that the process stood still: it lets go of its devices before
// the pulse goes on.
func (c *Cluster) beat(ctx context.Context) error {
	return tasks.Every(ctx, pulseEvery, func() {
		if still := time.Duration(c.since() - c.pulse.Load()); still >= stillAfter {
			c.Logger.Warn("the process stood still; its devices may be elsewhere by now", "for", still)
			c.Stood()
		}
		c.pulse.Store(c.since())
	})
}

// watch sets the process apart when nobody has heard of it for too long. While
// nobody has the database, that other processes answer is enough: whoever takes
// a device off the stamp asks this one too. Once apart, only its lease brings
// the process back: the others may have buried it.
func (c *Cluster) watch(ctx context.Context) error {
	return tasks.Every(ctx, renewEvery/2, func() {
		switch silent := time.Duration(c.since() - c.contact.Load()); {
		case c.apart.Load():
		case silent > apartAfter:
			c.apart.Store(true)
			c.Logger.Error("the process has lost the database or the servers; devices are not served until it has them again", "for", silent)
			c.Apart()
		case silent > 2*renewEvery:
			c.hear(ctx)
		}
		if c.leading.Load() != 0 && !c.Leads() {
			c.leading.Store(0)
			c.lead.Ring()
		}
	})
}

// hear asks the others whether they are there, and no better off: where one of
// them has the database, that is the place for devices. A process that is alone
// has but the servers to ask.
func (c *Cluster) hear(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, askWait)
	defer cancel()
	began := c.since()
	others := c.others()
	if len(others) == 0 {
		if c.Conn.Ping(ctx) == nil {
			c.met(began)
		}
		return
	}
	heard := false
	for _, r := range AskAll(ctx, c, others, alive, link.None{}) {
		if r.Err == nil && r.Answer.Renews {
			return
		}
		heard = heard || r.Err == nil
	}
	if heard {
		c.met(began)
	}
}

// answered notes whether a process answered, and returns for how long it has
// not.
func (c *Cluster) answered(id string, err error) time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err == nil {
		delete(c.silent, id)
		return 0
	}
	if c.silent[id].IsZero() {
		c.silent[id] = time.Now()
	}
	return time.Since(c.silent[id])
}

// leave gives lease and lead back.
func (c *Cluster) leave() error {
	ctx, cancel := context.WithTimeout(context.Background(), askWait)
	defer cancel()
	c.leading.Store(0)
	c.lead.Ring()
	err := c.DB.CommitOutside(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		if _, err := tx.Exec(ctx, "DELETE FROM leader WHERE process = ?", c.id); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, "DELETE FROM process WHERE id = ?", c.id)
		return err
	})
	if problem.Is(err, problem.NotReady) {
		return nil // the lease ends by itself
	}
	AskOthers(ctx, c, hello, link.None{})
	return err
}
