// Package audit keeps who did what when, so that nobody can change it
// unnoticed: each entry is a leaf of a Merkle tree, whose root is signed and
// kept elsewhere too. What is personal in an entry can be erased, and all
// proofs hold as before.
//
// A mutation is one entry, written in its own transaction where that is
// control's. Where another plane carries it out, the entry is written before
// anything is asked, and what came of it follows as its outcome.
package audit

import (
	"cmp"
	"context"
	"crypto/sha256"
	"database/sql"
	"strings"
	"sync"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/sqldb"
)

// The outcomes of an action.
const (
	Done   = "done"
	Asked  = "asked"
	Failed = "failed"
)

// Entry is one line of the log.
type Entry struct {
	Sequence    int64     `json:"sequence"`
	At          time.Time `json:"at"`
	Actor       string    `json:"actor"`
	Person      string    `json:"person,omitempty"`
	Token       string    `json:"token,omitempty" doc:"Id of the token that was used"`
	Grant       string    `json:"grant,omitempty" doc:"Id of the grant that allowed it, or that it is about"`
	Action      string    `json:"action"`
	Object      string    `json:"object"`
	Environment string    `json:"environment,omitempty"`
	Reason      string    `json:"reason,omitempty"`
	Outcome     string    `json:"outcome" doc:"done, failed, or asked: of another plane, of which no more is known"`
	Detail      string    `json:"detail,omitempty"`
	Before      string    `json:"before,omitempty" doc:"Digest of what was changed, as it was"`
	After       string    `json:"after,omitempty" doc:"Digest of what was changed, as it became"`
	Request     string    `json:"request,omitempty" doc:"Id of the request that it came by"`
	Consequence bool      `json:"consequence,omitempty" doc:"It followed from the entry with the same request"`
	OutcomeAt   int64     `json:"outcomeSequence,omitempty" doc:"The leaf that holds the outcome, where another plane carried it out"`
	Erased      []string  `json:"erased,omitempty" doc:"Parts that were erased: who, what"`
}

// Request is what an edge knows of who asks; every entry that the request
// causes carries it.
type Request struct {
	ID     string
	Actor  string // the name by which it acts
	Person string
	Token  string
}

type requestKey struct{}

// request is a request on its way, with the grants that let it pass: the first,
// and one for each environment.
type request struct {
	Request
	mu     sync.Mutex
	first  string
	grants map[string]string
}

// With returns a context by which entries know of a request.
func With(ctx context.Context, r Request) context.Context {
	return context.WithValue(ctx, requestKey{}, &request{Request: r, grants: map[string]string{}})
}

// Under notes that a grant lets the request of ctx change something in an
// environment; entries of what it changes carry the grant from then on.
func Under(ctx context.Context, environment, grant string) {
	if r, _ := ctx.Value(requestKey{}).(*request); r != nil {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.first = cmp.Or(r.first, grant)
		r.grants[environment] = grant
	}
}

// RequestOf is the id of the request of ctx; empty if it is of none.
func RequestOf(ctx context.Context) string { return requestOf(ctx).ID }

var noRequest = &request{}

func requestOf(ctx context.Context) *request {
	if r, _ := ctx.Value(requestKey{}).(*request); r != nil {
		return r
	}
	return noRequest
}

// grant is the one by which something was changed in an environment: its own,
// or that of the request where what is changed is of no environment.
func (r *request) grant(environment string) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return cmp.Or(r.grants[environment], r.first)
}

// Log is the audit log, in control's database.
type Log struct {
	db  *sqldb.DB
	now func() time.Time
	key *key // nil in a log that signs nothing

	// Witnesses keep the checkpoints that Publish gives them.
	Witnesses []Witness
}

// NewLog returns the log kept in db; it signs no checkpoints.
func NewLog(db *sqldb.DB, now func() time.Time) *Log { return &Log{db: db, now: now} }

// The most that is kept of a text; longer ones are cut.
const maxText = 4000

// Record writes an entry inside a change. The first of a request is what was
// asked for; what else follows from it in the same request is its consequence.
func (l *Log) Record(ctx context.Context, tx *sqldb.Tx, e Entry) error {
	r, kind := requestOf(ctx), kindEntry
	if r.ID != "" {
		_, known, err := sqldb.Row(ctx, tx, scanInt, "SELECT sequence FROM audit WHERE request = ? AND kind = ?", r.ID, kindEntry)
		if err != nil {
			return err
		}
		if known || r.Actor != "" && e.Actor != r.Actor {
			kind = kindConsequence
		}
	}
	_, err := l.append(ctx, tx, kind, 0, e)
	return err
}

// Write is Record for what changes nothing else, such as the reading of a
// secret.
func (l *Log) Write(ctx context.Context, e Entry) error {
	e.Outcome = cmp.Or(e.Outcome, Done)
	return l.db.Commit(ctx, func(ctx context.Context, tx *sqldb.Tx) error { return l.Record(ctx, tx, e) })
}

// Around records that something is asked of another plane, asks, and records
// what became of it, for which ask may set After and Detail. Without the first
// record nothing is asked.
func (l *Log) Around(ctx context.Context, e Entry, ask func(outcome *Entry) error) error {
	var asked int64
	e.Outcome = Asked
	err := l.db.Commit(ctx, func(ctx context.Context, tx *sqldb.Tx) (err error) {
		asked, err = l.append(ctx, tx, kindEntry, 0, e)
		return err
	})
	if err != nil {
		return err
	}
	outcome := Entry{Actor: e.Actor, Action: e.Action, Object: e.Object, Environment: e.Environment, Outcome: Done}
	failure := ask(&outcome)
	if failure != nil {
		outcome.Outcome, outcome.Detail, outcome.After = Failed, problem.Of(failure).Error(), ""
	}
	err = l.db.Commit(context.WithoutCancel(ctx), func(ctx context.Context, tx *sqldb.Tx) error {
		_, err := l.append(ctx, tx, kindOutcome, asked, outcome)
		return err
	})
	if failure == nil && err != nil {
		return problem.New(problem.Internal, "it was carried out, and entry %d says that it was asked for; that it succeeded could not be recorded: %w", asked, err)
	}
	return failure
}

