package backup_test

import (
	"context"
	"crypto/ed25519"
	"encoding/base64"
	"errors"
	"log/slog"
	"path/filepath"
	"sync"
	"testing"
	"time"

	taking "github.com/slipway/slipway/internal/backup"
	"github.com/slipway/slipway/internal/control/access"
	"github.com/slipway/slipway/internal/control/audit"
	"github.com/slipway/slipway/internal/control/backup"
	"github.com/slipway/slipway/internal/control/migrations"
	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/resource"
	"github.com/slipway/slipway/internal/sqldb"
	"github.com/slipway/slipway/internal/sqldb/sqldbtest"
	"github.com/slipway/slipway/internal/vault"
)

var ann = access.Actor{Name: "ann"}

// site is an installation of control and provisioning, both really backed up.
type site struct {
	t       *testing.T
	db      *sqldb.DB
	options backup.Options
	takers  map[string]*taking.Taker
	mu      sync.Mutex
	away    map[string]bool
}

func newSite(t *testing.T) *site {
	t.Helper()
	db, err := sqldb.Open(t.Context(), sqldbtest.At(t), migrations.FS)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	_, recipient, err := vault.NewIdentity()
	if err != nil {
		t.Fatal(err)
	}
	s := &site{t: t, db: db, takers: map[string]*taking.Taker{}, away: map[string]bool{}}
	quiet := slog.New(slog.DiscardHandler)
	for _, peer := range []string{link.ControlPeer, link.ProvisioningPeer} {
		s.takers[peer] = taking.New(taking.Source{Peer: peer, Dir: t.TempDir(), DB: db, Logger: quiet, Now: time.Now})
	}
	s.options = backup.Options{
		Config: backup.Config{Vaults: []link.Vault{{Name: "home", Directory: filepath.Join(t.TempDir(), "vault")}}, Recipients: []string{recipient}},
		DB:     db, Audit: audit.NewLog(db, time.Now), Secret: make([]byte, 32), Logger: quiet, Now: time.Now,
		Stamps:  func(context.Context) ([]resource.Stamp, error) { return nil, nil },
		Tenants: func(context.Context) ([]resource.Tenant, error) { return nil, nil },
		Take: func(ctx context.Context, peer string, req link.TakeBackup) (link.BackupState, error) {
			if s.gone(peer) {
				return link.BackupState{}, problem.New(problem.NotReady, "%s is away; try again", peer)
			}
			return s.takers[peer].Take(ctx, req)
		},
		Status: func(ctx context.Context, peer string, ref link.BackupRef) (link.BackupState, error) {
			return s.takers[peer].Status(ctx, ref)
		},
	}
	return s
}

func (s *site) gone(peer string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.away[peer]
}

// run runs backups until the end of the test, or until stop.
func (s *site) run() (b *backup.Backups, stop func()) {
	s.t.Helper()
	b, err := backup.New(s.options)
	if err != nil {
		s.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var all sync.WaitGroup
	for _, one := range s.takers {
		all.Go(func() { _ = one.Run(ctx) })
	}
	all.Go(func() {
		if err := b.Run(ctx); err != nil {
			s.t.Error(err)
		}
	})
	stop = sync.OnceFunc(func() { cancel(); all.Wait() })
	s.t.Cleanup(stop)
	return b, stop
}

func (s *site) eventually(what string, so func() bool) {
	s.t.Helper()
	for deadline := time.Now().Add(time.Minute); !so(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			s.t.Fatalf("it did not come about that %s", what)
		}
	}
}

func kept(t *testing.T, b *backup.Backups, peer string) (all []backup.Backup) {
	t.Helper()
	found, err := b.List(t.Context(), peer, time.Time{}, 100)
	if err != nil {
		t.Fatal(err)
	}
	for _, one := range found {
		if one.State == backup.Kept {
			all = append(all, one)
		}
	}
	return all
}

