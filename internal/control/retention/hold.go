package retention

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/slipway/slipway/internal/control/access"
	"github.com/slipway/slipway/internal/control/audit"
	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/sqldb"
)

// LegalHold keeps everything known of a device or a tenant, whatever its age,
// and keeps it from being erased.
type LegalHold struct {
	ID       string        `json:"id"`
	On       link.CareHold `json:"on"`
	Reason   string        `json:"reason"`
	PlacedBy string        `json:"placedBy"`
	PlacedAt time.Time     `json:"placedAt"`
	LiftedBy string        `json:"liftedBy,omitempty"`
	LiftedAt *time.Time    `json:"liftedAt,omitempty"`
	Lifting  string        `json:"liftReason,omitempty" doc:"Why it was lifted"`
}

const (
	maxHolds  = 1000 // in force at once
	maxReason = 500
)

func digestOf(document any) string {
	text, err := json.Marshal(document)
	if err != nil {
		return ""
	}
	sum := sha256.Sum256(text)
	return "sha256:" + hex.EncodeToString(sum[:])
}

func subjectOf(h link.CareHold) string {
	if h.Device != "" {
		return "device/" + h.Device
	}
	return "tenant/" + h.Tenant
}

// checkReason refuses one that says nothing, or too much.
func checkReason(reason string) error {
	switch reason = strings.TrimSpace(reason); {
	case reason == "":
		return problem.New(problem.Invalid, "say why").At("reason")
	case len(reason) > maxReason:
		return problem.New(problem.Invalid, "has at most %d characters, not %d", maxReason, len(reason)).At("reason")
	}
	return nil
}

// Place holds a device or a tenant.
func (r *Retention) Place(ctx context.Context, actor access.Actor, on link.CareHold, reason string) (h LegalHold, err error) {
	if (on.Device == "") == (on.Tenant == "") {
		return h, problem.New(problem.Invalid, "name a device or a tenant, one of the two").At("on")
	}
	if err := checkReason(reason); err != nil {
		return h, err
	}
	err = r.DB.Commit(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		known, err := sqldb.Rows(ctx, tx, scanned[LegalHold], "SELECT document FROM legal_hold WHERE lifted = 0")
		if err != nil {
			return err
		}
		if i := slices.IndexFunc(known, func(h LegalHold) bool { return h.On == on }); i >= 0 {
			return problem.New(problem.Conflict, "%s is held already, by %s", subjectOf(on), known[i].ID)
		}
		if len(known) >= maxHolds {
			return problem.New(problem.Conflict, "there are %d legal holds in force, the most there may be; lift some", maxHolds)
		}
		n, _, err := sqldb.Row(ctx, tx, scanInt, "SELECT coalesce(max(number), 0) + 1 FROM legal_hold")
		if err != nil {
			return err
		}
		h = LegalHold{ID: fmt.Sprintf("legal-hold-%d", n), On: on, Reason: reason, PlacedBy: actor.Name, PlacedAt: r.Now().UTC().Truncate(time.Microsecond)}
		text, err := json.Marshal(h)
		if err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, "INSERT INTO legal_hold (id, number, lifted, document, device_id) VALUES (?, ?, 0, ?, ?)", h.ID, n, string(text), on.Device); err != nil {
			return err
		}
		return r.changed(ctx, tx, audit.Entry{Actor: actor.Name, Action: "hold.place", Object: subjectOf(on), Outcome: audit.Done, Reason: reason, Detail: h.ID})
	})
	if err == nil {
		r.wake()
	}
	return h, err
}

// changed has planes hear of a hold, and records it.
func (r *Retention) changed(ctx context.Context, tx *sqldb.Tx, e audit.Entry) error {
	if _, err := tx.Exec(ctx, "UPDATE retention SET version = version + 1 WHERE id = 1"); err != nil {
		return err
	}
	return r.Audit.Record(ctx, tx, e)
}

// Lift ends a hold.
func (r *Retention) Lift(ctx context.Context, actor access.Actor, id, reason string) (h LegalHold, err error) {
	if err := checkReason(reason); err != nil {
		return h, err
	}
	err = r.DB.Commit(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		var found bool
		if h, found, err = sqldb.Row(ctx, tx, scanned[LegalHold], "SELECT document FROM legal_hold WHERE id = ?", id); err != nil {
			return err
		}
		switch {
		case !found:
			return problem.New(problem.NotFound, "there is no legal hold %q", id)
		case h.LiftedAt != nil:
			return problem.New(problem.Conflict, "%s was lifted at %s", id, h.LiftedAt.Format(time.RFC3339))
		}
		now := r.Now().UTC().Truncate(time.Microsecond)
		h.LiftedBy, h.LiftedAt, h.Lifting = actor.Name, &now, reason
		text, err := json.Marshal(h)
		if err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, "UPDATE legal_hold SET lifted = 1, document = ? WHERE id = ?", string(text), id); err != nil {
			return err
		}
		return r.changed(ctx, tx, audit.Entry{Actor: actor.Name, Action: "hold.lift", Object: subjectOf(h.On), Outcome: audit.Done, Reason: reason, Detail: id})
	})
	if err == nil {
		r.wake()
	}
	return h, err
}

// Holds are those in force, newest first, or all there ever were.
func (r *Retention) Holds(ctx context.Context, all bool) ([]LegalHold, error) {
	return sqldb.Rows(ctx, r.DB, scanned[LegalHold], "SELECT document FROM legal_hold WHERE lifted = 0 OR ? = 1 ORDER BY number DESC LIMIT ?", all, link.MaxPage)
}

// Held is the hold on a device or its tenant, if there is one.
func Held(ctx context.Context, q sqldb.Querier, device, tenant string) (h LegalHold, held bool, err error) {
	holds, err := sqldb.Rows(ctx, q, scanned[LegalHold], "SELECT document FROM legal_hold WHERE lifted = 0 ORDER BY number")
	for _, h := range holds {
		if device != "" && h.On.Device == device || tenant != "" && h.On.Tenant == tenant {
			return h, true, err
		}
	}
	return h, false, err
}
