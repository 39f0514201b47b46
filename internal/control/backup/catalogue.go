package backup

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/sqldb"
	"github.com/slipway/slipway/internal/vault"
)

// The states of a backup.
const (
	Taking = "taking"
	Kept   = "kept"
	Failed = "failed"
)

// Backup is what is known of a backup.
type Backup struct {
	ID          string              `json:"id"`
	Peer        string              `json:"peer" doc:"The plane: control, provisioning, stamp.NAME"`
	Environment string              `json:"environment,omitempty"`
	Region      string              `json:"region,omitempty"`
	Vault       string              `json:"vault" doc:"Where it is kept"`
	State       string              `json:"state" enum:"taking,kept,failed"`
	Phase       string              `json:"phase,omitempty" doc:"While it is taken: waiting, copying, writing"`
	Progress    int64               `json:"progress,omitempty" doc:"Bytes of its files that were come by so far"`
	Anew        bool                `json:"anew,omitempty" doc:"It uses nothing that was in the vault before"`
	AskedBy     string              `json:"askedBy,omitempty" doc:"Empty where the plan did"`
	BegunAt     time.Time           `json:"begunAt"`
	TakenAt     *time.Time          `json:"takenAt,omitempty" doc:"Everything acknowledged before is in it"`
	EndedAt     *time.Time          `json:"endedAt,omitempty"`
	Version     string              `json:"version,omitempty" doc:"Of the program"`
	Engine      string              `json:"engine,omitempty" doc:"sqlite, postgresql"`
	Schema      int64               `json:"schema,omitempty"`
	Rows        map[string]int64    `json:"rows,omitempty" doc:"Of each table"`
	Streams     []link.BackupStream `json:"streams,omitempty"`
	Files       int                 `json:"files,omitempty"`
	Bytes       int64               `json:"bytes,omitempty" doc:"Of all files"`
	Stored      int64               `json:"stored,omitempty" doc:"Bytes that this backup added to the vault"`
	Size        int64               `json:"size,omitempty" doc:"Bytes in the vault that it needs"`
	Chunks      int                 `json:"chunks,omitempty"`
	Failure     string              `json:"failure,omitempty"`
	Verified    *Verified           `json:"verified,omitempty"`
}

// Verified says what reading a backup's chunks has shown.
type Verified struct {
	At      time.Time  `json:"at"`
	EndedAt *time.Time `json:"endedAt,omitempty"`
	Chunks  int        `json:"chunks" doc:"That were read so far"`
	Failure string     `json:"failure,omitempty"`
}

// described is a backup as its index tells of it.
func described(b Backup, x vault.Index) Backup {
	b.ID, b.Peer, b.Environment, b.Region, b.Vault, b.State, b.Phase, b.Progress = x.ID, x.Peer, x.Environment, x.Region, x.Vault, Kept, "", 0
	b.TakenAt, b.EndedAt = &x.TakenAt, &x.EndedAt
	b.Version, b.Engine, b.Schema, b.Rows, b.Streams = x.Version, x.Engine, x.Schema, x.Rows, x.Streams
	b.Files, b.Bytes, b.Stored, b.Size, b.Chunks = x.Files, x.Bytes, x.Stored, x.Size, len(x.Chunks)
	if b.BegunAt.IsZero() {
		b.BegunAt = x.TakenAt
	}
	return b
}

func (b *Backups) save(ctx context.Context, tx *sqldb.Tx, one Backup) error {
	text, err := json.Marshal(one)
	if err != nil {
		return err
	}
	_, err = tx.Exec(ctx, `INSERT INTO backup (id, peer, state, at, document) VALUES (?, ?, ?, ?, ?)
		ON CONFLICT (id) DO UPDATE SET state = excluded.state, document = excluded.document`, one.ID, one.Peer, one.State, sqldb.Micros(one.BegunAt), string(text))
	return err
}

func (b *Backups) store(ctx context.Context, one Backup) error {
	return b.DB.Commit(ctx, func(ctx context.Context, tx *sqldb.Tx) error { return b.save(ctx, tx, one) })
}

const selectBackups = "SELECT document FROM backup"

