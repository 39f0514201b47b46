package device

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"strings"
	"time"

	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/sqldb"
)

// The limits of what a back end says of an identity.
const (
	maxStatusReason = 128
	maxManagedBy    = 128
	maxParents      = 1
	minKey, maxKey  = 16, 64
	newKeyBytes     = 32
)

// complete checks a new identity and fills in what was left open.
func (s *Spec) complete() error {
	if s.Status == "" {
		s.Status = Enabled
	}
	if s.Auth.Type == "" {
		s.Auth.Type = link.AuthSAS
	}
	s.Auth = withKeys(s.Auth)
	return s.check()
}

// withKeys makes the keys that a SAS identity lacks.
func withKeys(a link.Auth) link.Auth {
	if a.Type != link.AuthSAS {
		return a
	}
	if len(a.PrimaryKey) == 0 {
		a.PrimaryKey = newKey()
	}
	if len(a.SecondaryKey) == 0 {
		a.SecondaryKey = newKey()
	}
	return a
}

func newKey() []byte {
	key := make([]byte, newKeyBytes)
	if _, err := rand.Read(key); err != nil {
		panic(err) // crypto/rand never fails on supported systems
	}
	return key
}

func (s Spec) check() error {
	if err := CheckID(s.ID); err != nil {
		return err
	}
	switch {
	case link.IsProbe(s.ID):
		return problem.New(problem.Invalid, "the name %s is for Slipway's own probes", s.ID).At("deviceId")
	case s.Status != Enabled && s.Status != Disabled:
		return problem.New(problem.Invalid, "a status is %s or %s, not %q", Enabled, Disabled, s.Status).At("status")
	case len(s.StatusReason) > maxStatusReason:
		return problem.New(problem.Invalid, "a status reason has at most %d characters, not %d", maxStatusReason, len(s.StatusReason)).At("statusReason")
	case len(s.ManagedBy) > maxManagedBy:
		return problem.New(problem.Invalid, "this has at most %d characters, not %d", maxManagedBy, len(s.ManagedBy)).At("managedBy")
	case len(s.ParentScopes) > maxParents:
		return problem.New(problem.Invalid, "a device stands behind at most %d gateway, not %d", maxParents, len(s.ParentScopes)).At("parentScopes")
	}
	return checkAuth(s.Auth)
}

func checkAuth(a link.Auth) error {
	switch a.Type {
	case link.AuthSAS:
		for field, key := range map[string][]byte{"primaryKey": a.PrimaryKey, "secondaryKey": a.SecondaryKey} {
			if len(key) != 0 && (len(key) < minKey || len(key) > maxKey) {
				return problem.New(problem.Invalid, "a key has %d to %d bytes, not %d", minKey, maxKey, len(key)).At("authentication.symmetricKey." + field)
			}
		}
	case link.AuthSelfSigned:
		if a.PrimaryThumbprint == "" && a.SecondaryThumbprint == "" {
			return problem.New(problem.Invalid, "a self-signed identity needs the thumbprint of its certificate").At("authentication.x509Thumbprint")
		}
		for field, text := range map[string]string{"primaryThumbprint": a.PrimaryThumbprint, "secondaryThumbprint": a.SecondaryThumbprint} {
			if raw, err := hex.DecodeString(text); err != nil || text != "" && len(raw) != 20 && len(raw) != 32 {
				return problem.New(problem.Invalid, "a thumbprint is the SHA-1 or SHA-256 of the certificate as 40 or 64 hex digits").At("authentication.x509Thumbprint." + field)
			}
		}
	case link.AuthCertificate, link.AuthNone:
	default:
		return problem.New(problem.Invalid, "an identity authenticates by sas, selfSigned, certificateAuthority or none, not %q", a.Type).At("authentication.type")
	}
	return nil
}

// placeable says whether the registry has a place for a new identity: a module
// needs its device.
func (s Spec) placeable(ctx context.Context, tx *sqldb.Tx) error {
	device, module := link.SplitIdentity(s.ID)
	if module == "" {
		return s.checkScopes(ctx, tx)
	}
	if _, err := readEntry(ctx, tx, device); err != nil {
		return err
	}
	modules, _, err := sqldb.Row(ctx, tx, scanInt, "SELECT count(*) FROM device WHERE module_of = ?", device)
	if err == nil && modules >= MaxModules {
		return problem.New(problem.TooLarge, "device %s has %d modules, the most there may be", device, modules).At("moduleId")
	}
	return err
}

