package audit

import (
	"context"
	"crypto/rand"
	"database/sql"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/seal"
	"github.com/slipway/slipway/internal/sqldb"
)

// Checkpoint is the signed size and root of the log: a C2SP checkpoint in a
// signed note, whose key's name is the log's origin.
type Checkpoint struct {
	Size int64     `json:"size"`
	Root string    `json:"root" doc:"Base64 of the tree's hash"`
	At   time.Time `json:"at"`
	Note string    `json:"note" doc:"The signed checkpoint"`
	Key  string    `json:"key" doc:"The public key, as signed notes write it"`
}

// key signs checkpoints.
type key struct {
	verifier string
	signer   note.Signer
}

// sealedName is what the log's key is sealed under; no role of the signed
// metadata can have it.
const sealedName = "audit log"

// Open returns the log kept in db, which signs checkpoints with a key that is
// made the first time and sealed with a secret. Entries from before there was
// a tree are taken into it.
func Open(ctx context.Context, db *sqldb.DB, secret []byte, now func() time.Time) (*Log, error) {
	box, err := seal.New(secret)
	if err != nil {
		return nil, err
	}
	l := NewLog(db, now)
	if err := l.adopt(ctx); err != nil {
		return nil, fmt.Errorf("take in earlier entries: %w", err)
	}
	l.key, err = openKey(ctx, db, box, now)
	return l, err
}

func openKey(ctx context.Context, db *sqldb.DB, box seal.Box, now func() time.Time) (*key, error) {
	var sealed, verifier string
	err := db.Commit(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		known, found, err := sqldb.Row(ctx, tx, func(rows *sql.Rows) (k [2]string, err error) { return k, rows.Scan(&k[0], &k[1]) }, "SELECT verifier, sealed FROM audit_key")
		if err != nil || found {
			verifier, sealed = known[0], known[1]
			return err
		}
		var id [8]byte
		if _, err := rand.Read(id[:]); err != nil {
			return err
		}
		var private string
		if private, verifier, err = note.GenerateKey(rand.Reader, "slipway/audit/"+hex.EncodeToString(id[:])); err != nil {
			return err
		}
		sealed = box.Seal(sealedName, []byte(private))
		_, err = tx.Exec(ctx, "INSERT INTO audit_key (id, verifier, sealed, created_at) VALUES (1, ?, ?, ?)", verifier, sealed, sqldb.Micros(now()))
		return err
	})
	if err != nil {
		return nil, err
	}
	private, err := box.Open(sealedName, sealed)
	if err != nil {
		return nil, err
	}
	signer, err := note.NewSigner(string(private))
	return &key{verifier, signer}, err
}

// adopt takes entries from before there was a tree into it, some at a time.
func (l *Log) adopt(ctx context.Context) error {
	const some = 500
	for {
		n := 0
		err := l.db.Commit(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
			old, err := sqldb.Rows(ctx, tx, func(rows *sql.Rows) (e Entry, err error) {
				var at int64
				err = rows.Scan(&e.Sequence, &at, &e.Actor, &e.Action, &e.Object, &e.Outcome, &e.Detail)
				e.At = sqldb.Time(at)
				return e, err
			}, "SELECT sequence, at, actor, action, object, outcome, detail FROM audit_before ORDER BY sequence LIMIT ?", some)
			for _, e := range old {
				then := Log{db: l.db, now: func() time.Time { return e.At }}
				if _, err := then.append(ctx, tx, kindEntry, 0, e); err != nil {
					return err
				}
				if _, err := tx.Exec(ctx, "DELETE FROM audit_before WHERE sequence = ?", e.Sequence); err != nil {
					return err
				}
			}
			n = len(old)
			return err
		})
		if err != nil || n < some {
			return err
		}
	}
}

// errUnsigned is what a log without a key hears.
var errUnsigned = problem.New(problem.NotReady, "this audit log has no key to sign checkpoints with")

// Checkpoint signs the log as it is, with an entry that says who asked.
func (l *Log) Checkpoint(ctx context.Context, actor string) (c Checkpoint, err error) {
	err = l.db.Commit(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		if err := l.Record(ctx, tx, Entry{Actor: actor, Action: "audit.checkpoint", Object: "audit", Outcome: Done}); err != nil {
			return err
		}
		c, err = l.sign(ctx, tx)
		return err
	})
	return c, err
}

// Renew signs the log if it has grown since it was last signed.
func (l *Log) Renew(ctx context.Context) error {
	return l.db.Commit(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		size, err := sizeOf(ctx, tx)
		if err != nil {
			return err
		}
		last, _, err := lastCheckpoint(ctx, tx)
		if err != nil || size == last.Size {
			return err
		}
		_, err = l.sign(ctx, tx)
		return err
	})
}

