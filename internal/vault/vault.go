// Package vault keeps backups: copies of one plane at one moment, encrypted for
// whoever recovers, in chunks by what is in them, each under a signed index
// without which there is no backup. Who writes into a vault cannot read what
// is in it; who changes anything in it is found out.
package vault

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"filippo.io/age"

	"github.com/slipway/slipway/internal/blob"
	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/problem"
)

// Vault is a place for backups: a directory or a bucket, in a region.
type Vault struct {
	spec   link.Vault
	bucket blob.Bucket
}

// MaxLockDays is how long a vault may be told to keep objects from being removed.
const MaxLockDays = 3650

// Check holds a vault against the rules.
func Check(v link.Vault) error {
	switch {
	case v.Name == "" || len(v.Name) > 63 || strings.ContainsFunc(v.Name, notName):
		return problem.New(problem.Invalid, "a vault's name has 1 to 63 of a-z, 0-9 and '-', not %q", v.Name).At("name")
	case (v.Directory == "") == (v.S3 == nil):
		return problem.New(problem.Invalid, "vault %s: a directory or s3, one of the two", v.Name)
	case v.LockDays < 0 || v.LockDays > MaxLockDays:
		return problem.New(problem.Invalid, "vault %s: must be 0 to %d, not %d", v.Name, MaxLockDays, v.LockDays).At("lockDays")
	case v.LockDays > 0 && v.S3 == nil:
		return problem.New(problem.Invalid, "vault %s: a directory cannot keep files from being removed; a bucket with object lock can", v.Name).At("lockDays")
	case slices.Contains(v.Regions, ""):
		return problem.New(problem.Invalid, "vault %s: a region has a name", v.Name).At("regions")
	}
	return nil
}

func notName(r rune) bool { return (r < 'a' || r > 'z') && (r < '0' || r > '9') && r != '-' }

// Open returns a vault. It asks the store nothing yet.
func Open(v link.Vault) (*Vault, error) {
	if err := Check(v); err != nil {
		return nil, err
	}
	if v.S3 == nil {
		return &Vault{v, blob.Dir(v.Directory)}, nil
	}
	bucket, err := blob.OpenS3(*v.S3, nil)
	return &Vault{v, bucket}, err
}

// Name is what the vault is called.
func (v *Vault) Name() string { return v.spec.Name }

// CheckLock reports a vault that is to lock objects and cannot.
func (v *Vault) CheckLock(ctx context.Context) error {
	if v.spec.LockDays == 0 {
		return nil
	}
	can, err := blob.Locks(ctx, v.bucket)
	if err == nil && !can {
		err = problem.New(problem.Invalid, "the bucket of vault %s has no object lock; make one with it, or leave out lockDays", v.spec.Name).At("lockDays")
	}
	return err
}

// Holds reports whether a vault may hold what belongs to a region. Tenants
// whose devices must stay in regions have theirs named; a vault without
// regions is for whoever does not say where it must stay.
func Holds(v link.Vault, region string, bound bool) bool {
	if len(v.Regions) == 0 {
		return !bound
	}
	return slices.Contains(v.Regions, region)
}

// Choose finds the vault for a plane: the first that may hold what belongs to
// its region. Control and provisioning belong to no region; the first vault is
// theirs.
func Choose(all []link.Vault, peer, region string, bound bool) (link.Vault, error) {
	if len(all) == 0 {
		return link.Vault{}, problem.New(problem.Conflict, "no vault is configured, so nothing is backed up; name one in the configuration of backups")
	}
	if _, stamp := link.StampOfPeer(peer); !stamp {
		return all[0], nil
	}
	for _, v := range all {
		if Holds(v, region, bound) {
			return v, nil
		}
	}
	return link.Vault{}, problem.New(problem.Conflict, "no vault may hold the backups of %s: none names its region %s; name it at the vault that is there", peer, region)
}

// An era is how long chunks are used by new backups: then all is written anew,
// so that what rots in a store is not relied on for ever, and what is locked
// can be locked once, for the era and as long after it as the vault says.
const era = 7 * 24 * time.Hour

func eraOf(at time.Time) string {
	year, week := at.UTC().ISOWeek()
	return fmt.Sprintf("%dw%02d", year, week)
}

// lockUntil is until when an object may not be removed that is written now.
func (v *Vault) lockUntil(now time.Time, used time.Duration) time.Time {
	if v.spec.LockDays == 0 {
		return time.Time{}
	}
	return now.Add(time.Duration(v.spec.LockDays)*24*time.Hour + used).Truncate(time.Second)
}

// ParseRecipients reads for whom backups are encrypted.
func ParseRecipients(lines []string) ([]age.Recipient, error) {
	if len(lines) == 0 {
		return nil, problem.New(problem.Invalid, "name at least one recipient, an age public key that begins with age1; `slipway backup keygen` makes one").At("recipients")
	}
	var all []age.Recipient
	for _, line := range lines {
		if strings.HasPrefix(line, "AGE-SECRET-KEY-") {
			return nil, problem.New(problem.Invalid, "that is an identity, which decrypts and is not for the server; its recipient begins with age1").At("recipients")
		}
		one, err := age.ParseRecipients(strings.NewReader(line))
		if err != nil || len(one) != 1 {
			return nil, problem.New(problem.Invalid, "a recipient is an age public key that begins with age1, not %.20q", line).At("recipients")
		}
		all = append(all, one...)
	}
	return all, nil
}

// ParseIdentities reads the file that decrypts backups.
func ParseIdentities(text string) ([]age.Identity, error) {
	all, err := age.ParseIdentities(strings.NewReader(text))
	if err != nil {
		return nil, problem.New(problem.Invalid, "the file of the identity has no line that begins with AGE-SECRET-KEY-1")
	}
	return all, nil
}

// NewIdentity makes a key pair of the recovery role.
func NewIdentity() (identity, recipient string, err error) {
	pair, err := age.GenerateX25519Identity()
	if err != nil {
		return "", "", err
	}
	return pair.String(), pair.Recipient().String(), nil
}
