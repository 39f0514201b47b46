// Package tenant keeps how much telemetry the devices of each tenant may send
// together on a stamp, so that one that sends too much harms only itself.
package tenant

import (
	"context"
	"database/sql"
	"encoding/json"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"

	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/sqldb"
)

// Quotas are the tenants' shares of a stamp, as control declares them.
type Quotas struct {
	db   *sqldb.DB
	over atomic.Uint64
	// Changed tells other processes that quotas have changed; nil where there
	// are none.
	Changed func()

	mu     sync.RWMutex
	kept   link.Tenants
	shares int                      // among how many processes the quotas are divided
	paces  map[string]*rate.Limiter // by tenant; of those that have a quota
}

// Open reads what control said last.
func Open(ctx context.Context, db *sqldb.DB) (*Quotas, error) {
	q := &Quotas{db: db, shares: 1}
	return q, q.Load(ctx)
}

// Load reads what control said last, which another process may have heard.
func (q *Quotas) Load(ctx context.Context) error {
	text, found, err := sqldb.Row(ctx, q.db, func(rows *sql.Rows) (s string, err error) { return s, rows.Scan(&s) }, "SELECT document FROM tenants WHERE id = 1")
	if err != nil || !found {
		return err
	}
	var kept link.Tenants
	if err := json.Unmarshal([]byte(text), &kept); err != nil {
		return err
	}
	q.take(kept)
	return nil
}

// Held are the tenants as they are stored.
func (q *Quotas) Held(ctx context.Context) ([]link.Tenant, error) {
	text, found, err := sqldb.Row(ctx, q.db, func(rows *sql.Rows) (s string, err error) { return s, rows.Scan(&s) }, "SELECT document FROM tenants WHERE id = 1")
	if err != nil || !found {
		return nil, err
	}
	var kept link.Tenants
	err = json.Unmarshal([]byte(text), &kept)
	return kept.Items, err
}

// Divide has the quotas hold for so many processes together, each taking its
// share.
func (q *Quotas) Divide(processes int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if processes = max(1, processes); processes != q.shares {
		q.shares = processes
		q.pace()
	}
}

// take puts a document into force, unless a newer one is. A tenant whose quota
// stays keeps what it has used of it.
func (q *Quotas) take(document link.Tenants) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if document.Version <= q.kept.Version {
		return
	}
	q.kept = document
	q.pace()
}

// pace makes the limiters anew. The caller holds mu.
func (q *Quotas) pace() {
	paces := map[string]*rate.Limiter{}
	for _, tenant := range q.kept.Items {
		if tenant.MessagesPerSecond <= 0 {
			continue
		}
		limit := rate.Limit(tenant.MessagesPerSecond / float64(q.shares))
		pace := q.paces[tenant.Name]
		if pace == nil || pace.Limit() != limit {
			pace = rate.NewLimiter(limit, max(1, int(limit)))
		}
		paces[tenant.Name] = pace
	}
	q.paces = paces
}

// Put takes the tenants from control; documents may come late, twice or out of
// order.
func (q *Quotas) Put(ctx context.Context, document link.Tenants) (link.None, error) {
	q.mu.RLock()
	old := document.Version <= q.kept.Version
	q.mu.RUnlock()
	if old {
		return link.None{}, nil
	}
	text, err := json.Marshal(document)
	if err != nil {
		return link.None{}, err
	}
	err = q.db.Commit(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		_, err := tx.Exec(ctx, `INSERT INTO tenants (id, version, document) VALUES (1, ?, ?)
			ON CONFLICT (id) DO UPDATE SET version = excluded.version, document = excluded.document WHERE excluded.version > tenants.version`, document.Version, string(text))
		return err
	})
	if err == nil {
		q.take(document)
		if q.Changed != nil {
			q.Changed()
		}
	}
	return link.None{}, err
}

// MaxWait is how long messages wait for their tenant's quota at most. A
// connection whose tenant is further over it is better ended, as its device
// hears nothing meanwhile.
const MaxWait = 30 * time.Second

// Reserve takes the places of messages in their tenant's quota and returns how
// long they must wait for them; too long a wait is a problem of kind Busy, and
// takes nothing.
func (q *Quotas) Reserve(tenant string, messages int, now time.Time) (time.Duration, error) {
	q.mu.RLock()
	pace := q.paces[tenant]
	q.mu.RUnlock()
	if pace == nil {
		return 0, nil
	}
	places := pace.ReserveN(now, min(messages, pace.Burst()))
	wait := places.DelayFrom(now)
	if wait > MaxWait {
		places.CancelAt(now)
		return 0, q.exceeded(tenant, messages, pace, MaxWait)
	}
	return wait, nil
}

// Allow is Reserve for those that cannot wait.
func (q *Quotas) Allow(tenant string, messages int, now time.Time) error {
	q.mu.RLock()
	pace := q.paces[tenant]
	q.mu.RUnlock()
	if n := messages; pace == nil || pace.AllowN(now, min(n, pace.Burst())) {
		return nil
	}
	return q.exceeded(tenant, messages, pace, time.Second)
}

func (q *Quotas) exceeded(tenant string, messages int, pace *rate.Limiter, wait time.Duration) error {
	q.over.Add(uint64(messages))
	return problem.New(problem.Busy, "tenant %s sends more than its quota of %g messages a second on this stamp", tenant, float64(pace.Limit())).After(wait)
}

// Exceeded is how many messages were refused since start.
func (q *Quotas) Exceeded() uint64 { return q.over.Load() }