// sign signs the log as it is in a transaction: never one that is not a
// continuation of what was signed before.
func (l *Log) sign(ctx context.Context, tx *sqldb.Tx) (Checkpoint, error) {
	if l.key == nil {
		return Checkpoint{}, errUnsigned
	}
	size, err := sizeOf(ctx, tx)
	if err != nil {
		return Checkpoint{}, err
	}
	root, err := tlog.TreeHash(size, hashesIn(ctx, tx))
	if err != nil {
		return Checkpoint{}, err
	}
	last, found, err := lastCheckpoint(ctx, tx)
	if err != nil {
		return Checkpoint{}, err
	}
	if found {
		if err := continues(ctx, tx, last, size, root); err != nil {
			return Checkpoint{}, err
		}
	}
	if found && last.Size == size {
		last.Key = l.key.verifier
		return last, nil
	}
	signed, err := note.Sign(&note.Note{Text: checkpointText(l.key.signer.Name(), size, root)}, l.key.signer)
	if err != nil {
		return Checkpoint{}, err
	}
	at := l.now()
	_, err = tx.Exec(ctx, "INSERT INTO audit_checkpoint (size, at, note) VALUES (?, ?, ?)", size, sqldb.Micros(at), string(signed))
	return Checkpoint{size, root.String(), at.UTC(), string(signed), l.key.verifier}, err
}

// continues holds a tree against an earlier checkpoint of it.
func continues(ctx context.Context, q sqldb.Querier, last Checkpoint, size int64, root tlog.Hash) error {
	if size < last.Size {
		return problem.New(problem.Internal, "the audit log is damaged: it has %d entries, and had %d when it was last signed", size, last.Size)
	}
	before, err := tlog.ParseHash(last.Root)
	if err != nil {
		return err
	}
	proof, err := tlog.ProveTree(size, last.Size, hashesIn(ctx, q))
	if err == nil {
		err = tlog.CheckTree(proof, size, root, last.Size, before)
	}
	if err != nil {
		return problem.New(problem.Internal, "the audit log is damaged: its %d entries do not go on from the %d that were last signed: %w", size, last.Size, err)
	}
	return nil
}

// checkpointText is a checkpoint as C2SP has it: origin, size, root.
func checkpointText(origin string, size int64, root tlog.Hash) string {
	return fmt.Sprintf("%s\n%d\n%s\n", origin, size, root)
}

// readCheckpoint takes the size and root out of a checkpoint's text.
func readCheckpoint(text, origin string) (size int64, root tlog.Hash, err error) {
	lines := strings.Split(text, "\n")
	if len(lines) < 4 || lines[0] != origin {
		return 0, root, problem.New(problem.Invalid, "this is no checkpoint of %s", origin)
	}
	size, err = strconv.ParseInt(lines[1], 10, 64)
	if err != nil || size < 0 || strconv.FormatInt(size, 10) != lines[1] {
		return 0, root, problem.New(problem.Invalid, "the checkpoint's size is not a number")
	}
	decoded, err := base64.StdEncoding.DecodeString(lines[2])
	if err != nil || len(decoded) != tlog.HashSize {
		return 0, root, problem.New(problem.Invalid, "the checkpoint's root is not a hash")
	}
	return size, tlog.Hash(decoded), nil
}

func scanCheckpoint(rows *sql.Rows) (c Checkpoint, err error) {
	var at int64
	if err := rows.Scan(&c.Size, &at, &c.Note); err != nil {
		return c, err
	}
	c.At = sqldb.Time(at)
	origin, _, _ := strings.Cut(c.Note, "\n")
	_, root, err := readCheckpoint(c.Note, origin)
	c.Root = root.String()
	return c, err
}

func lastCheckpoint(ctx context.Context, q sqldb.Querier) (Checkpoint, bool, error) {
	return sqldb.Row(ctx, q, scanCheckpoint, "SELECT size, at, note FROM audit_checkpoint ORDER BY size DESC LIMIT 1")
}

// Latest is the newest checkpoint, which is made where there is none.
func (l *Log) Latest(ctx context.Context) (Checkpoint, error) {
	if l.key == nil {
		return Checkpoint{}, errUnsigned
	}
	c, found, err := lastCheckpoint(ctx, l.db)
	if err == nil && !found {
		if err = l.Renew(ctx); err == nil {
			c, _, err = lastCheckpoint(ctx, l.db)
		}
	}
	c.Key = l.key.verifier
	return c, err
}

// Checkpoints are those that were signed, newest first.
func (l *Log) Checkpoints(ctx context.Context, limit int) ([]Checkpoint, error) {
	all, err := sqldb.Rows(ctx, l.db, scanCheckpoint, "SELECT size, at, note FROM audit_checkpoint ORDER BY size DESC LIMIT ?", limit)
	for i := range all {
		if l.key != nil {
			all[i].Key = l.key.verifier
		}
	}
	return all, err
}
