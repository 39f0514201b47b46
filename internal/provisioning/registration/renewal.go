package registration

import (
	"context"
	"database/sql"
	"reflect"
	"time"

	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/provisioning/attestation"
	"github.com/slipway/slipway/internal/provisioning/enrollment"
	"github.com/slipway/slipway/internal/sqldb"
)

const (
	renewEvery = time.Second
	renewPage  = 500
)

// renewal is an enrolment whose keys or certificates have changed, and how far its devices'
// stamps have been told.
type renewal struct {
	kind        link.EnrollmentKind
	name, after string
}

func scanRenewal(rows *sql.Rows) (r renewal, err error) {
	return r, rows.Scan(&r.kind, &r.name, &r.after)
}

// RunRenewals tells stamps of credentials that changed in enrolments, until ctx ends.
// A device that is connected stays so; at its next connection it needs a key,
// or a certificate of an authority, that the enrolment still has.
func (s *Service) RunRenewals(ctx context.Context) error {
	tick := time.NewTicker(renewEvery)
	defer tick.Stop()
	for {
		if err := s.renew(ctx); err != nil && ctx.Err() == nil {
			s.logger.Error("keys not renewed on stamps; trying again", "error", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// renew works the renewals off, a page of registrations after the other.
func (s *Service) renew(ctx context.Context) error {
	for ctx.Err() == nil {
		r, found, err := sqldb.Row(ctx, s.db, scanRenewal, "SELECT kind, name, after FROM renewal ORDER BY kind, name LIMIT 1")
		if err != nil || !found {
			return err
		}
		if err := s.renewSome(ctx, r); err != nil {
			return err
		}
	}
	return nil
}

func (s *Service) renewSome(ctx context.Context, of renewal) error {
	var keys []string
	err := s.db.Commit(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		keys = nil
		e, found, err := enrollment.Load(ctx, tx, of.kind, of.name)
		if err != nil {
			return err
		}
		page, err := sqldb.Rows(ctx, tx, scanRecord, selectRecord+" WHERE enrollment_kind = ? AND enrollment = ? AND id > ? ORDER BY id LIMIT ?", string(of.kind), e.Name, of.after, renewPage)
		if err != nil {
			return err
		}
		if !found || len(page) == 0 {
			_, err := tx.Exec(ctx, "DELETE FROM renewal WHERE kind = ? AND name = ?", string(of.kind), of.name)
			return err
		}
		entry, err := attestation.NewEntry(e)
		if err != nil {
			return err
		}
		for i := range page {
			if renewed, err := s.renewOne(ctx, tx, entry, &page[i]); err != nil {
				return err
			} else if renewed {
				keys = append(keys, page[i].Key)
			}
		}
		_, err = tx.Exec(ctx, "UPDATE renewal SET after = ? WHERE kind = ? AND name = ?", page[len(page)-1].Key, string(of.kind), of.name)
		return err
	})
	for _, key := range keys {
		s.work(key)
	}
	return err
}

func (s *Service) renewOne(ctx context.Context, tx *sqldb.Tx, entry attestation.Entry, r *Record) (bool, error) {
	auth, ok := entry.Credentials(r.RegistrationID)
	if !ok || reflect.DeepEqual(auth, r.Auth) {
		return false, nil
	}
	now := s.clock()
	r.Auth, r.UpdatedAt = auth, now
	if r.Phase == link.PhaseAssigned {
		r.Due = &now
	}
	return true, save(ctx, tx, r)
}

// Revoke makes a certificate void and has the device's stamp told.
func (s *Service) Revoke(ctx context.Context, ref link.CertificateRef) (revoked link.IssuedCertificate, err error) {
	key := ""
	err = s.commit(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		if revoked, err = s.Issuer.Revoke(ctx, tx, ref.Serial); err != nil {
			return err
		}
		r, known, err := byKey(ctx, tx, revoked.RegistrationID)
		if err != nil || !known || r.Phase != link.PhaseAssigned {
			return err
		}
		now := s.clock()
		r.Due, r.UpdatedAt, key = &now, now, r.Key
		return save(ctx, tx, &r)
	})
	if err == nil && key != "" {
		s.work(key)
	}
	return revoked, err
}
