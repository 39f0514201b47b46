package authority

import (
	"context"
	"database/sql"
	"encoding/pem"
	"time"

	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/sqldb"
)

// retrust numbers what stamps are to trust from now on.
func retrust(ctx context.Context, tx *sqldb.Tx) error {
	_, err := tx.Exec(ctx, "UPDATE trusted SET version = version + 1 WHERE id = 1")
	return err
}

func (as *Authorities) changed() {
	select {
	case as.kick <- struct{}{}:
	default:
	}
}

// Trusted are the authorities that were proven, as stamps are told of them.
func (as *Authorities) Trusted(ctx context.Context) (trusted link.TrustedAuthorities, err error) {
	// The version is read first: a change in between is told again, with the next.
	trusted.Version, _, err = sqldb.Row(ctx, as.db, func(rows *sql.Rows) (n int64, err error) { return n, rows.Scan(&n) }, "SELECT version FROM trusted WHERE id = 1")
	if err != nil {
		return trusted, err
	}
	all, err := sqldb.Rows(ctx, as.db, scan, selectAuthority+" WHERE verified_at IS NOT NULL ORDER BY name_key")
	for _, a := range all {
		if block, _ := pem.Decode([]byte(a.Certificate)); block != nil {
			trusted.DER = append(trusted.DER, block.Bytes...)
		}
	}
	return trusted, err
}

// tellEvery is how often stamps are told without a reason.
const tellEvery = 10 * time.Second

// Tell has each told what is trusted, whenever that changes and now and then,
// until ctx ends. What cannot be read is tried again.
func (as *Authorities) Tell(ctx context.Context, each func(context.Context, link.TrustedAuthorities)) error {
	tick := time.NewTicker(tellEvery)
	defer tick.Stop()
	for {
		if trusted, err := as.Trusted(ctx); err == nil {
			each(ctx, trusted)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-as.kick:
		case <-tick.C:
		}
	}
}
