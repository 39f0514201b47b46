// Package policy keeps the shared access policies of a hub or of provisioning:
// named pairs of keys with rights, by which back ends use the service protocols
// and gateways speak for devices.
package policy

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"database/sql"
	"encoding/base64"
	"errors"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/sastoken"
	"github.com/slipway/slipway/internal/sqldb"
)

// Right is something a policy allows.
type Right string

// The rights, named as on the service APIs of hub and provisioning.
const (
	RegistryRead   Right = "RegistryRead"
	RegistryWrite  Right = "RegistryWrite"
	ServiceConnect Right = "ServiceConnect"
	DeviceConnect  Right = "DeviceConnect"

	ServiceConfig           Right = "ServiceConfig"
	EnrollmentRead          Right = "EnrollmentRead"
	EnrollmentWrite         Right = "EnrollmentWrite"
	RegistrationStatusRead  Right = "RegistrationStatusRead"
	RegistrationStatusWrite Right = "RegistrationStatusWrite"
)

// Policy is a name with two keys and what they allow.
type Policy struct {
	Name         string
	Rights       []Right
	PrimaryKey   []byte
	SecondaryKey []byte
}

// implied are the rights to read that come with those to write.
var implied = map[Right]Right{RegistryRead: RegistryWrite, EnrollmentRead: EnrollmentWrite, RegistrationStatusRead: RegistrationStatusWrite}

// Allows reports whether the policy has a right. Who may write may read.
func (p Policy) Allows(right Right) bool {
	return slices.Contains(p.Rights, right) || implied[right] != "" && slices.Contains(p.Rights, implied[right])
}

// Provisioning are the policies of the provisioning service.
var Provisioning = []Policy{
	{Name: "provisioningserviceowner", Rights: []Right{ServiceConfig, EnrollmentRead, EnrollmentWrite, DeviceConnect, RegistrationStatusRead, RegistrationStatusWrite}},
	{Name: "enrollmentRead", Rights: []Right{EnrollmentRead, RegistrationStatusRead}},
}

// Hub are the policies that every hub has, as existing back ends know them.
var Hub = []Policy{
	{Name: "iothubowner", Rights: []Right{RegistryRead, RegistryWrite, ServiceConnect, DeviceConnect}},
	{Name: "service", Rights: []Right{ServiceConnect}},
	{Name: "device", Rights: []Right{DeviceConnect}},
	{Name: "registryRead", Rights: []Right{RegistryRead}},
	{Name: "registryReadWrite", Rights: []Right{RegistryRead, RegistryWrite}},
}

const keyBytes = 32

// The keys of policies are sealed.
var (
	primaryKey   = sqldb.Sealed{Table: "policy", Key: []string{"name"}, Name: "primary_key", Bytes: true}
	secondaryKey = sqldb.Sealed{Table: "policy", Key: []string{"name"}, Name: "secondary_key", Bytes: true}
	// Sealed are the columns that hold secrets.
	Sealed = []sqldb.Sealed{primaryKey, secondaryKey}
)

// skew is how far the clock of a back end may be behind when a token expires.
const skew = 5 * time.Minute

// Policies are those of one service, kept in its database and at hand in memory.
type Policies struct {
	db    *sqldb.DB
	known atomic.Pointer[map[string]Policy]
	// Changed tells other processes that a key has changed; nil where there are
	// none.
	Changed func()
}

