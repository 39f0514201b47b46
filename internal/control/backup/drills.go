package backup

import (
	"context"
	"crypto/ed25519"
	"database/sql"
	"encoding/base64"
	"encoding/json"
	"time"

	"github.com/slipway/slipway/internal/control/access"
	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/sqldb"
	"github.com/slipway/slipway/internal/vault"
)

// record is a drill as it is stored.
type record struct {
	version int64
	Drill
}

func scanDrill(rows *sql.Rows) (r record, err error) {
	var text string
	if err = rows.Scan(&r.version, &text); err != nil {
		return r, err
	}
	return r, json.Unmarshal([]byte(text), &r.Drill)
}

const selectDrills = "SELECT version, document FROM drill"

func readDrill(ctx context.Context, q sqldb.Querier, id string) (record, error) {
	r, found, err := sqldb.Row(ctx, q, scanDrill, selectDrills+" WHERE id = ?", id)
	if err == nil && !found {
		err = problem.New(problem.NotFound, "there is no drill %q", id)
	}
	return r, err
}

func active(d Drill) int {
	if d.State == Ended {
		return 0
	}
	return 1
}

func insertDrill(ctx context.Context, tx *sqldb.Tx, d Drill) error {
	text, err := json.Marshal(d)
	if err != nil {
		return err
	}
	_, err = tx.Exec(ctx, "INSERT INTO drill (id, active, at, version, document) VALUES (?, ?, ?, 1, ?)", d.ID, active(d), sqldb.Micros(d.CreatedAt), string(text))
	return err
}

func saveDrill(ctx context.Context, tx *sqldb.Tx, r record) error {
	text, err := json.Marshal(r.Drill)
	if err != nil {
		return err
	}
	n, err := tx.Exec(ctx, "UPDATE drill SET active = ?, version = version + 1, document = ? WHERE id = ? AND version = ?", active(r.Drill), string(text), r.ID, r.version)
	if err == nil && n == 0 {
		err = problem.New(problem.Stale, "the drill has changed meanwhile; look again")
	}
	return err
}

// stepDrills makes a drill due when the plan says so, and ends those of which
// nothing is heard.
func (b *Backups) stepDrills(ctx context.Context) error {
	left, err := sqldb.Rows(ctx, b.DB, scanDrill, selectDrills+" WHERE active = 1")
	if err != nil {
		return err
	}
	for _, r := range left {
		next, changed := stepDrill(b.Now(), r.Drill)
		if !changed {
			continue
		}
		r.Drill = b.sign(next, Objectives{})
		err := b.DB.Commit(ctx, func(ctx context.Context, tx *sqldb.Tx) error { return saveDrill(ctx, tx, r) })
		if err != nil && !problem.Is(err, problem.Stale) {
			return err
		}
	}
	plan, err := b.Schedule(ctx)
	if err != nil || len(b.Vaults) == 0 {
		return err
	}
	kept, _, err := sqldb.Row(ctx, b.DB, scanText, "SELECT id FROM backup WHERE peer = ? AND state = ? LIMIT 1", link.ControlPeer, Kept)
	if err != nil || kept == "" {
		return err // there is nothing to be tried yet
	}
	newest, err := b.newestDrill(ctx)
	if err != nil || !plan.drillDue(b.Now(), newest) {
		return err
	}
	return b.DB.Commit(ctx, func(ctx context.Context, tx *sqldb.Tx) error { return insertDrill(ctx, tx, b.newDrill("schedule", "")) })
}

func (b *Backups) newDrill(trigger, by string) Drill {
	now := b.Now().UTC()
	return Drill{ID: "drill-" + now.Format("20060102T150405Z"), State: Due, Trigger: trigger, AskedBy: by, CreatedAt: now}
}

func (b *Backups) newestDrill(ctx context.Context) (*Drill, error) {
	r, found, err := sqldb.Row(ctx, b.DB, scanDrill, selectDrills+" ORDER BY at DESC LIMIT 1")
	if err != nil || !found {
		return nil, err
	}
	return &r.Drill, nil
}

// Drills returns the newest drills created before a time (zero: all).
func (b *Backups) Drills(ctx context.Context, before time.Time, limit int) ([]Drill, error) {
	at := int64(1) << 62
	if !before.IsZero() {
		at = sqldb.Micros(before)
	}
	all, err := sqldb.Rows(ctx, b.DB, scanDrill, selectDrills+" WHERE at < ? ORDER BY at DESC LIMIT ?", at, limit)
	drills := make([]Drill, len(all))
	for i, r := range all {
		drills[i] = r.Drill
	}
	return drills, err
}

// Drill tells of a drill.
func (b *Backups) Drill(ctx context.Context, id string) (Drill, error) {
	r, err := readDrill(ctx, b.DB, id)
	return r.Drill, err
}

// AskDrill makes a drill due now; one that is due or runs already is it.
func (b *Backups) AskDrill(ctx context.Context, actor access.Actor) (d Drill, err error) {
	err = b.DB.Commit(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		r, found, err := sqldb.Row(ctx, tx, scanDrill, selectDrills+" WHERE active = 1 ORDER BY at DESC LIMIT 1")
		if err != nil {
			return err
		}
		if d = r.Drill; found {
			return nil
		}
		d = b.newDrill("demand", actor.Name)
		if err := insertDrill(ctx, tx, d); err != nil {
			return err
		}
		return b.note(ctx, tx, actor, "drill.ask", d.ID, "")
	})
	return d, err
}

