package gate

import (
	"context"
	"database/sql"
	"encoding/json"
	"strings"

	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/sqldb"
)

// The limits of what is kept.
const (
	keptRepeats = 20       // results of a gate that say what the one before said
	maxEvidence = 64 << 10 // of one result
	maxReason   = 2000
	maxHistory  = 5000
)

// Keep stores results of a promotion. Every change of a gate's verdict is
// kept for good; of results that repeat the one before, the last few.
func (g *Gates) Keep(ctx context.Context, promotion string, results []Result) error {
	if promotion == "" || len(results) == 0 {
		return nil
	}
	return g.DB.Commit(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		for _, r := range results {
			if err := keep(ctx, tx, promotion, bounded(r)); err != nil {
				return err
			}
		}
		return nil
	})
}

func keep(ctx context.Context, tx *sqldb.Tx, promotion string, r Result) error {
	last, found, err := sqldb.Row(ctx, tx, scanResult, "SELECT result FROM gate_result WHERE promotion = ? AND gate = ? ORDER BY sequence DESC LIMIT 1", promotion, r.Gate)
	if err != nil {
		return err
	}
	changed := 0
	if !found || last.Verdict != r.Verdict {
		changed = 1
	}
	text, err := json.Marshal(r)
	if err != nil {
		return err
	}
	if _, err := tx.Exec(ctx, "INSERT INTO gate_result (promotion, gate, changed, at, result) VALUES (?, ?, ?, ?, ?)", promotion, r.Gate, changed, sqldb.Micros(r.At), string(text)); err != nil {
		return err
	}
	_, err = tx.Exec(ctx, `DELETE FROM gate_result WHERE promotion = ? AND gate = ? AND changed = 0 AND sequence <= (
		SELECT sequence FROM gate_result WHERE promotion = ? AND gate = ? AND changed = 0 ORDER BY sequence DESC LIMIT 1 OFFSET ?)`,
		promotion, r.Gate, promotion, r.Gate, keptRepeats)
	return err
}

// bounded is a result without what is too much to keep.
func bounded(r Result) Result {
	if len(r.Evidence) > maxEvidence {
		r.Evidence = evidenceOf(map[string]any{"omitted": "more than is kept", "bytes": len(r.Evidence)})
	}
	r.Reason = shortened(r.Reason, maxReason)
	return r
}

func shortened(text string, most int) string {
	if len(text) <= most {
		return text
	}
	return strings.ToValidUTF8(text[:most], "") + "…"
}

func scanResult(rows *sql.Rows) (r Result, err error) {
	var text []byte
	if err := rows.Scan(&text); err != nil {
		return r, err
	}
	return r, json.Unmarshal(text, &r)
}

// History returns what was kept of a promotion's gates, oldest first.
func (g *Gates) History(ctx context.Context, promotion string) ([]Result, error) {
	return sqldb.Rows(ctx, g.DB, scanResult, "SELECT result FROM gate_result WHERE promotion = ? ORDER BY sequence LIMIT ?", promotion, maxHistory)
}

// Latest returns the last result of each of a promotion's gates, by name.
func (g *Gates) Latest(ctx context.Context, promotion string) ([]Result, error) {
	return sqldb.Rows(ctx, g.DB, scanResult, `SELECT result FROM gate_result WHERE sequence IN (
		SELECT max(sequence) FROM gate_result WHERE promotion = ? GROUP BY gate) ORDER BY gate`, promotion)
}

// reasonOf is a failure in words that may be shown.
func reasonOf(err error) string { return problem.Of(err).Error() }
