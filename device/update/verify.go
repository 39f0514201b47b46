package update

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"github.com/theupdateframework/go-tuf/v2/metadata"
	"github.com/theupdateframework/go-tuf/v2/metadata/trustedmetadata"
)

// Refusal is why an order is not followed, however often it is tried: signed
// metadata does not name what the order does, or is not what it should be.
type Refusal struct {
	Reason string
	// Behind says that newer metadata could tell otherwise: what a hub has of it
	// may be some seconds older than the order.
	Behind bool
}

// Error says why.
func (r *Refusal) Error() string { return r.Reason }

func refuse(format string, args ...any) error { return &Refusal{Reason: fmt.Sprintf(format, args...)} }

func behind(format string, args ...any) error {
	return &Refusal{Reason: fmt.Sprintf(format, args...), Behind: true}
}

// The most bytes of each kind of metadata, and new roots that are followed.
const (
	maxRoot      = 512_000
	maxTimestamp = 16_384
	maxSnapshot  = 2_000_000
	maxTargets   = 5_000_000
	maxRoots     = 256
)

// verifier keeps the newest metadata it has seen, and trusts what is signed by
// the root the device was made with and the roots that followed it. go-tuf
// judges; what is kept, and how it lasts through a loss of power, is ours.
type verifier struct {
	directory string
	root      []byte
	fetch     func(ctx context.Context, name string, most int64) ([]byte, error)
	now       func() time.Time
}

// errAbsent is what fetch returns for a file that is not there.
var errAbsent = errors.New("the hub has no such file")

// custom is what signed metadata says of an artifact beside length and hash.
type custom struct {
	Release     string   `json:"release"`
	Environment string   `json:"environment"`
	Software    string   `json:"software"`
	Version     string   `json:"version"`
	Hardware    []string `json:"hardware"`
	Counter     int64    `json:"counter"`
}

// verify asks whether signed metadata that is valid now names all artifacts of
// some software of an order. It returns the counter of the order's release,
// and what it took for now.
func (v *verifier) verify(ctx context.Context, o Order, wanted []Software, hardware string) (counter int64, at time.Time, err error) {
	trusted, err := v.refresh(ctx, o.Environment)
	if err != nil {
		return 0, at, err
	}
	for i, s := range wanted {
		signed, err := namedAll(trusted, o, s, hardware)
		if err != nil {
			return 0, at, err
		}
		if i > 0 && signed != counter {
			return 0, at, refuse("signed metadata has two counters for release %s: %d and %d", o.Release, counter, signed)
		}
		counter = signed
	}
	return counter, trusted.RefTime, nil
}

func namedAll(trusted *trustedmetadata.TrustedMetadata, o Order, s Software, hardware string) (counter int64, err error) {
	if len(s.Artifacts) == 0 {
		return 0, refuse("software %s has no artifacts, so nothing signed names it", s.Name)
	}
	if !suits(s.Hardware, hardware) {
		return 0, refuse("software %s is for %v, and this is %s", s.Name, s.Hardware, hardware)
	}
	for i, a := range s.Artifacts {
		c, err := named(trusted, o, s, a)
		switch {
		case err != nil:
			return 0, err
		case !suits(c.Hardware, hardware):
			return 0, refuse("%s is signed for %v, and this is %s", o.target(s, a), c.Hardware, hardware)
		case i > 0 && c.Counter != counter:
			return 0, refuse("signed metadata has two counters for release %s: %d and %d", o.Release, counter, c.Counter)
		}
		counter = c.Counter
	}
	return counter, nil
}

// named finds an artifact among the targets of the order's environment.
func named(trusted *trustedmetadata.TrustedMetadata, o Order, s Software, a Artifact) (c custom, err error) {
	path := o.target(s, a)
	delegations := trusted.Targets[metadata.TARGETS].Signed.Delegations
	allowed := false
	if delegations != nil {
		for _, role := range delegations.GetRolesForTarget(path) {
			allowed = allowed || role.Name == o.Environment
		}
	}
	target := trusted.Targets[o.Environment].Signed.Targets[path]
	switch {
	case !allowed:
		return c, behind("the role %s may not sign %s", o.Environment, path)
	case target == nil:
		return c, behind("signed metadata does not name %s", path)
	case target.Length != a.Size || target.Hashes["sha256"].String() != a.SHA256:
		return c, refuse("%s is signed with %d bytes and sha256 %s, not as ordered", path, target.Length, target.Hashes["sha256"])
	case target.Custom == nil:
		return c, refuse("%s is signed without saying what it is for", path)
	}
	if err := json.Unmarshal(*target.Custom, &c); err != nil {
		return c, refuse("what is signed of %s cannot be read: %s", path, err)
	}
	if c.Environment != o.Environment || c.Release != o.Release || c.Software != s.Name || c.Version != s.Version {
		return c, refuse("%s is signed as %s %s of release %s for %s, not as ordered", path, c.Software, c.Version, c.Release, c.Environment)
	}
	return c, nil
}