const scopeScheme = "ms-azure-iot-edge://"

// checkScopes makes sure that the gateways a device names are here.
func (s Spec) checkScopes(ctx context.Context, tx *sqldb.Tx) error {
	scopes := s.ParentScopes
	if !s.Edge && s.Scope != "" {
		scopes = append([]string{s.Scope}, scopes...)
	}
	for _, scope := range scopes {
		if !strings.HasPrefix(scope, scopeScheme) {
			return problem.New(problem.Invalid, "a device scope begins with %s, unlike %q", scopeScheme, scope).At("deviceScope")
		}
		n, _, err := sqldb.Row(ctx, tx, scanInt, "SELECT count(*) FROM device WHERE edge = 1 AND scope = ?", scope)
		if err != nil {
			return err
		}
		if n == 0 {
			return problem.New(problem.Invalid, "no gateway has the scope %q", scope).At("deviceScope")
		}
	}
	return nil
}

// scopeOf is the scope an identity is stored with: a gateway has its own.
func (s Spec) scopeOf(generation string) string {
	if s.Edge {
		return scopeScheme + s.ID + "-" + generation
	}
	return s.Scope
}

// insert stores a new identity with its twin.
func (ds *Devices) insert(ctx context.Context, tx *sqldb.Tx, s Spec, epoch int64, enrollment string, twin *link.TwinContent, now time.Time) error {
	ca, err := putCA(ctx, tx, s.Auth.CA)
	if err != nil {
		return err
	}
	parents, err := json.Marshal(append([]string{}, s.ParentScopes...))
	if err != nil {
		return err
	}
	var moduleOf any
	owner, module := link.SplitIdentity(s.ID)
	if module != "" {
		moduleOf = owner
	}
	generation := newGeneration()
	_, err = tx.Exec(ctx, `INSERT INTO device (device_id, module_of, generation_id, epoch, status, status_reason, enrollment, auth_type, primary_key, secondary_key,
			primary_thumbprint, secondary_thumbprint, ca, managed_by, edge, scope, parent_scopes, model_id, subscriptions, connected, messages, created_at, tenant)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, '', 0, 0, 0, ?, coalesce((SELECT tenant FROM device WHERE device_id = ?), ?))`,
		s.ID, moduleOf, generation, epoch, s.Status, s.StatusReason, enrollment, string(s.Auth.Type), tx.Seal(primaryKey, s.Auth.PrimaryKey, s.ID), tx.Seal(secondaryKey, s.Auth.SecondaryKey, s.ID),
		s.Auth.PrimaryThumbprint, s.Auth.SecondaryThumbprint, ca, s.ManagedBy, s.Edge, s.scopeOf(generation), string(parents), sqldb.Micros(now),
		owner, cmp.Or(s.Tenant, link.DefaultTenant)) // a module is whose its device is
	if err != nil {
		return err
	}
	return ds.twins.Create(ctx, tx, s.ID, twin, now)
}

// update stores what a back end changes of an identity.
func update(ctx context.Context, tx *sqldb.Tx, s Spec, before Entry, now time.Time) error {
	parents, err := json.Marshal(append([]string{}, s.ParentScopes...))
	if err != nil {
		return err
	}
	statusAt := before.StatusAt
	if s.Status != before.Status {
		statusAt = &now
	}
	var at any
	if statusAt != nil {
		at = sqldb.Micros(*statusAt)
	}
	_, err = tx.Exec(ctx, `UPDATE device SET edition = edition + 1, status = ?, status_reason = ?, status_at = ?, auth_type = ?, primary_key = ?, secondary_key = ?,
			primary_thumbprint = ?, secondary_thumbprint = ?, managed_by = ?, edge = ?, scope = ?, parent_scopes = ? WHERE device_id = ?`,
		s.Status, s.StatusReason, at, string(s.Auth.Type), tx.Seal(primaryKey, s.Auth.PrimaryKey, s.ID), tx.Seal(secondaryKey, s.Auth.SecondaryKey, s.ID),
		s.Auth.PrimaryThumbprint, s.Auth.SecondaryThumbprint, s.ManagedBy, s.Edge, s.scopeOf(before.GenerationID), string(parents), s.ID)
	return err
}
