// Package signing keeps the signed metadata by which devices know what they
// may run: a TUF repository of the installation, in which each environment has
// a role of its own that names the files of the releases let into it. Control
// holds the keys, but for environments whose keys people hold.
package signing

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"github.com/theupdateframework/go-tuf/v2/metadata"

	"github.com/slipway/slipway/internal/control/access"
	"github.com/slipway/slipway/internal/control/audit"
	"github.com/slipway/slipway/internal/control/release"
	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/resource"
	"github.com/slipway/slipway/internal/seal"
	"github.com/slipway/slipway/internal/sqldb"
)

// How long each role's metadata is good for. What control can sign it signs
// anew when half of that is over.
const (
	rootLife      = 365 * 24 * time.Hour
	targetsLife   = 90 * 24 * time.Hour
	snapshotLife  = 7 * 24 * time.Hour
	timestampLife = 24 * time.Hour
)

// keepReplaced is how long a file stays that a newer one has replaced, for
// those who read the older timestamp just before.
const keepReplaced = 7 * 24 * time.Hour

// Options are what signing is built from.
type Options struct {
	DB       *sqldb.DB
	Audit    *audit.Log
	Releases *release.Releases
	// Environment returns an environment's spec; problem.NotFound where it is
	// not there.
	Environment func(ctx context.Context, q sqldb.Querier, name string) (resource.EnvironmentSpec, error)
	// Secret encrypts the keys that the database holds: 32 bytes that it does not.
	Secret []byte
	Now    func() time.Time
}

// Signing is the repository of signed metadata.
type Signing struct {
	Options
	box seal.Box
}

// Open returns the repository, which is founded the first time. Whatever is
// about to expire is signed anew.
func Open(ctx context.Context, o Options) (*Signing, error) {
	sealed, err := seal.New(o.Secret)
	if err != nil {
		return nil, err
	}
	s := &Signing{o, sealed}
	if err := s.DB.Commit(ctx, s.found); err != nil {
		return nil, err
	}
	return s, s.Renew(ctx)
}

// slipway is who signs what nobody asked for.
const slipway = "slipway"

func (s *Signing) record(ctx context.Context, tx *sqldb.Tx, actor, action, object, environment, detail string) error {
	return s.Audit.Record(ctx, tx, audit.Entry{Actor: actor, Action: action, Object: object, Environment: environment, Outcome: audit.Done, Detail: detail})
}

// Admit lets a release into an environment: its role is to name the release's
// files. Where people hold the keys, that is so once enough of them have
// signed; Admitted tells.
func (s *Signing) Admit(ctx context.Context, tx *sqldb.Tx, environment, name string) error {
	if _, err := s.Releases.GetIn(ctx, tx, name); err != nil {
		return err
	}
	if _, err := s.Environment(ctx, tx, environment); err != nil {
		return err
	}
	n, err := tx.Exec(ctx, "INSERT INTO signing_admission (environment, release) VALUES (?, ?) ON CONFLICT (environment, release) DO NOTHING", environment, name)
	if err != nil || n == 0 {
		return err
	}
	if err := s.Releases.Promoted(ctx, tx, name); err != nil {
		return err
	}
	if err := s.record(ctx, tx, slipway, "signing.admit", "release/"+name, environment, ""); err != nil {
		return err
	}
	return s.Settle(ctx, tx, environment)
}

// Withdraw takes a release out of an environment's role: devices there may not
// run it any more. One that is not in it is left out already.
func (s *Signing) Withdraw(ctx context.Context, tx *sqldb.Tx, environment, name string) error {
	n, err := tx.Exec(ctx, "DELETE FROM signing_admission WHERE environment = ? AND release = ?", environment, name)
	if err != nil || n == 0 {
		return err
	}
	if err := s.record(ctx, tx, slipway, "signing.withdraw", "release/"+name, environment, ""); err != nil {
		return err
	}
	return s.Settle(ctx, tx, environment)
}

// Admitted tells whether the metadata that devices get names all files of a
// release in an environment, and if not, why.
func (s *Signing) Admitted(ctx context.Context, environment, name string) (admitted bool, reason string, err error) {
	one, err := s.Releases.Get(ctx, name)
	if err != nil {
		return false, "", err
	}
	asked, err := s.admissions(ctx, s.DB, environment)
	if err != nil {
		return false, "", err
	}
	if !asked[name] {
		return false, fmt.Sprintf("release %s was not let into %s", name, environment), nil
	}
	now, found, err := current[metadata.TargetsType](ctx, s.DB, environment)
	if err != nil {
		return false, "", err
	}
	wanted, err := targetsOf(environment, one)
	if err != nil {
		return false, "", err
	}
	switch {
	case !found || !holds(now.Signed.Targets, wanted):
		return false, s.missing(ctx, environment), nil
	case now.Signed.IsExpired(s.Now()):
		return false, fmt.Sprintf("the signatures of %s expired at %s; %s", environment, now.Signed.Expires.Format(time.RFC3339), s.missing(ctx, environment)), nil
	}
	return true, "", nil
}