// Get tells of a backup.
func (b *Backups) Get(ctx context.Context, id string) (Backup, error) {
	one, found, err := sqldb.Row(ctx, b.DB, scanned[Backup], selectBackups+" WHERE id = ?", id)
	if err == nil && !found {
		err = problem.New(problem.NotFound, "there is no backup %q", id)
	}
	return one, err
}

// List returns the newest backups begun before a time (zero: all), of one plane
// or of all.
func (b *Backups) List(ctx context.Context, peer string, before time.Time, limit int) ([]Backup, error) {
	where, args := " WHERE at < ?", []any{int64(1) << 62}
	if !before.IsZero() {
		args[0] = sqldb.Micros(before)
	}
	if peer != "" {
		where, args = where+" AND peer = ?", append(args, peer)
	}
	return sqldb.Rows(ctx, b.DB, scanned[Backup], selectBackups+where+" ORDER BY at DESC, id LIMIT ?", append(args, limit)...)
}

// PlaneStanding is how a plane stands with its backups.
type PlaneStanding struct {
	Peer        string     `json:"peer"`
	Environment string     `json:"environment,omitempty"`
	Region      string     `json:"region,omitempty"`
	Vault       string     `json:"vault,omitempty"`
	Problem     string     `json:"problem,omitempty" doc:"Why it is not backed up"`
	Newest      *Backup    `json:"newest,omitempty" doc:"The newest that is kept"`
	Last        *Backup    `json:"last,omitempty" doc:"The newest that was begun"`
	AgeSeconds  int64      `json:"ageSeconds,omitempty" doc:"How old what is kept is"`
	Late        bool       `json:"late" doc:"Older than the objective allows, or there is none"`
	Kept        int        `json:"kept"`
	Size        int64      `json:"size" doc:"Bytes in the vault that the newest needs"`
	Oldest      *time.Time `json:"oldest,omitempty"`
}

// Overview is how an installation stands with its backups.
type Overview struct {
	Configured bool            `json:"configured"`
	Signer     string          `json:"signer" doc:"The key by which backups are known to be this installation's"`
	Recipients []string        `json:"recipients"`
	Vaults     []VaultInfo     `json:"vaults"`
	Schedule   Schedule        `json:"schedule"`
	Planes     []PlaneStanding `json:"planes"`
	Drill      *Drill          `json:"drill,omitempty" doc:"The last that has ended"`
	Passed     *time.Time      `json:"passed,omitempty" doc:"When the last drill was that passed"`
	DrillLate  bool            `json:"drillLate" doc:"None has passed for longer than the objective allows"`
}

// VaultInfo is a vault without its secrets.
type VaultInfo struct {
	Name     string   `json:"name"`
	At       string   `json:"at"`
	Regions  []string `json:"regions,omitempty"`
	LockDays int      `json:"lockDays,omitempty"`
	OffHost  bool     `json:"offHost" doc:"Not in a directory of this machine"`
}

func placeOf(v link.Vault) VaultInfo {
	p := VaultInfo{Name: v.Name, At: v.Directory, Regions: v.Regions, LockDays: v.LockDays, OffHost: v.S3 != nil}
	if v.S3 != nil {
		p.At = v.S3.Endpoint + "/" + v.S3.Bucket
		if v.S3.Prefix != "" {
			p.At += "/" + v.S3.Prefix
		}
	}
	return p
}

// Overview tells how everything stands.
func (b *Backups) Overview(ctx context.Context) (o Overview, err error) {
	o = Overview{Configured: len(b.Vaults) > 0, Signer: vault.FormatKey(b.Signer()), Recipients: b.Recipients, Vaults: []VaultInfo{}, Planes: []PlaneStanding{}}
	for _, v := range b.Vaults {
		o.Vaults = append(o.Vaults, placeOf(v))
	}
	if o.Schedule, err = b.Schedule(ctx); err != nil {
		return o, err
	}
	peers, err := b.peers(ctx)
	if err != nil {
		return o, err
	}
	for _, p := range peers {
		one, err := b.standing(ctx, p, o.Schedule)
		if err != nil {
			return o, err
		}
		o.Planes = append(o.Planes, one)
	}
	return o, b.drillStanding(ctx, &o)
}