// refresh brings the metadata up to date: root, timestamp, snapshot, targets,
// and the targets of an environment, each checked by those before it.
func (v *verifier) refresh(ctx context.Context, environment string) (*trustedmetadata.TrustedMetadata, error) {
	if err := os.MkdirAll(v.directory, 0o700); err != nil {
		return nil, err
	}
	trusted, err := v.roots(ctx)
	if err != nil {
		return nil, err
	}
	if err := v.timestamp(ctx, trusted); err != nil {
		return nil, err
	}
	if err := v.snapshot(ctx, trusted); err != nil {
		return nil, err
	}
	if err := v.targets(ctx, trusted, metadata.TARGETS, metadata.ROOT); err != nil {
		return nil, err
	}
	delegations := trusted.Targets[metadata.TARGETS].Signed.Delegations
	if slices.Contains(metadata.TOP_LEVEL_ROLE_NAMES[:], environment) || delegations == nil {
		return nil, behind("signed metadata knows no environment %s", environment)
	}
	return trusted, v.targets(ctx, trusted, environment, metadata.TARGETS)
}

// roots follows the roots from the newest that is known.
func (v *verifier) roots(ctx context.Context) (*trustedmetadata.TrustedMetadata, error) {
	trusted, err := trustedmetadata.New(v.root)
	if err != nil {
		return nil, refuse("the root this device was made with: %s", err)
	}
	if kept, err := v.kept(metadata.ROOT); err == nil {
		if newer, err := trustedmetadata.New(kept); err == nil && newer.Root.Signed.Version > trusted.Root.Signed.Version {
			trusted = newer
		}
	}
	for range maxRoots {
		next := strconv.FormatInt(trusted.Root.Signed.Version+1, 10) + ".root.json"
		text, err := v.fetch(ctx, next, maxRoot)
		if errors.Is(err, errAbsent) {
			trusted.RefTime = v.now() // after the hub told the time
			return trusted, nil
		}
		if err != nil {
			return nil, err
		}
		if _, err := trusted.UpdateRoot(text); err != nil {
			return nil, refuse("%s: %s", next, err)
		}
		if err := v.keep(metadata.ROOT, text); err != nil {
			return nil, err
		}
	}
	return nil, refuse("there are more than %d new roots", maxRoots)
}

// timestamp loads the one that is known, so that an older one is noticed, and
// then the hub's. One that is known but signed by keys that are no more is
// forgotten, which is the way back after its version was raised by a thief.
func (v *verifier) timestamp(ctx context.Context, trusted *trustedmetadata.TrustedMetadata) error {
	if kept, err := v.kept(metadata.TIMESTAMP); err == nil {
		_, _ = trusted.UpdateTimestamp(kept) // loaded even where it is refused for its age
	}
	text, err := v.fetch(ctx, metadata.TIMESTAMP+".json", maxTimestamp)
	if err != nil {
		return missing(err, "timestamp.json")
	}
	_, err = trusted.UpdateTimestamp(text)
	var equal *metadata.ErrEqualVersionNumber
	switch {
	case errors.As(err, &equal):
		if trusted.Timestamp.Signed.IsExpired(trusted.RefTime) {
			return behind("timestamp.json is expired")
		}
		return nil
	case err != nil:
		return behind("timestamp.json: %s", err)
	}
	return v.keep(metadata.TIMESTAMP, text)
}

func (v *verifier) snapshot(ctx context.Context, trusted *trustedmetadata.TrustedMetadata) error {
	if kept, err := v.kept(metadata.SNAPSHOT); err == nil {
		if _, err := trusted.UpdateSnapshot(kept, true); err == nil {
			return nil
		}
	}
	wanted := trusted.Timestamp.Signed.Meta["snapshot.json"]
	if wanted == nil {
		return behind("timestamp.json names no snapshot")
	}
	name := versioned(metadata.SNAPSHOT, wanted.Version)
	text, err := v.fetch(ctx, name, most(wanted.Length, maxSnapshot))
	if err != nil {
		return missing(err, name)
	}
	if _, err := trusted.UpdateSnapshot(text, false); err != nil {
		return behind("%s: %s", name, err)
	}
	return v.keep(metadata.SNAPSHOT, text)
}

func (v *verifier) targets(ctx context.Context, trusted *trustedmetadata.TrustedMetadata, role, by string) error {
	if kept, err := v.kept(role); err == nil {
		if _, err := trusted.UpdateDelegatedTargets(kept, role, by); err == nil {
			return nil
		}
	}
	wanted := trusted.Snapshot.Signed.Meta[role+".json"]
	if wanted == nil {
		return behind("the snapshot names no %s.json", role)
	}
	name := versioned(role, wanted.Version)
	text, err := v.fetch(ctx, name, most(wanted.Length, maxTargets))
	if err != nil {
		return missing(err, name)
	}
	if _, err := trusted.UpdateDelegatedTargets(text, role, by); err != nil {
		return behind("%s: %s", name, err)
	}
	return v.keep(role, text)
}

// missing tells a file that has to be there but is not.
func missing(err error, name string) error {
	if errors.Is(err, errAbsent) {
		return &statusError{http.StatusNotFound, 0, name}
	}
	return err
}

func versioned(role string, version int64) string {
	return strconv.FormatInt(version, 10) + "." + url.PathEscape(role) + ".json"
}

func most(signed, limit int64) int64 {
	if signed > 0 {
		return min(signed, limit)
	}
	return limit
}

// kept and keep hold a role's metadata; role is a name, without any slash.
func (v *verifier) kept(role string) ([]byte, error) {
	return readFile(filepath.Join(v.directory, role+".json"), maxTargets)
}

func (v *verifier) keep(role string, text []byte) error {
	return WriteFile(filepath.Join(v.directory, role+".json"), text, 0o600)
}