func TestPlanesAreBackedUpByThemselvesAndKnownAgain(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.away[link.ProvisioningPeer] = true
	b, stop := s.run()
	s.eventually("control is backed up", func() bool { return len(kept(t, b, link.ControlPeer)) == 1 })
	failed, err := b.List(t.Context(), link.ProvisioningPeer, time.Time{}, 1)
	if err != nil || len(failed) != 1 || failed[0].State != backup.Failed || failed[0].Failure == "" {
		t.Errorf("a plane that is away: %+v, %v", failed, err)
	}
	o, err := b.Overview(t.Context())
	if err != nil || len(o.Planes) != 2 || !o.Planes[0].Late || o.Planes[1].Late || !o.DrillLate {
		t.Errorf("%+v, %v", o, err)
	}
	// A control that is restored has none of them, and finds them again.
	stop()
	err = s.db.Commit(t.Context(), func(ctx context.Context, tx *sqldb.Tx) error {
		_, err := tx.Exec(ctx, "DELETE FROM backup")
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	s.mu.Lock()
	s.away = map[string]bool{}
	s.mu.Unlock()
	b, _ = s.run()
	s.eventually("all are known", func() bool {
		return len(kept(t, b, link.ControlPeer)) == 1 && len(kept(t, b, link.ProvisioningPeer)) == 1
	})
	if _, err := b.Ask(t.Context(), ann, []string{"nowhere"}, false); !problem.Is(err, problem.NotFound) {
		t.Errorf("a plane that is not there: %v", err)
	}
	s.eventually("one may be asked for", func() bool {
		_, err := b.Ask(t.Context(), ann, []string{link.ControlPeer}, true)
		return err == nil
	})
	s.eventually("it is taken", func() bool { return len(kept(t, b, link.ControlPeer)) == 2 })
	newest := kept(t, b, link.ControlPeer)[0]
	if newest.AskedBy != "ann" || newest.Stored != newest.Size {
		t.Errorf("one taken anew: %+v", newest)
	}
	if _, err := b.Verify(t.Context(), ann, newest.ID); err != nil {
		t.Fatal(err)
	}
	s.eventually("it is verified", func() bool {
		one, err := b.Get(t.Context(), newest.ID)
		return err == nil && one.Verified != nil && one.Verified.EndedAt != nil && one.Verified.Failure == ""
	})
	plan := o.Schedule
	plan.Keep = vault.Retention{Last: 1}
	if _, err := b.SetSchedule(t.Context(), ann, plan); err != nil {
		t.Fatal(err)
	}
	s.eventually("the rest is let go", func() bool {
		_, err := b.Prune(t.Context(), ann, false)
		return (err == nil || problem.Is(err, problem.Busy)) && len(kept(t, b, link.ControlPeer)) == 1
	})
}

func TestADrillIsHandedOutJudgedAndSigned(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.options.Config = backup.Config{}
	b, err := backup.New(s.options)
	if err != nil {
		t.Fatal(err)
	}
	ctx := t.Context()
	if _, err := b.Claim(ctx, ann, "vault-host"); !problem.Is(err, problem.NotFound) {
		t.Errorf("none is due: %v", err)
	}
	d, err := b.AskDrill(ctx, ann)
	if err != nil {
		t.Fatal(err)
	}
	if again, err := b.AskDrill(ctx, ann); err != nil || again.ID != d.ID {
		t.Errorf("asked for again: %+v, %v", again, err)
	}
	if err := b.Advance(ctx, ann, d.ID, "restoring"); !problem.Is(err, problem.Conflict) {
		t.Errorf("one that does not run: %v", err)
	}
	if d, err = b.Claim(ctx, ann, "vault-host"); err != nil || d.State != backup.Running {
		t.Fatalf("%+v, %v", d, err)
	}
	bob := access.Actor{Name: "bob"}
	if err := b.Advance(ctx, bob, d.ID, "restoring"); !problem.Is(err, problem.Denied) {
		t.Errorf("somebody else's: %v", err)
	}
	if err := errors.Join(b.Advance(ctx, ann, d.ID, "restoring")); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Conclude(ctx, ann, d.ID, link.DrillEvidence{Drill: "another"}); !problem.Is(err, problem.Invalid) {
		t.Errorf("evidence of another: %v", err)
	}
	d, err = b.Conclude(ctx, ann, d.ID, link.DrillEvidence{Drill: d.ID, Negative: link.DrillCheck{Verdict: link.Fail}})
	if err != nil || d.Verdict != link.Fail {
		t.Fatalf("%+v, %v", d, err)
	}
	signature, err := base64.StdEncoding.DecodeString(d.Signature)
	if err != nil || !ed25519.Verify(b.Signer(), []byte(d.Signed), signature) {
		t.Errorf("the signature is not over what it says: %v", err)
	}
	if _, err := b.Conclude(ctx, ann, d.ID, link.DrillEvidence{Drill: d.ID}); !problem.Is(err, problem.Conflict) {
		t.Errorf("concluded again: %v", err)
	}
}