func (b *Backups) standing(ctx context.Context, p subject, plan Schedule) (PlaneStanding, error) {
	s := PlaneStanding{Peer: p.Peer, Environment: p.Environment, Region: p.Region, Late: true}
	if place, err := vault.Choose(b.Vaults, p.Peer, p.Region, p.Bound); err != nil {
		s.Problem = problem.Of(err).Message
	} else {
		s.Vault = place.Name
	}
	last, err := b.List(ctx, p.Peer, time.Time{}, 1)
	if err != nil {
		return s, err
	}
	if len(last) > 0 {
		s.Last = &last[0]
	}
	newest, found, err := sqldb.Row(ctx, b.DB, scanned[Backup], selectBackups+" WHERE peer = ? AND state = ? ORDER BY at DESC LIMIT 1", p.Peer, Kept)
	if err != nil || !found {
		return s, err
	}
	s.Newest, s.Size = &newest, newest.Size
	age := b.Now().Sub(*newest.TakenAt)
	s.AgeSeconds, s.Late = int64(age/time.Second), age > time.Duration(plan.Objectives.RPOSeconds)*time.Second
	type span struct {
		n      int
		oldest int64
	}
	counted, _, err := sqldb.Row(ctx, b.DB, func(rows *sql.Rows) (c span, err error) { return c, rows.Scan(&c.n, &c.oldest) },
		"SELECT count(*), min(at) FROM backup WHERE peer = ? AND state = ?", p.Peer, Kept)
	oldest := sqldb.Time(counted.oldest)
	s.Kept, s.Oldest = counted.n, &oldest
	return s, err
}

// learn takes into the catalogue what is in the vaults and not in it: a control
// that was restored knows nothing of the backups taken since its own.
func (b *Backups) learn(ctx context.Context) error {
	for _, spec := range b.Vaults {
		v := b.vaults[spec.Name]
		ids, err := v.List(ctx)
		if err != nil {
			return fmt.Errorf("vault %s: %w", spec.Name, err)
		}
		known, err := sqldb.Rows(ctx, b.DB, func(rows *sql.Rows) (id string, err error) { return id, rows.Scan(&id) }, "SELECT id FROM backup WHERE state = ?", Kept)
		if err != nil {
			return err
		}
		for _, id := range ids {
			if slices.Contains(known, id) {
				continue
			}
			x, err := v.Find(ctx, id, b.signers())
			if err != nil {
				b.Logger.Warn("a backup in the vault is not one of this installation, or is damaged", "vault", spec.Name, "backup", id, "error", err)
				continue
			}
			if err := b.store(ctx, described(Backup{}, x)); err != nil {
				return err
			}
		}
	}
	return nil
}

func scanText(rows *sql.Rows) (text string, err error) { return text, rows.Scan(&text) }

// Day is what a day saw of backups.
type Day struct {
	Day    time.Time // its beginning, UTC
	Kept   int       // that were taken and are still there
	Failed int
	Stored int64 // bytes that those added
	Drills int
	Passed int // of the drills
}

// Days are the last days, oldest first.
func (b *Backups) Days(ctx context.Context, days int) ([]Day, error) {
	today := b.Now().UTC().Truncate(24 * time.Hour)
	all := make([]Day, days)
	for i := range all {
		all[i].Day = today.AddDate(0, 0, i+1-days)
	}
	place := func(at time.Time) *Day {
		if i := int(at.UTC().Sub(all[0].Day) / (24 * time.Hour)); i >= 0 && i < days {
			return &all[i]
		}
		return nil
	}
	backups, err := sqldb.Rows(ctx, b.DB, scanned[Backup], selectBackups+" WHERE at >= ?", sqldb.Micros(all[0].Day))
	if err != nil {
		return nil, err
	}
	for _, one := range backups {
		switch d := place(one.BegunAt); {
		case d == nil:
		case one.State == Kept:
			d.Kept, d.Stored = d.Kept+1, d.Stored+one.Stored
		case one.State == Failed:
			d.Failed++
		}
	}
	drills, err := sqldb.Rows(ctx, b.DB, scanDrill, selectDrills+" WHERE active = 0 AND at >= ?", sqldb.Micros(all[0].Day))
	for _, r := range drills {
		if d := place(r.CreatedAt); d != nil {
			if d.Drills++; r.Verdict == link.Pass {
				d.Passed++
			}
		}
	}
	return all, err
}