// Claim hands a drill that is due to a host that recovers.
func (b *Backups) Claim(ctx context.Context, actor access.Actor, host string) (d Drill, err error) {
	err = b.DB.Commit(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		left, err := sqldb.Rows(ctx, tx, scanDrill, selectDrills+" WHERE active = 1 ORDER BY at")
		if err != nil {
			return err
		}
		for _, r := range left {
			if r.State != Due {
				continue
			}
			now := b.Now().UTC()
			r.State, r.Host, r.Runner, r.StartedAt, r.HeardAt = Running, host, actor.Name, &now, &now
			d = r.Drill
			if err := saveDrill(ctx, tx, r); err != nil {
				return err
			}
			return b.note(ctx, tx, actor, "drill.begin", r.ID, host)
		}
		return problem.New(problem.NotFound, "no drill is due")
	})
	return d, err
}

// Advance tells how far a drill is.
func (b *Backups) Advance(ctx context.Context, actor access.Actor, id, phase string) error {
	return b.DB.Commit(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		r, err := mine(ctx, tx, actor, id)
		if err != nil {
			return err
		}
		now, before := b.Now().UTC(), r.Phase
		r.Phase, r.HeardAt = phase, &now
		if err := saveDrill(ctx, tx, r); err != nil || phase == before {
			return err // that it goes on is no change
		}
		return b.note(ctx, tx, actor, "drill.advance", id, phase)
	})
}

// mine is a drill that runs, and whoever says so runs it.
func mine(ctx context.Context, tx *sqldb.Tx, actor access.Actor, id string) (record, error) {
	r, err := readDrill(ctx, tx, id)
	switch {
	case err != nil:
		return r, err
	case r.State != Running:
		return r, problem.New(problem.Conflict, "the drill %s is %s and does not run", id, r.State)
	case r.Runner != actor.Name:
		return r, problem.New(problem.Denied, "the drill %s is run by %s", id, r.Runner)
	}
	return r, nil
}

// Conclude takes the evidence of a drill, judges it and signs what it amounts
// to. The evidence also goes into the first vault.
func (b *Backups) Conclude(ctx context.Context, actor access.Actor, id string, e link.DrillEvidence) (d Drill, err error) {
	plan, err := b.Schedule(ctx)
	if err != nil {
		return d, err
	}
	err = b.DB.Commit(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		r, err := mine(ctx, tx, actor, id)
		if err != nil {
			return err
		}
		if e.Drill != id {
			return problem.New(problem.Invalid, "the evidence is of %.80q", e.Drill).At("drill")
		}
		verdict, reasons := judge(e, plan.Objectives)
		e.Trigger, e.By, e.Host = r.Trigger, actor.Name, r.Host
		next := conclude(b.Now(), r.Drill, verdict, reasons...)
		next.Evidence = &e
		r.Drill = b.sign(next, plan.Objectives)
		d = r.Drill
		if err := saveDrill(ctx, tx, r); err != nil {
			return err
		}
		return b.note(ctx, tx, actor, "drill.end", id, verdict)
	})
	if err != nil || len(b.Vaults) == 0 {
		return d, err
	}
	document, err := json.Marshal(d)
	if err != nil {
		return d, err
	}
	if err := b.vaults[b.Vaults[0].Name].Note(ctx, "drills/"+d.ID, document, b.Now()); err != nil {
		b.Logger.Warn("the evidence of a drill was not put into the vault", "drill", d.ID, "error", err)
	}
	return d, nil
}

// finding is what is signed of a drill.
type finding struct {
	Drill      string              `json:"drill"`
	Verdict    string              `json:"verdict"`
	Reasons    []string            `json:"reasons,omitempty"`
	EndedAt    time.Time           `json:"endedAt"`
	Objectives Objectives          `json:"objectives"`
	Evidence   *link.DrillEvidence `json:"evidence,omitempty"`
}

func (b *Backups) sign(d Drill, o Objectives) Drill {
	text, err := json.Marshal(finding{d.ID, d.Verdict, d.Reasons, *d.EndedAt, o, d.Evidence})
	if err != nil {
		panic(err) // of plain fields
	}
	d.Signed = string(text)
	d.Signature, d.Key = b.Sign(text)
	return d
}

// Sign signs evidence with the key that signs backups and drills, and says
// which that is.
func (b *Backups) Sign(text []byte) (signature, key string) {
	return base64.StdEncoding.EncodeToString(ed25519.Sign(b.key, text)), vault.KeyID(b.Signer())
}

// drillStanding tells when drills were last.
func (b *Backups) drillStanding(ctx context.Context, o *BackupOverview) error {
	all, err := sqldb.Rows(ctx, b.DB, scanDrill, selectDrills+" WHERE active = 0 ORDER BY at DESC LIMIT 100")
	if err != nil {
		return err
	}
	for i, r := range all {
		if i == 0 {
			o.Drill = &all[0].Drill
		}
		if r.Verdict == link.Pass && o.Passed == nil {
			o.Passed = r.EndedAt
		}
	}
	o.DrillLate = o.Configured && (o.Passed == nil || b.Now().Sub(*o.Passed) > time.Duration(o.Schedule.Objectives.DrillSeconds)*time.Second)
	return nil
}
