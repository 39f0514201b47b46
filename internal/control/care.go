package control

import (
	"context"
	"errors"
	"time"

	"github.com/slipway/slipway/internal/bus"
	"github.com/slipway/slipway/internal/care"
	"github.com/slipway/slipway/internal/control/access"
	"github.com/slipway/slipway/internal/control/artifact"
	"github.com/slipway/slipway/internal/control/audit"
	"github.com/slipway/slipway/internal/control/retention"
	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/sqldb"
)

// caring builds what says how long everything is kept, and what keeps to that
// in control itself.
func (p *Plane) caring(o Options, log *audit.Log) error {
	p.care = care.New(p.db, p.holdings(), p.registry, o.Logger, time.Now)
	p.retention = retention.New(retention.Options{DB: p.db, Audit: log, Planes: planes{o.Conn}, Stamps: p.environments.Stamps, Logger: o.Logger, Now: time.Now})
	const peer = link.ControlPeer
	return errors.Join(
		bus.Answer(o.Conn, peer, link.CarePut, p.care.Put),
		bus.Answer(o.Conn, peer, link.CareLook, p.care.Look),
		bus.Answer(o.Conn, peer, link.CareRunNow, p.care.Ask),
		bus.Answer(o.Conn, peer, link.CareRuns, p.care.Runs),
		bus.Answer(o.Conn, peer, link.SubjectErase, p.care.Erase),
		bus.AnswerFeed(o.Conn, peer, link.SubjectExport, p.care.Export),
	)
}

// running are the digests of releases that stamps run or are about to.
const running = "SELECT r.digest FROM release r JOIN stamp_release s ON s.base = r.name OR s.base = r.digest"

// holdings is everything that control keeps for a while.
func (p *Plane) holdings() []care.Holding {
	table := func(kind, name, key, at string) care.Table {
		return care.Table{DB: p.db, Of: kind, Name: name, Key: key, At: at}
	}
	spared := func(t care.Table, spare string, also ...string) care.Table {
		t.Spare, t.Also = spare, also
		return t
	}
	recordings := spared(table("recordings", "recording", "id", "last_at"), "open = 0", "DELETE FROM recording_line WHERE recording IN ({chosen})")
	recordings.Size, recordings.Mixed = "bytes", true
	names := spared(table("audit-names", "audit_payload", "sequence", "(SELECT a.at FROM audit a WHERE a.sequence = audit_payload.sequence)"), "actor IS NOT NULL OR object IS NOT NULL")
	names.Set, names.Mixed = blankNames, true
	const day = "day * 86400000000"
	return append([]care.Holding{
		table("sessions", "session", "id", "expires_at"), table("sessions", "ceremony", "hash", "expires_at"),
		table("tokens", "token", "id", "expires_at"), table("tokens", "join_token", "id", "expires_at"),
		table("peer-certificates", "peer_certificate", "serial", "not_after"),
		recordings,
		table("exposures", "flag_exposure", "environment, flag, day, variant, release", day),
		table("flag-changes", "flag_change", "sequence", "changed_at"),
		spared(table("promotions", "promotion", "id", "created_at"), "waiting = 0 AND running = 0 AND digest NOT IN ("+running+")",
			"DELETE FROM approval WHERE promotion IN ({chosen})", "DELETE FROM gate_result WHERE promotion IN ({chosen})"),
		spared(table("promotions", "verification", "sequence", "at"), "digest NOT IN ("+running+")"),
		spared(table("promotions", "stretch", "sequence", "to_at"), "digest NOT IN ("+running+")"),
		spared(table("rollouts", "rollout", "id", "created_at"), `active = 0 AND id NOT IN (SELECT s.rollout FROM stamp_release s) AND
			(SELECT count(*) FROM rollout n WHERE n.environment = rollout.environment AND n.standing >= rollout.standing AND n.created_at > rollout.created_at) >= 20`),
		spared(table("test-results", "test_result", "id", "uploaded_at"), "digest NOT IN ("+running+")"),
		table("silences", "silence", "id", "ends_at"),
		spared(table("drills", "drill", "id", "at"), "active = 0"),
		table("readiness-scores", "readiness_score", "environment, at", "at"),
		unused{p.artifacts, p.db},
		names,
	}, p.namedIn()...)
}

// unused are files that no release names.
type unused struct {
	artifacts *artifact.Artifacts
	db        *sqldb.DB
}

// Kind is care.Holding's.
func (u unused) Kind() string { return "artifacts" }

// Look is care.Holding's.
func (u unused) Look(ctx context.Context, cut care.Cut) (link.CareFound, error) {
	files, err := u.artifacts.Prune(ctx, access.Actor{}, unusedFor(cut), true)
	return found(files), err
}

// unusedFor is how long a file must have been of no use.
func unusedFor(cut care.Cut) time.Duration { return max(time.Since(cut.Before), time.Second) }

func found(files []artifact.File) link.CareFound {
	all := link.CareFound{Kind: "artifacts", Count: int64(len(files))}
	for _, f := range files {
		all.Bytes += f.Size
		if at := f.CreatedAt; all.Oldest == nil || at.Before(*all.Oldest) {
			all.Oldest = &at
		}
	}
	return all
}

// Remove is care.Holding's.
func (u unused) Remove(ctx context.Context, cut care.Cut, note care.Note) (bool, error) {
	files, err := u.artifacts.Prune(ctx, access.Actor{Name: "slipway"}, unusedFor(cut), true)
	if err != nil || len(files) == 0 {
		return false, err
	}
	if files, err = u.artifacts.Prune(ctx, access.Actor{Name: "slipway"}, unusedFor(cut), false); err != nil || len(files) == 0 {
		return false, err
	}
	return true, u.db.Commit(ctx, func(ctx context.Context, tx *sqldb.Tx) error { return note(ctx, tx, found(files)) })
}

// Erase is care.Holding's: a file of a release is nobody's in particular.
func (u unused) Erase(context.Context, string, care.Note) (bool, error) { return false, nil }

// Export is care.Holding's.
func (u unused) Export(context.Context, string, func(link.SubjectItem) error) error { return nil }

// planes asks planes over the link.
type planes struct{ conn *bus.Conn }

// Put is retention.Planes'.
func (p planes) Put(ctx context.Context, peer string, plan link.CarePlan) error {
	_, err := bus.Ask(ctx, p.conn, peer, link.CarePut, plan)
	return err
}

// Look is retention.Planes'.
func (p planes) Look(ctx context.Context, peer string, req link.LookCare) (link.CareLooks, error) {
	return bus.Ask(ctx, p.conn, peer, link.CareLook, req)
}

// RunNow is retention.Planes'.
func (p planes) RunNow(ctx context.Context, peer string) error {
	_, err := bus.Ask(ctx, p.conn, peer, link.CareRunNow, link.None{})
	return err
}

// Runs is retention.Planes'.
func (p planes) Runs(ctx context.Context, peer string, after int64) (link.CareRunList, error) {
	return bus.Ask(ctx, p.conn, peer, link.CareRuns, link.ListCareRuns{After: after})
}
