package audit

import (
	"context"
	"encoding/json"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/sqldb"
)

// proofFormat is what a proof says that it is.
const proofFormat = "slipway-audit-proof/1"

// Proof shows that an entry is in the log of a signed checkpoint: with the
// hashes beside its way to the root, each check anybody can repeat.
type Proof struct {
	Format     string          `json:"format"`
	Line       json.RawMessage `json:"line" doc:"The entry as an export has it"`
	Path       []string        `json:"path" doc:"Base64 of the hashes from beside the leaf up to the root"`
	Checkpoint Checkpoint      `json:"checkpoint"`
}

// Continuation shows that a larger log begins with all of a smaller one.
type Continuation struct {
	From Checkpoint `json:"from"`
	To   Checkpoint `json:"to"`
	Path []string   `json:"path" doc:"Base64 of the hashes of a consistency proof (RFC 6962)"`
}

// Show returns an entry with its proof against the newest checkpoint, which is
// made if the entry is newer. That it was read is an entry too.
func (l *Log) Show(ctx context.Context, actor string, sequence int64) (Entry, Proof, error) {
	e, err := l.get(ctx, sequence)
	if err != nil {
		return e, Proof{}, err
	}
	p, err := l.prove(ctx, sequence)
	if err != nil {
		return e, p, err
	}
	return e, p, l.Write(ctx, Entry{Actor: actor, Action: "audit.read", Object: "audit", Detail: "entry " + e.Action})
}

// ProveLast proves that the newest entry which is signed for is in the log. It
// is evidence for control itself: nobody has looked, and so it is no entry.
func (l *Log) ProveLast(ctx context.Context) (Checkpoint, error) {
	c, err := l.Latest(ctx)
	if err != nil || c.Size == 0 {
		return c, err
	}
	proof, err := l.prove(ctx, c.Size)
	if err == nil {
		_, err = VerifyProof(proof, c.Key)
	}
	return c, err
}

func (l *Log) prove(ctx context.Context, sequence int64) (Proof, error) {
	c, err := l.Latest(ctx)
	if err == nil && c.Size < sequence {
		if err = l.Renew(ctx); err == nil {
			c, err = l.Latest(ctx)
		}
	}
	if err != nil {
		return Proof{}, err
	}
	lines, err := l.lines(ctx, sequence-1, sequence)
	if err != nil {
		return Proof{}, err
	}
	if len(lines) == 0 || c.Size < sequence {
		return Proof{}, problem.New(problem.NotFound, "there is no entry %d in the audit log", sequence)
	}
	path, err := tlog.ProveRecord(c.Size, sequence-1, hashesIn(ctx, l.db))
	if err != nil {
		return Proof{}, err
	}
	line, err := json.Marshal(lines[0])
	return Proof{proofFormat, line, textOf(path), c}, err
}

// Continue proves that the log of one checkpoint begins with that of an
// earlier one. 0 is the newest.
func (l *Log) Continue(ctx context.Context, from, to int64) (Continuation, error) {
	last, err := l.Latest(ctx)
	if err != nil {
		return Continuation{}, err
	}
	if to == 0 {
		to = last.Size
	}
	if from < 1 || from > to {
		return Continuation{}, problem.New(problem.Invalid, "a proof leads from 1 or more entries to as many or more, not from %d to %d", from, to).At("from")
	}
	c := Continuation{}
	if c.From, err = l.checkpointOf(ctx, from, "from"); err != nil {
		return c, err
	}
	if c.To, err = l.checkpointOf(ctx, to, "to"); err != nil {
		return c, err
	}
	path, err := tlog.ProveTree(to, from, hashesIn(ctx, l.db))
	c.Path = textOf(path)
	return c, err
}

func (l *Log) checkpointOf(ctx context.Context, size int64, field string) (Checkpoint, error) {
	c, found, err := sqldb.Row(ctx, l.db, scanCheckpoint, "SELECT size, at, note FROM audit_checkpoint WHERE size = ?", size)
	if err == nil && !found {
		err = problem.New(problem.NotFound, "no checkpoint of %d entries was signed; `slipway audit checkpoint --list` shows those that were", size).At(field)
	}
	c.Key = l.key.verifier
	return c, err
}

