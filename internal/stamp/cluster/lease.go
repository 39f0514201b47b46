package cluster

import (
	"context"
	"time"

	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/sqldb"
)

// renew renews the lease, takes the lead where nobody has it, and looks who is
// there.
func (c *Cluster) renew(ctx context.Context) error {
	ping, cancel := context.WithTimeout(ctx, askWait)
	defer cancel()
	if err := c.Conn.Ping(ping); err != nil {
		// Nobody could tell this process anything; the database may.
		members, failed := c.look(ctx, c.DB)
		if failed == nil && c.joined && !listed(members, c.id) {
			c.fall()
		}
		return err
	}
	began, mark := c.since(), c.Conn.Mark()
	if began-c.reached.Load() > int64(reachFor) {
		return problem.New(problem.NotReady, "the stamp's log has had no leader that can be reached for %s", reachFor)
	}
	var held, leads bool
	var members []Member
	err := c.DB.CommitOutside(ctx, func(ctx context.Context, tx *sqldb.Tx) (err error) {
		if held, err = c.holdLease(ctx, tx); err != nil || !held {
			return err
		}
		if leads, err = c.takeLead(ctx, tx); err != nil {
			return err
		}
		members, err = c.look(ctx, tx)
		return err
	})
	if err != nil {
		return err
	}
	if !held {
		c.fall()
		return errGivenUp
	}
	c.joined = true
	c.Conn.Certain(mark)
	c.take(members)
	c.met(began)
	c.renewed.Store(began)
	if c.apart.CompareAndSwap(true, false) {
		c.Logger.Info("one of the stamp's processes again")
		c.Again()
	}
	c.hold(leads, began)
	return nil
}

// errGivenUp is what a process hears that did not answer another one for too
// long.
var errGivenUp = problem.New(problem.NotReady, "the other processes have given this one up; it begins anew")

// fall has a process that others have given up let go of its devices. It may
// join again when that is done.
func (c *Cluster) fall() {
	c.joined = false
	c.Logger.Warn("the other processes have given this one up, as it did not answer; it begins anew")
	if !c.apart.Swap(true) {
		c.Apart()
	}
	c.hold(false, 0)
}

// holdLease renews the lease. One that was taken away is not renewed, but begun
// anew by a process that knows.
func (c *Cluster) holdLease(ctx context.Context, tx *sqldb.Tx) (held bool, err error) {
	if c.joined {
		n, err := tx.Exec(ctx, "UPDATE process SET renewed_at = "+c.clock()+", connections = ? WHERE id = ? AND renewed_at > 0", c.Connections(), c.id)
		return n == 1, err
	}
	_, err = tx.Exec(ctx, `INSERT INTO process (id, name, version, started_at, renewed_at, connections) VALUES (?, ?, ?, ?, `+c.clock()+`, ?)
		ON CONFLICT (id) DO UPDATE SET renewed_at = excluded.renewed_at, connections = excluded.connections`,
		c.id, c.Name, c.Version, sqldb.Micros(c.started), c.Connections())
	return true, err
}

// doubt decides about a process that does not answer. One that renews its lease
// all the same is but slow, which is no reason to take its devices: whoever
// asked has to come again.
func (c *Cluster) doubt(ctx context.Context, id string, away bool) error {
	members, err := c.look(ctx, c.DB)
	if err != nil {
		return err
	}
	c.take(members)
	for _, m := range members {
		switch {
		case m.ID != id || m.GivenUp:
		case away || m.Left < lease-claimWait:
			return c.giveUp(ctx, id, away)
		default:
			return problem.New(problem.NotReady, "process %s of stamp %s is slow to answer; try again", id, c.Stamp).After(askWait)
		}
	}
	return nil
}

// giveUp takes a process that does not answer off the stamp: from the moment
// this returns it changes nothing in the database. One that the servers know to
// be away acknowledges nothing either before it has looked at its lease again;
// another one is given the time to notice. Whoever cannot reach the servers
// does not know who it is that has lost the others.
func (c *Cluster) giveUp(ctx context.Context, id string, away bool) error {
	ping, cancel := context.WithTimeout(ctx, askWait)
	defer cancel()
	if err := c.Conn.Ping(ping); err != nil {
		return problem.New(problem.NotReady, "this process cannot reach the others of stamp %s; try again: %w", c.Stamp, err).After(time.Second)
	}
	since := "-" + c.clock() // the moment, below zero
	if away {
		since = "-1" // long ago
	}
	var first int64
	var members []Member
	err := c.DB.Commit(ctx, func(ctx context.Context, tx *sqldb.Tx) (err error) {
		if first, err = tx.Exec(ctx, "UPDATE process SET renewed_at = "+since+" WHERE id = ? AND renewed_at > 0", id); err != nil {
			return err
		}
		members, err = c.look(ctx, tx)
		return err
	})
	if err != nil {
		return err
	}
	if first == 1 {
		c.Logger.Warn("a process of the stamp does not answer; it is given up", "process", id)
	}
	c.take(members)
	return nil
}

// unnoticed is how much longer processes that were given up may believe that
// they are not.
func (c *Cluster) unnoticed() (longest time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, m := range c.members {
		if m.GivenUp && m.ID != c.id {
			longest = max(longest, noticeWait-m.GivenUpFor-time.Since(c.looked))
		}
	}
	return longest
}

// bury has those forgotten whose lease has ended and who have not answered for
// as long as it takes them to set themselves apart. One that answers has but
// lost the database.
func (c *Cluster) bury(ctx context.Context) error {
	for _, m := range c.Members() {
		if m.ID == c.id || m.Left > 0 || !c.silence(ctx, m.ID) {
			continue
		}
		c.Logger.Warn("a process of the stamp is gone", "process", m.ID)
		if err := c.Gone(ctx, m.ID); err != nil {
			return err
		}
		err := c.DB.Commit(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
			_, err := tx.Exec(ctx, "DELETE FROM process WHERE id = ? AND renewed_at + ? < "+c.clock(), m.ID, lease.Microseconds())
			return err
		})
		if err != nil {
			return err
		}
		c.answered(m.ID, nil)
	}
	return nil
}

// graveWait is how long a process that has lost the database may go on while
// nobody can ask it: then it has set itself apart.
const graveWait = apartAfter + askWait

// silence reports whether a process has not answered for that long.
func (c *Cluster) silence(ctx context.Context, id string) bool {
	ctx, cancel := context.WithTimeout(ctx, askWait)
	defer cancel()
	_, err := Ask(ctx, c, id, alive, link.None{})
	return c.answered(id, err) > graveWait
}
