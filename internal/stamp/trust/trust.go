// Package trust keeps the certificate authorities whose devices a stamp lets
// in although provisioning did not send them: a back end made them, to show a
// certificate of any authority whose key somebody has proven to have.
package trust

import (
	"context"
	"database/sql"
	"fmt"
	"sync/atomic"

	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/sqldb"
)

// Trust is what provisioning says of authorities.
type Trust struct {
	db   *sqldb.DB
	kept atomic.Pointer[link.TrustedAuthorities]
	// Changed tells other processes that the authorities have changed; nil where
	// there are none.
	Changed func()
}

// Open reads what provisioning said last.
func Open(ctx context.Context, db *sqldb.DB) (*Trust, error) {
	t := &Trust{db: db}
	t.kept.Store(&link.TrustedAuthorities{})
	return t, t.Load(ctx)
}

// Load reads what provisioning said last, which another process may have heard.
func (t *Trust) Load(ctx context.Context) error {
	kept, found, err := sqldb.Row(ctx, t.db, func(rows *sql.Rows) (a link.TrustedAuthorities, err error) {
		return a, rows.Scan(&a.Version, &a.DER)
	}, "SELECT version, der FROM trusted WHERE id = 1")
	if err != nil {
		return fmt.Errorf("read the trusted authorities: %w", err)
	}
	if found {
		t.take(kept)
	}
	return nil
}

// take puts authorities into force, unless newer ones are.
func (t *Trust) take(all link.TrustedAuthorities) {
	for {
		before := t.kept.Load()
		if all.Version <= before.Version || t.kept.CompareAndSwap(before, &all) {
			return
		}
	}
}

// DER is of all trusted authorities, one after the other.
func (t *Trust) DER() []byte { return t.kept.Load().DER }

// Put takes the authorities from provisioning; documents may come late, twice
// or out of order.
func (t *Trust) Put(ctx context.Context, all link.TrustedAuthorities) (link.None, error) {
	if all.Version <= t.kept.Load().Version {
		return link.None{}, nil
	}
	if all.DER == nil {
		all.DER = []byte{}
	}
	err := t.db.Commit(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		_, err := tx.Exec(ctx, `INSERT INTO trusted (id, version, der) VALUES (1, ?, ?)
			ON CONFLICT (id) DO UPDATE SET version = excluded.version, der = excluded.der WHERE excluded.version > trusted.version`, all.Version, all.DER)
		return err
	})
	if err != nil {
		return link.None{}, fmt.Errorf("keep the trusted authorities: %w", err)
	}
	t.take(all)
	if t.Changed != nil {
		t.Changed()
	}
	return link.None{}, nil
}