func textOf[P tlog.RecordProof | tlog.TreeProof](path P) []string {
	texts := make([]string, len(path))
	for i, h := range path {
		texts[i] = h.String()
	}
	return texts
}

func hashesOf(texts []string) ([]tlog.Hash, error) {
	hashes := make([]tlog.Hash, len(texts))
	for i, t := range texts {
		var err error
		if hashes[i], err = tlog.ParseHash(t); err != nil {
			return nil, problem.New(problem.Invalid, "hash %d of the proof cannot be read", i+1)
		}
	}
	return hashes, nil
}

// IsProof reports whether a text is a proof rather than an export.
func IsProof(text []byte) bool {
	var head struct{ Format string }
	return json.Unmarshal(text, &head) == nil && head.Format == proofFormat
}

// VerifyProof checks that an entry is in the log of the proof's checkpoint,
// signed with a key; an empty one takes the proof's word for it.
func VerifyProof(p Proof, key string) (Entry, error) {
	if key == "" {
		key = p.Checkpoint.Key
	}
	verifier, err := note.NewVerifier(key)
	if err != nil {
		return Entry{}, problem.New(problem.Invalid, "the public key cannot be read: %w", err)
	}
	size, root, err := openCheckpoint(p.Checkpoint.Note, verifier)
	if err != nil {
		return Entry{}, err
	}
	var line Line
	if err := json.Unmarshal(p.Line, &line); err != nil || line.Leaf == nil {
		return Entry{}, problem.New(problem.Invalid, "the proof holds no entry")
	}
	hash, fault := checkLeaf(line)
	if fault != "" {
		return Entry{}, problem.New(problem.Invalid, "entry %d: %s", line.Leaf.Sequence, fault)
	}
	path, err := hashesOf(p.Path)
	if err != nil {
		return Entry{}, err
	}
	if err := tlog.CheckRecord(path, size, root, line.Leaf.Sequence-1, hash); err != nil {
		return Entry{}, problem.New(problem.Invalid, "entry %d is not in the log of the checkpoint", line.Leaf.Sequence)
	}
	return line.entry(), nil
}

// VerifyContinuation checks that a log goes on from where it was.
func VerifyContinuation(c Continuation, key string) error {
	verifier, err := note.NewVerifier(key)
	if err != nil {
		return problem.New(problem.Invalid, "the public key cannot be read: %w", err)
	}
	from, before, err := openCheckpoint(c.From.Note, verifier)
	if err != nil {
		return err
	}
	to, root, err := openCheckpoint(c.To.Note, verifier)
	if err != nil {
		return err
	}
	if to < from {
		return problem.New(problem.Invalid, "the log has %d entries, and had %d: some were cut off", to, from)
	}
	path, err := hashesOf(c.Path)
	if err != nil {
		return err
	}
	if err := tlog.CheckTree(path, to, root, from, before); err != nil {
		return problem.New(problem.Invalid, "the log of %d entries does not go on from the one of %d", to, from)
	}
	return nil
}

// entry is a line as people read it.
func (line Line) entry() Entry {
	one := line.Leaf
	e := Entry{Sequence: one.Sequence, At: one.At, Person: one.Person, Token: one.Token, Grant: one.Grant, Action: one.Action, Environment: one.Environment, Outcome: one.Outcome, Request: one.Request, Consequence: one.Kind == kindConsequence}
	if line.Actor != nil {
		e.Actor = line.Actor.Actor
	} else {
		e.Erased = append(e.Erased, "who")
	}
	if of := line.About; of != nil {
		e.Object, e.Reason, e.Detail, e.Before, e.After = of.Object, of.Reason, of.Detail, of.Before, of.After
	} else {
		e.Erased = append(e.Erased, "what")
	}
	return e
}