// missing says how many signatures an environment's proposal lacks.
func (s *Signing) missing(ctx context.Context, environment string) string {
	p, err := s.Proposal(ctx, environment)
	if err != nil {
		return "its metadata is not signed"
	}
	return fmt.Sprintf("%d of %d signatures are there; `slipway release sign --environment %s` adds one", len(p.SignedBy), p.Threshold, environment)
}

// holds reports whether targets has all of wanted.
func holds(targets, wanted map[string]*metadata.TargetFiles) bool {
	for path, want := range wanted {
		have := targets[path]
		if have == nil || have.Length != want.Length || !have.Hashes.Equal(want.Hashes) {
			return false
		}
	}
	return true
}

func scanText(rows *sql.Rows) (text []byte, err error) { return text, rows.Scan(&text) }

func scanName(rows *sql.Rows) (name string, err error) { return name, rows.Scan(&name) }

func (s *Signing) admissions(ctx context.Context, q sqldb.Querier, environment string) (map[string]bool, error) {
	names, err := sqldb.Rows(ctx, q, scanName, "SELECT release FROM signing_admission WHERE environment = ?", environment)
	all := map[string]bool{}
	for _, name := range names {
		all[name] = true
	}
	return all, err
}

// File returns a file of signed metadata by its name.
func (s *Signing) File(ctx context.Context, name string) ([]byte, error) {
	text, found, err := sqldb.Row(ctx, s.DB, scanText, "SELECT content FROM signing_file WHERE name = ?", name)
	if err == nil && !found {
		err = problem.New(problem.NotFound, "there is no metadata %q", name)
	}
	return text, err
}

// Root returns the root of trust that devices are given when they are made.
func (s *Signing) Root(ctx context.Context) ([]byte, error) {
	text, _, err := text(ctx, s.DB, metadata.ROOT)
	return text, err
}

// Read answers a stamp that asks for a part of a file.
func (s *Signing) Read(ctx context.Context, req link.ReadPart) (link.Part, error) {
	content, err := s.File(ctx, req.Name)
	if err != nil {
		return link.Part{}, err
	}
	size := int64(len(content))
	if req.Offset < 0 || req.Offset > size {
		return link.Part{}, problem.New(problem.Invalid, "metadata %s ends at %d, before %d", req.Name, size, req.Offset).At("offset")
	}
	return link.Part{Size: size, Data: content[req.Offset:min(req.Offset+link.MaxPart, size)]}, nil
}

// Role is what is known of a document of the metadata.
type Role struct {
	Name      string    `json:"name"`
	Version   int64     `json:"version"`
	Expires   time.Time `json:"expires"`
	Keys      []string  `json:"keys" doc:"Their ids"`
	Threshold int       `json:"threshold"`
	Held      bool      `json:"held" doc:"Whether control holds the key"`
	Releases  []string  `json:"releases,omitempty" doc:"Those that an environment's role names, or is to name"`
	Waiting   bool      `json:"waiting,omitempty" doc:"Whether it waits for signatures"`
}

// Rotate gives a role whose key control holds a new one. Devices follow by
// themselves.
func (s *Signing) Rotate(ctx context.Context, actor access.Actor, role string) error {
	return s.DB.Commit(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		r, err := s.revise(ctx, tx)
		if err != nil {
			return err
		}
		if err := r.rotate(role); err != nil {
			return err
		}
		return s.record(ctx, tx, actor.Name, "signing.rotate", "role/"+role, "", "")
	})
}

// Renew signs anew what is half through its life, proposes what people must
// sign anew, and drops files that nobody can ask for any more.
func (s *Signing) Renew(ctx context.Context) error {
	return s.DB.Commit(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		environments, err := sqldb.Rows(ctx, tx, scanName, "SELECT name FROM environment ORDER BY name")
		if err != nil {
			return err
		}
		for _, name := range environments {
			if err := s.Settle(ctx, tx, name); err != nil {
				return fmt.Errorf("environment %s: %w", name, err)
			}
		}
		r, err := s.revise(ctx, tx)
		if err != nil {
			return err
		}
		if err := r.renew(); err != nil {
			return err
		}
		return s.sweep(ctx, tx)
	})
}

// sweep drops what was replaced long ago, but for roots: a device may have to
// walk them all. It writes nothing where there is nothing to drop.
func (s *Signing) sweep(ctx context.Context, tx *sqldb.Tx) error {
	old, err := sqldb.Rows(ctx, tx, scanName, "SELECT name FROM signing_file WHERE replaced_at < ? AND role <> ?", sqldb.Micros(s.Now().Add(-keepReplaced)), metadata.ROOT)
	for _, name := range old {
		if _, err := tx.Exec(ctx, "DELETE FROM signing_file WHERE name = ?", name); err != nil {
			return err
		}
	}
	return err
}
