package audit

import (
	"context"
	"fmt"
	"strings"

	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/sqldb"
)

// Erasure says what the log is to forget: who somebody was, or what an object
// was, such as a device that is gone.
type Erasure struct {
	Actor  string
	Object string
	Reason string
}

// Erase forgets, and records how much without saying whom or what. The leaves
// stay, so every proof holds as before.
func (l *Log) Erase(ctx context.Context, actor string, e Erasure) (erased int64, err error) {
	switch {
	case (e.Actor == "") == (e.Object == ""):
		return 0, problem.New(problem.Invalid, "name an actor or an object, one of the two").At("object")
	case e.Object != "" && subjectOf(e.Object) == "":
		return 0, problem.New(problem.Invalid, "an object has its kind before its name, such as device/sensor-1, unlike %q", e.Object).At("object")
	case strings.TrimSpace(e.Reason) == "":
		return 0, problem.New(problem.Invalid, "say why, in words that name nobody").At("reason")
	}
	err = l.db.Commit(ctx, func(ctx context.Context, tx *sqldb.Tx) (err error) {
		part := "who acted"
		if e.Actor != "" {
			erased, err = eraseActor(ctx, tx, e.Actor)
		} else {
			part = "what was acted on, a " + subjectOf(e.Object) + ","
			erased, err = eraseObject(ctx, tx, e.Object)
		}
		if err != nil {
			return err
		}
		return l.Record(ctx, tx, Entry{Actor: actor, Action: "audit.erase", Object: "audit", Outcome: Done, Reason: e.Reason, Detail: fmt.Sprintf("%s in %d entries", part, erased)})
	})
	return erased, err
}

const (
	eraseWho  = "UPDATE audit_payload SET who_salt = NULL, actor = NULL WHERE actor IS NOT NULL"
	eraseWhat = "UPDATE audit_payload SET what_salt = NULL, object = NULL, reason = NULL, detail = NULL, before = NULL, after = NULL WHERE object IS NOT NULL"
)

// eraseActor forgets a name in the entries of whoever had it. Who counts them
// still sees that it was one person, by the id.
func eraseActor(ctx context.Context, tx *sqldb.Tx, actor string) (int64, error) {
	n, err := tx.Exec(ctx, eraseWho+" AND actor = ?", actor)
	if err != nil {
		return n, err
	}
	return n, eraseLooks(ctx, tx, "actor "+actor)
}

// eraseObject forgets an object and what is below it, such as a device's
// modules.
func eraseObject(ctx context.Context, tx *sqldb.Tx, object string) (int64, error) {
	below := object + "/"
	n, err := tx.Exec(ctx, eraseWhat+" AND (object = ? OR substr(object, 1, ?) = ?)", object, len([]rune(below)), below)
	if err != nil {
		return n, err
	}
	return n, eraseLooks(ctx, tx, "object "+object)
}

// eraseLooks forgets that somebody looked for it in the log.
func eraseLooks(ctx context.Context, tx *sqldb.Tx, described string) error {
	pattern := "%" + strings.NewReplacer(`\`, `\\`, "%", `\%`, "_", `\_`).Replace(described) + "%"
	_, err := tx.Exec(ctx, eraseWhat+` AND detail LIKE ? ESCAPE '\' AND sequence IN (SELECT sequence FROM audit WHERE action = 'audit.read')`, pattern)
	return err
}
