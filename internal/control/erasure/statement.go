package erasure

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"strings"
	"time"

	"github.com/slipway/slipway/internal/control/access"
	"github.com/slipway/slipway/internal/control/audit"
	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/sqldb"
)

// Remain is what an erasure leaves, and until when.
type Remain struct {
	What  string     `json:"what"`
	Until *time.Time `json:"until,omitempty" doc:"It is gone by then; none says that it stays"`
}

// The first line of a statement, and what a proof says that it is.
const (
	statementTitle = "slipway erasure statement 1"
	proofFormat    = "slipway-erasure-proof/1"
)

// Statement says what an erasure did. It is signed with the key of the audit
// log, which has an entry with its digest.
type Statement struct {
	Erasure    string           `json:"erasure"`
	Kind       string           `json:"kind" enum:"device,tenant"`
	Salt       string           `json:"salt"`
	Commitment string           `json:"commitment" doc:"Of the subject's name, with the salt: it says which only to who knows the name"`
	AskedAt    time.Time        `json:"askedAt"`
	EndedAt    time.Time        `json:"endedAt"`
	Devices    int              `json:"devices"`
	Planes     []PlaneErasure   `json:"planes"`
	Total      []link.CareFound `json:"total"`
	Remains    []Remain         `json:"remains"`
}

// ErasureProof shows anybody what was erased: the signed statement, and that it is
// in the audit log.
type ErasureProof struct {
	Format    string      `json:"format"`
	Statement string      `json:"statement" doc:"A signed note; its second line is the statement as JSON"`
	Key       string      `json:"key"`
	Audit     audit.Proof `json:"audit"`
}

// close takes the tenant itself away, and states what was done. From then on
// nothing here says whom it was about.
func (s *Erasures) close(ctx context.Context, one stored) error {
	e := one.Erasure
	if e.Kind == Tenant {
		tokens, err := s.Drop(ctx, access.Actor{Name: e.By}, e.Subject)
		if err != nil {
			return err
		}
		if tokens > 0 {
			e.heard(link.ControlPeer, append(removedBy(e, link.ControlPeer), link.CareFound{Kind: "tokens", Count: tokens}), "")
		}
	}
	now := s.clock()
	remains, err := s.Remains(ctx, now)
	if err != nil {
		return err
	}
	return s.DB.Commit(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		e := e // the change may run again
		e.Planes = append([]PlaneErasure{}, e.Planes...)
		names, err := audit.EraseIn(ctx, tx, object(e.Kind, e.Subject))
		if err != nil {
			return err
		}
		if names > 0 {
			e.heard(link.ControlPeer, append(removedBy(e, link.ControlPeer), link.CareFound{Kind: "audit-names", Count: names}), "")
		}
		text, signed, key, err := s.state(e, now, remains)
		if err != nil {
			return err
		}
		sum := sha256.Sum256([]byte(text))
		entry, err := s.Audit.Append(ctx, tx, audit.Entry{
			Actor: "slipway", Action: "data.erased", Object: "erasure/" + e.ID, Outcome: audit.Done, After: "sha256:" + hex.EncodeToString(sum[:]),
		})
		if err != nil {
			return err
		}
		e.State, e.Problem, e.EndedAt, e.Subject, e.Cursor = Done, "", &now, "", cursor{}
		e.Proof = &proofStarted{signed, key, entry}
		return save(ctx, tx, e, one.version)
	})
}

// removedBy is what a plane has erased so far.
func removedBy(e Erasure, peer string) []link.CareFound {
	for _, p := range e.Planes {
		if p.Plane == peer {
			return append([]link.CareFound{}, p.Removed...)
		}
	}
	return nil
}

// state is the statement of an erasure, and that signed.
func (s *Erasures) state(e Erasure, now time.Time, remains []Remain) (text, signed, key string, err error) {
	document, err := json.Marshal(Statement{
		Erasure: e.ID, Kind: e.Kind, Salt: e.Salt, Commitment: Commit(e.Salt, e.Kind, e.Subject), AskedAt: e.At, EndedAt: now,
		Devices: e.Devices, Planes: e.Planes, Total: sum(e.Planes), Remains: remains,
	})
	if err != nil {
		return "", "", "", err
	}
	text = statementTitle + "\n" + string(document) + "\n"
	signed, key, err = s.Audit.Sign(text)
	return text, signed, key, err
}

// Prove is the proof of an erasure that is done.
func (s *Erasures) Prove(ctx context.Context, actor access.Actor, id string) (p ErasureProof, err error) {
	e, err := s.Get(ctx, id)
	if err != nil {
		return p, err
	}
	if e.Proof == nil {
		return p, problem.New(problem.NotReady, "%s is %s: %d of %d devices are erased everywhere", id, e.State, e.Erased, e.Devices)
	}
	p = ErasureProof{Format: proofFormat, Statement: e.Proof.Statement, Key: e.Proof.Key}
	_, p.Audit, err = s.Audit.Show(ctx, actor.Name, e.Proof.Entry)
	return p, err
}

// Verify checks a proof, by a key that is known from elsewhere; an empty one
// takes the proof's word for it.
func Verify(p ErasureProof, key string) (st Statement, err error) {
	if p.Format != proofFormat {
		return st, problem.New(problem.Invalid, "this is no proof of an erasure")
	}
	if key == "" {
		key = p.Key
	}
	text, err := audit.Opened(p.Statement, key)
	if err != nil {
		return st, err
	}
	title, document, _ := strings.Cut(text, "\n")
	if title != statementTitle {
		return st, problem.New(problem.Invalid, "what was signed is no statement of an erasure")
	}
	if err := json.Unmarshal([]byte(document), &st); err != nil {
		return st, problem.New(problem.Invalid, "the statement cannot be read: %w", err)
	}
	entry, err := audit.VerifyProof(p.Audit, key)
	if err != nil {
		return st, err
	}
	digest := sha256.Sum256([]byte(text))
	if entry.Action != "data.erased" || entry.Object != "erasure/"+st.Erasure || entry.After != "sha256:"+hex.EncodeToString(digest[:]) {
		return st, problem.New(problem.Invalid, "entry %d of the audit log is not about this statement", entry.Sequence)
	}
	return st, nil
}

// About reports whether a statement is about a device or tenant.
func (st Statement) About(subject string) bool {
	return Commit(st.Salt, st.Kind, subject) == st.Commitment
}