// Conclude records what became of the last entry with the same action and
// object that was asked and has no outcome; without one it is Record. It is for
// what takes several requests.
func (l *Log) Conclude(ctx context.Context, tx *sqldb.Tx, e Entry) error {
	asked, found, err := sqldb.Row(ctx, tx, scanInt, `SELECT a.sequence FROM audit a JOIN audit_payload p ON p.sequence = a.sequence
		WHERE p.object = ? AND a.action = ? AND a.outcome = ? AND NOT EXISTS (SELECT 1 FROM audit o WHERE o.entry = a.sequence AND o.kind = 'outcome')
		ORDER BY a.sequence DESC LIMIT 1`, e.Object, e.Action, Asked)
	if err != nil {
		return err
	}
	if !found {
		return l.Record(ctx, tx, e)
	}
	_, err = l.append(ctx, tx, kindOutcome, asked, e)
	return err
}

// cut makes a text one that is kept and exported as it is: not too long, and
// of whole characters.
func cut(s string) string {
	return strings.ReplaceAll(strings.ToValidUTF8(s[:min(len(s), maxText)], "\uFFFD"), "\x00", "\uFFFD")
}

// append writes a leaf with its payload, and what it adds to the tree.
func (l *Log) append(ctx context.Context, tx *sqldb.Tx, kind string, entry int64, e Entry) (int64, error) {
	size, err := sizeOf(ctx, tx)
	if err != nil {
		return 0, err
	}
	r := requestOf(ctx)
	one := leaf{
		Sequence: size + 1, At: l.now().UTC().Truncate(time.Microsecond), Kind: kind, Entry: entry, Action: e.Action,
		Subject: subjectOf(e.Object), Environment: e.Environment, Outcome: e.Outcome, Request: r.ID, Grant: cmp.Or(e.Grant, r.grant(e.Environment)),
	}
	if e.Actor == r.Actor {
		one.Person, one.Token = r.Person, r.Token
	}
	by := who{newSalt(), cut(e.Actor)}
	of := what{newSalt(), cut(e.Object), cut(e.Reason), cut(e.Detail), e.Before, e.After}
	one.Who, one.What = by.commitment(), of.commitment()
	if err := insertLeaf(ctx, tx, one, by, of); err != nil {
		return 0, err
	}
	return one.Sequence, grow(ctx, tx, size, one.hash())
}

func insertLeaf(ctx context.Context, tx *sqldb.Tx, one leaf, by who, of what) error {
	if _, err := tx.Exec(ctx, `INSERT INTO audit (sequence, at, kind, entry, person, token, grant_id, action, subject, environment, outcome, request, who, what)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
		one.Sequence, sqldb.Micros(one.At), one.Kind, one.Entry, one.Person, one.Token, one.Grant, one.Action, one.Subject, one.Environment, one.Outcome, one.Request, one.Who, one.What); err != nil {
		return err
	}
	_, err := tx.Exec(ctx, `INSERT INTO audit_payload (sequence, who_salt, actor, what_salt, object, reason, detail, before, after)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)`, one.Sequence, by.Salt, by.Actor, of.Salt, of.Object, of.Reason, of.Detail, of.Before, of.After)
	return err
}

func scanInt(rows *sql.Rows) (n int64, err error) { return n, rows.Scan(&n) }

// sizeOf is how many leaves there are.
func sizeOf(ctx context.Context, q sqldb.Querier) (int64, error) {
	n, _, err := sqldb.Row(ctx, q, scanInt, "SELECT sequence FROM audit ORDER BY sequence DESC LIMIT 1")
	return n, err
}

// grow adds a leaf's hash to the tree, and the hashes above that it completes.
func grow(ctx context.Context, tx *sqldb.Tx, size int64, hash tlog.Hash) error {
	hashes, err := tlog.StoredHashesForRecordHash(size, hash, hashesIn(ctx, tx))
	if err != nil {
		return err
	}
	first := tlog.StoredHashIndex(0, size)
	for i, h := range hashes {
		if _, err := tx.Exec(ctx, "INSERT INTO audit_hash (id, hash) VALUES (?, ?)", first+int64(i), h[:]); err != nil {
			return err
		}
	}
	return nil
}

// hashesIn reads hashes of the tree.
func hashesIn(ctx context.Context, q sqldb.Querier) tlog.HashReaderFunc {
	return func(indexes []int64) ([]tlog.Hash, error) {
		found := make([]tlog.Hash, len(indexes))
		for i, index := range indexes {
			one, known, err := sqldb.Row(ctx, q, func(rows *sql.Rows) (b []byte, err error) { return b, rows.Scan(&b) }, "SELECT hash FROM audit_hash WHERE id = ?", index)
			if err != nil {
				return nil, err
			}
			if !known || len(one) != sha256.Size {
				return nil, problem.New(problem.Internal, "the audit log is damaged: hash %d of its tree is not there", index)
			}
			found[i] = tlog.Hash(one)
		}
		return found, nil
	}
}