// Open reads the policies kept in db, and makes those of defaults it lacks,
// with new keys.
func Open(ctx context.Context, db *sqldb.DB, defaults []Policy) (*Policies, error) {
	ps := &Policies{db: db}
	err := db.Commit(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		for _, p := range defaults {
			_, err := tx.Exec(ctx, "INSERT INTO policy (name, rights, primary_key, secondary_key) VALUES (?, ?, ?, ?) ON CONFLICT (name) DO NOTHING",
				p.Name, join(p.Rights), tx.Seal(primaryKey, newKey(), p.Name), tx.Seal(secondaryKey, newKey(), p.Name))
			if err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return ps, ps.Load(ctx)
}

func join(rights []Right) string {
	texts := make([]string, len(rights))
	for i, r := range rights {
		texts[i] = string(r)
	}
	return strings.Join(texts, ",")
}

func newKey() []byte {
	key := make([]byte, keyBytes)
	if _, err := rand.Read(key); err != nil {
		panic(err) // crypto/rand never fails on supported systems
	}
	return key
}

func scan(rows *sql.Rows) (p Policy, err error) {
	var rights string
	err = rows.Scan(&p.Name, &rights, primaryKey.Into(&p.PrimaryKey, &p.Name), secondaryKey.Into(&p.SecondaryKey, &p.Name))
	for right := range strings.SplitSeq(rights, ",") {
		p.Rights = append(p.Rights, Right(right))
	}
	return p, err
}

// Load reads the policies anew.
func (ps *Policies) Load(ctx context.Context) error {
	all, err := sqldb.Rows(ctx, ps.db, scan, "SELECT name, rights, primary_key, secondary_key FROM policy")
	if err != nil {
		return err
	}
	known := make(map[string]Policy, len(all))
	for _, p := range all {
		known[p.Name] = p
	}
	ps.known.Store(&known)
	return nil
}

// List returns the policies in order of name.
func (ps *Policies) List() []Policy {
	var all []Policy
	for _, p := range *ps.known.Load() {
		all = append(all, p)
	}
	slices.SortFunc(all, func(a, b Policy) int { return strings.Compare(a.Name, b.Name) })
	return all
}

// Rotate makes one of a policy's keys anew, or lets the two change places, and
// returns the policy as it is then. Open connections stay.
func (ps *Policies) Rotate(ctx context.Context, name, which string) (Policy, error) {
	fresh := newKey()
	var rotated Policy
	err := ps.db.Commit(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		p, found, err := sqldb.Row(ctx, tx, scan, "SELECT name, rights, primary_key, secondary_key FROM policy WHERE name = ?", name)
		if err != nil {
			return err
		}
		if !found {
			return problem.New(problem.NotFound, "there is no policy %q", name)
		}
		switch which {
		case link.RotatePrimary:
			p.PrimaryKey = fresh
		case link.RotateSecondary:
			p.SecondaryKey = fresh
		case link.RotateSwap:
			p.PrimaryKey, p.SecondaryKey = p.SecondaryKey, p.PrimaryKey
		default:
			return problem.New(problem.Invalid, "keys are rotated by primary, secondary or swap, not by %q", which).At("key")
		}
		rotated = p
		_, err = tx.Exec(ctx, "UPDATE policy SET primary_key = ?, secondary_key = ? WHERE name = ?", tx.Seal(primaryKey, p.PrimaryKey, name), tx.Seal(secondaryKey, p.SecondaryKey, name), name)
		return err
	})
	if err != nil {
		return Policy{}, err
	}
	err = ps.Load(ctx)
	if ps.Changed != nil {
		ps.Changed()
	}
	return rotated, err
}

// Verify returns the policy that a token was made with. The token must be for
// one of the hosts as a whole, or for the resource below it that segments name.
func (ps *Policies) Verify(token sastoken.Token, hosts []string, now time.Time, segments ...string) (Policy, error) {
	covered := false
	for _, host := range hosts {
		covered = covered || token.Covers(append([]string{host}, segments...)...)
	}
	if !covered {
		return Policy{}, problem.New(problem.Unauthenticated, "the token is for %q, not for this service", token.Resource)
	}
	return ps.signed(token, now)
}

// signed returns the policy with whose key a token was made.
func (ps *Policies) signed(token sastoken.Token, now time.Time) (Policy, error) {
	p, known := (*ps.known.Load())[token.Policy]
	if !known {
		return Policy{}, problem.New(problem.Unauthenticated, "there is no policy %q", token.Policy)
	}
	err := error(sastoken.ErrSignature)
	for _, key := range [][]byte{p.PrimaryKey, p.SecondaryKey} {
		// Clients of the Event-Hubs-compatible endpoint sign with the key's
		// text instead of what that encodes.
		for _, form := range [][]byte{key, []byte(base64.StdEncoding.EncodeToString(key))} {
			if errors.Is(err, sastoken.ErrSignature) {
				err = token.Verify(form, now, skew)
			}
		}
	}
	if err != nil {
		return Policy{}, problem.New(problem.Unauthenticated, "the token is not valid for policy %s: %w", p.Name, err)
	}
	return p, nil
}

// Signed returns the policy that a token was made with, whatever it is for.
func (ps *Policies) Signed(token sastoken.Token, now time.Time) (Policy, error) {
	return ps.signed(token, now)
}

// Keyed returns the policy of a name, if key is one of its keys as text.
func (ps *Policies) Keyed(name, key string) (Policy, error) {
	p, known := (*ps.known.Load())[name]
	for _, own := range [][]byte{p.PrimaryKey, p.SecondaryKey} {
		if known && subtle.ConstantTimeCompare([]byte(key), []byte(base64.StdEncoding.EncodeToString(own))) == 1 {
			return p, nil
		}
	}
	return Policy{}, problem.New(problem.Unauthenticated, "that is no key of a policy %q", name)
}

// Connects checks that a token was made by a policy that lets devices connect.
func (ps *Policies) Connects(token sastoken.Token, now time.Time) error {
	p, err := ps.signed(token, now)
	if err == nil && !p.Allows(DeviceConnect) {
		err = problem.New(problem.Denied, "the policy %s does not let devices connect", p.Name)
	}
	return err
}

// Shared is the policy as the planes tell one another of it.
func (p Policy) Shared() link.Policy {
	shared := link.Policy{Name: p.Name, PrimaryKey: p.PrimaryKey, SecondaryKey: p.SecondaryKey}
	for _, r := range p.Rights {
		shared.Rights = append(shared.Rights, string(r))
	}
	return shared
}

// Answer lists the policies for another plane.
func (ps *Policies) Answer(context.Context, link.None) (link.Policies, error) {
	var all link.Policies
	for _, p := range ps.List() {
		all.Items = append(all.Items, p.Shared())
	}
	return all, nil
}

// AnswerRotate rotates a key for another plane.
func (ps *Policies) AnswerRotate(ctx context.Context, req link.RotatePolicy) (link.Policy, error) {
	p, err := ps.Rotate(ctx, req.Name, req.Key)
	return p.Shared(), err
}
