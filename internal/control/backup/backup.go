// Package backup has every plane backed up on time, knows which backups there
// are, lets go of those that need not be kept, and keeps the evidence of drills
// in which they were restored. What decrypts backups it never has.
package backup

import (
	"context"
	"crypto/ed25519"
	"crypto/hkdf"
	"crypto/sha256"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/slipway/slipway/internal/control/access"
	"github.com/slipway/slipway/internal/control/audit"
	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/resource"
	"github.com/slipway/slipway/internal/sqldb"
	"github.com/slipway/slipway/internal/vault"
)

// Config is what the configuration of the process says of backups. Without a
// vault nothing is backed up.
type Config struct {
	Vaults     []link.Vault
	Recipients []string // age public keys of those who recover
	Rate       int64    // bytes a second that each plane writes; 0 is no limit
}

// Check holds a configuration against the rules.
func (c Config) Check() error {
	if len(c.Vaults) == 0 {
		if len(c.Recipients) > 0 {
			return problem.New(problem.Invalid, "name at least one vault: where backups are kept").At("vaults")
		}
		return nil
	}
	names := map[string]bool{}
	for _, v := range c.Vaults {
		if err := vault.Check(v); err != nil {
			return err
		}
		if names[v.Name] {
			return problem.New(problem.Invalid, "two vaults are named %s", v.Name).At("vaults")
		}
		names[v.Name] = true
	}
	if c.Rate < 0 {
		return problem.New(problem.Invalid, "a number of bytes a second is not negative").At("bytesPerSecond")
	}
	_, err := vault.ParseRecipients(c.Recipients)
	return err
}

// Options are what backups need.
type Options struct {
	Config
	DB     *sqldb.DB
	Audit  *audit.Log
	Secret []byte // that only this installation has: it signs backups, and names their chunks
	// Stamps and Tenants tell whose backups must stay in which region.
	Stamps  func(ctx context.Context) ([]resource.Stamp, error)
	Tenants func(ctx context.Context) ([]resource.Tenant, error)
	// Take and Status ask a plane.
	Take   func(ctx context.Context, peer string, req link.TakeBackup) (link.BackupState, error)
	Status func(ctx context.Context, peer string, ref link.BackupRef) (link.BackupState, error)
	Logger *slog.Logger
	Now    func() time.Time
}

// Backups are the backups of an installation.
type Backups struct {
	Options
	key    ed25519.PrivateKey // signs indexes and evidence
	naming []byte
	vaults map[string]*vault.Vault
	kick   chan struct{}
	busy   sync.Mutex // held while chunks are swept or backups are taken
}

// New returns the backups kept in a database.
func New(o Options) (*Backups, error) {
	if err := o.Check(); err != nil {
		return nil, err
	}
	b := &Backups{Options: o, vaults: map[string]*vault.Vault{}, kick: make(chan struct{}, 1)}
	seed, err := hkdf.Key(sha256.New, o.Secret, nil, "slipway backup signer", ed25519.SeedSize)
	if err != nil {
		return nil, err
	}
	b.key = ed25519.NewKeyFromSeed(seed)
	if b.naming, err = hkdf.Key(sha256.New, o.Secret, nil, "slipway backup names", 32); err != nil {
		return nil, err
	}
	for _, spec := range o.Vaults {
		if b.vaults[spec.Name], err = vault.Open(spec); err != nil {
			return nil, err
		}
	}
	return b, nil
}

// Signer is the public key by which backups are known to be this
// installation's.
func (b *Backups) Signer() ed25519.PublicKey { return b.key.Public().(ed25519.PublicKey) }

func (b *Backups) signers() []ed25519.PublicKey { return []ed25519.PublicKey{b.Signer()} }

// peers are the planes that are backed up, in the order in which that is done:
// stamps first. A provisioning that comes back newer than a stamp sends devices
// there again; an older one would not know them.
func (b *Backups) peers(ctx context.Context) (all []subject, err error) {
	stamps, err := b.Stamps(ctx)
	if err != nil {
		return nil, err
	}
	tenants, err := b.Tenants(ctx)
	if err != nil {
		return nil, err
	}
	for _, s := range stamps {
		all = append(all, subject{Peer: link.StampPeer(s.Metadata.Name), Environment: s.Spec.Environment, Region: s.Spec.Region, Bound: bound(s, tenants)})
	}
	return append(all, subject{Peer: link.ProvisioningPeer}, subject{Peer: link.ControlPeer}), nil
}

// subject is a plane that is backed up.
type subject struct {
	Peer, Environment, Region string
	Bound                     bool // a tenant's devices on it must stay in the region
}

// bound reports whether a tenant that must stay in regions has devices on a
// stamp, or may have.
func bound(s resource.Stamp, tenants []resource.Tenant) bool {
	for _, t := range tenants {
		if len(t.Spec.Regions) == 0 || len(s.Spec.Tenants) > 0 && !slices.Contains(s.Spec.Tenants, t.Metadata.Name) || !slices.Contains(t.Spec.Regions, s.Spec.Region) {
			continue
		}
		return true
	}
	return false
}

// Kick has the schedule looked at at once.
func (b *Backups) Kick() {
	select {
	case b.kick <- struct{}{}:
	default:
	}
}

// note records who did something.
func (b *Backups) note(ctx context.Context, tx *sqldb.Tx, actor access.Actor, action, object, detail string) error {
	return b.Audit.Record(ctx, tx, audit.Entry{Actor: actor.Name, Action: action, Object: object, Outcome: audit.Done, Detail: detail})
}
