package audit

import (
	"bufio"
	"context"
	"database/sql"
	"encoding/json"
	"io"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/slipway/slipway/internal/sqldb"
)

// Line is a line of an export: the head first, then each leaf with what is not
// erased of its payload, and each checkpoint behind the leaf that it ends with.
type Line struct {
	Format string `json:"format,omitempty"` // of the head
	Origin string `json:"origin,omitempty"`
	Key    string `json:"key,omitempty"`
	Size   int64  `json:"size,omitempty"`

	Leaf  *leaf     `json:"leaf,omitempty"`
	Hash  tlog.Hash `json:"hash,omitzero"`
	Actor *who      `json:"actor,omitempty"`
	About *what     `json:"about,omitempty"`

	Checkpoint string `json:"checkpoint,omitempty"`
}

// exportFormat is what the head of an export says that it is.
const exportFormat = "slipway-audit/1"

// Exporting is an export that has begun.
type Exporting struct {
	log    *Log
	until  Checkpoint
	signed []Checkpoint
}

// Export begins to export the whole log. It says that it was exported, and
// signs a checkpoint that covers just that.
func (l *Log) Export(ctx context.Context, actor string) (*Exporting, error) {
	e := &Exporting{log: l}
	err := l.db.Commit(ctx, func(ctx context.Context, tx *sqldb.Tx) (err error) {
		if err := l.Record(ctx, tx, Entry{Actor: actor, Action: "audit.export", Object: "audit", Outcome: Done}); err != nil {
			return err
		}
		e.until, err = l.sign(ctx, tx)
		return err
	})
	if err != nil {
		return nil, err
	}
	e.signed, err = sqldb.Rows(ctx, l.db, scanCheckpoint, "SELECT size, at, note FROM audit_checkpoint WHERE size <= ? ORDER BY size", e.until.Size)
	return e, err
}

// Write writes lines of JSON, which Verify takes.
func (e *Exporting) Write(ctx context.Context, to io.Writer) error {
	out := bufio.NewWriterSize(to, 64<<10)
	encoder := json.NewEncoder(out)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(Line{Format: exportFormat, Origin: e.log.key.signer.Name(), Key: e.until.Key, Size: e.until.Size}); err != nil {
		return err
	}
	for after := int64(0); after < e.until.Size; {
		lines, err := e.log.lines(ctx, after, e.until.Size)
		if err != nil {
			return err
		}
		if len(lines) == 0 {
			break // what is missing here, who verifies the export will miss
		}
		for _, one := range lines {
			after = one.Leaf.Sequence
			if err := encoder.Encode(one); err != nil {
				return err
			}
			if err := e.checkpoints(encoder, after); err != nil {
				return err
			}
		}
	}
	return out.Flush()
}

// checkpoints writes those that end with a leaf, or before it.
func (e *Exporting) checkpoints(encoder *json.Encoder, after int64) error {
	for len(e.signed) > 0 && e.signed[0].Size <= after {
		if err := encoder.Encode(Line{Checkpoint: e.signed[0].Note}); err != nil {
			return err
		}
		e.signed = e.signed[1:]
	}
	return nil
}

// exportPage is how many leaves are read at a time.
const exportPage = 2000

const selectLines = `SELECT a.sequence, a.at, a.kind, a.entry, a.person, a.token, a.grant_id, a.action, a.subject, a.environment, a.outcome, a.request, a.who, a.what,
	p.who_salt, p.actor, p.what_salt, p.object, p.reason, p.detail, p.before, p.after
	FROM audit a LEFT JOIN audit_payload p ON p.sequence = a.sequence`

// lines are leaves after a sequence, with the hashes that the tree has of them.
func (l *Log) lines(ctx context.Context, after, until int64) ([]Line, error) {
	lines, err := sqldb.Rows(ctx, l.db, scanLine, selectLines+" WHERE a.sequence > ? AND a.sequence <= ? ORDER BY a.sequence LIMIT ?", after, until, exportPage)
	if err != nil || len(lines) == 0 {
		return nil, err
	}
	hashes := map[int64]tlog.Hash{}
	_, err = sqldb.Rows(ctx, l.db, func(rows *sql.Rows) (none struct{}, err error) {
		var id int64
		var hash []byte
		if err = rows.Scan(&id, &hash); err == nil && len(hash) == tlog.HashSize {
			hashes[id] = tlog.Hash(hash)
		}
		return none, err
	}, "SELECT id, hash FROM audit_hash WHERE id >= ? AND id <= ?", tlog.StoredHashIndex(0, lines[0].Leaf.Sequence-1), tlog.StoredHashIndex(0, lines[len(lines)-1].Leaf.Sequence-1))
	for i, one := range lines {
		lines[i].Hash = hashes[tlog.StoredHashIndex(0, one.Leaf.Sequence-1)]
	}
	return lines, err
}

func scanLine(rows *sql.Rows) (Line, error) {
	var one leaf
	var at int64
	var by who
	var of what
	var actor, object, reason, detail, before, after sql.NullString
	if err := rows.Scan(&one.Sequence, &at, &one.Kind, &one.Entry, &one.Person, &one.Token, &one.Grant, &one.Action, &one.Subject, &one.Environment, &one.Outcome, &one.Request, &one.Who, &one.What,
		&by.Salt, &actor, &of.Salt, &object, &reason, &detail, &before, &after); err != nil {
		return Line{}, err
	}
	one.At = sqldb.Time(at)
	line := Line{Leaf: &one}
	if actor.Valid {
		by.Actor = actor.String
		line.Actor = &by
	}
	if object.Valid {
		of.Object, of.Reason, of.Detail, of.Before, of.After = object.String, reason.String, detail.String, before.String, after.String
		line.About = &of
	}
	return line, nil
}
