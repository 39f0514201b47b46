package registration

import (
	"cmp"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"strings"
	"time"

	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/provisioning/enrollment"
	"github.com/slipway/slipway/internal/sqldb"
)

// hash is what is known of a registration that was barred and then forgotten:
// enough to know it again, and nobody else can try out ids against it.
func (s *Service) hash(key string) string {
	mac := hmac.New(sha256.New, s.BarKey)
	mac.Write([]byte("bar\x00" + key))
	return hex.EncodeToString(mac.Sum(nil))
}

// errBarred is what a device hears that was decommissioned.
var errBarred = problem.New(problem.Denied, "the device was decommissioned; it may not register until that is taken back")

// barred reports whether a registration may not go anywhere.
func (s *Service) barred(ctx context.Context, q sqldb.Querier, key string) (bool, error) {
	n, _, err := sqldb.Row(ctx, q, scanInt, "SELECT count(*) FROM bar WHERE hash = ?", s.hash(key))
	return n > 0, err
}

// registrationOf is the key of a device's registration; one that has none is
// known by its enrolment, or would register under its own id.
func registrationOf(ctx context.Context, q sqldb.Querier, device string) (r Record, known bool, err error) {
	r, known, err = byDevice(ctx, q, device)
	if err != nil || known {
		return r, known, err
	}
	r = Record{Key: strings.ToLower(device), RegistrationID: device, DeviceID: device, Tenant: link.DefaultTenant, Phase: link.PhaseWaiting}
	e, enrolled, err := enrollment.Load(ctx, q, link.Individual, device)
	if enrolled {
		r.Tenant = cmp.Or(e.Spec.Tenant, r.Tenant)
	}
	return r, false, err
}

// Bar keeps a device from registering, revokes the operational certificates it
// was given, and takes it off its stamp if that is wanted.
func (s *Service) Bar(ctx context.Context, req link.BarDevice) (state link.BarState, err error) {
	var key string
	err = s.commit(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		r, known, err := registrationOf(ctx, tx, req.DeviceID)
		if err != nil {
			return err
		}
		now := s.clock()
		key = r.Key
		id, device, tenant, reason := r.RegistrationID, req.DeviceID, r.Tenant, req.Reason
		if req.Forget {
			id, device, tenant, reason = "", "", "", "erased"
		}
		if _, err := tx.Exec(ctx, `INSERT INTO bar (hash, registration_id, device_id, tenant, reason, at) VALUES (?, ?, ?, ?, ?, ?)
			ON CONFLICT (hash) DO UPDATE SET registration_id = excluded.registration_id, device_id = excluded.device_id, tenant = excluded.tenant, reason = excluded.reason`,
			s.hash(key), id, device, tenant, reason, sqldb.Micros(now)); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, "UPDATE certificate SET revoked_at = ? WHERE registration = ? AND revoked_at IS NULL", sqldb.Micros(now), key); err != nil {
			return err
		}
		if known && req.Remove {
			if err := s.takeOff(ctx, tx, &r, req.Reason, now); err != nil {
				return err
			}
		}
		state = link.BarState{
			Registered: known, Off: r.Phase == link.PhaseWaiting && r.Stamp == "", Stamp: r.Stamp, Environment: r.Environment, Tenant: r.Tenant, Problem: r.Problem,
		}
		return nil
	})
	if err == nil {
		s.work(key)
	}
	return state, err
}

// takeOff begins the removal of a device from its stamp; it waits for nothing
// afterwards.
func (s *Service) takeOff(ctx context.Context, tx *sqldb.Tx, r *Record, reason string, now time.Time) error {
	leaving := r.Phase == link.PhaseAssigned || r.Phase == link.PhaseCreating
	if !leaving && !r.Open && r.Twin == nil {
		return nil
	}
	if leaving {
		r.note(stepRequested, reason, now)
		if err := r.leave(reason, now); err != nil {
			return err
		}
	}
	if r.Phase == link.PhaseWaiting {
		r.Due = nil
	}
	r.Open, r.Twin, r.UpdatedAt = false, nil, now
	return save(ctx, tx, r)
}

// Unbar lets a device register again.
func (s *Service) Unbar(ctx context.Context, req link.BarDevice) (link.None, error) {
	return link.None{}, s.commit(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		r, _, err := registrationOf(ctx, tx, req.DeviceID)
		if err != nil {
			return err
		}
		_, err = tx.Exec(ctx, "DELETE FROM bar WHERE hash = ?", s.hash(r.Key))
		return err
	})
}
