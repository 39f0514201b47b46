package control

import (
	"context"
	"database/sql"
	"encoding/json"
	"regexp"
	"strings"

	"github.com/slipway/slipway/internal/care"
	"github.com/slipway/slipway/internal/control/audit"
	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/sqldb"
)

// namedIn are the places in which control names devices, for erasure and for
// whoever wants to know what is kept of one.
func (p *Plane) namedIn() []care.Holding {
	entries := care.Table{
		DB: p.db, Of: "audit-names", Name: "audit_payload", Key: "sequence",
		Device: "(CASE WHEN substr(object, 1, 7) = 'device/' THEN substr(object, 8) END)", Set: blankNames, Blank: true,
		Columns: `sequence, (SELECT a.at FROM audit a WHERE a.sequence = audit_payload.sequence) AS at,
			(SELECT a.action FROM audit a WHERE a.sequence = audit_payload.sequence) AS action, object, reason, detail`,
	}
	gone := care.Table{DB: p.db, Of: "decommissions", Name: "decommission", Key: "id", Device: "decommission.device_id", Columns: "document"}
	holds := care.Table{DB: p.db, Of: "legal-holds", Name: "legal_hold", Key: "id", Device: "legal_hold.device_id", Columns: "document"}
	return []care.Holding{
		entries, gone, holds,
		mentions{p.db, "recordings", "recording_line", "recording, number", "text"},
		mentions{p.db, "access", "access_grant", "sequence, id", "document"},
	}
}

const blankNames = "who_salt = NULL, actor = NULL, what_salt = NULL, object = NULL, reason = NULL, detail = NULL, before = NULL, after = NULL"

// mentions are texts in which devices may be named.
type mentions struct {
	db       *sqldb.DB
	kind     string
	table    string
	key, col string // the key has two columns
}

// mention is one such text.
type mention struct {
	first, second any
	text          string
}

// replaced stands where a device was named.
const replaced = "erased-device"

// word is the id of a device where it is not plainly part of another one.
func word(device string) *regexp.Regexp {
	const other = `[^A-Za-z0-9_\-]`
	return regexp.MustCompile(`(^|` + other + `)` + regexp.QuoteMeta(device) + `($|` + other + `)`)
}

// Kind is care.Holding's.
func (m mentions) Kind() string { return m.kind }

// Look is care.Holding's: age is for the record as a whole.
func (m mentions) Look(context.Context, care.Cut) (link.CareFound, error) {
	return link.CareFound{Kind: m.kind}, nil
}

// Remove is care.Holding's.
func (m mentions) Remove(context.Context, care.Cut, care.Note) (bool, error) { return false, nil }

// page are texts that may name a device, in order of their key.
func (m mentions) page(ctx context.Context, device string, offset int) ([]mention, error) {
	const size = 500
	return sqldb.Rows(ctx, m.db, func(rows *sql.Rows) (one mention, err error) {
		return one, rows.Scan(&one.first, &one.second, &one.text)
	},
		"SELECT "+m.key+", "+m.col+" FROM "+m.table+` WHERE `+m.col+` LIKE ? ESCAPE '\' ORDER BY `+m.key+" LIMIT ? OFFSET ?", audit.Like(device), size, offset)
}

// each calls do for every text that names a device.
func (m mentions) each(ctx context.Context, device string, do func(mention) error) error {
	of := word(device)
	var named []mention
	for offset := 0; ; {
		page, err := m.page(ctx, device, offset)
		if err != nil {
			return err
		}
		for _, one := range page {
			if of.MatchString(one.text) {
				named = append(named, one)
			}
		}
		if offset += len(page); len(page) == 0 {
			break
		}
	}
	for _, one := range named {
		if err := do(one); err != nil {
			return err
		}
	}
	return nil
}

// Erase is care.Holding's: the texts stay, without the name.
func (m mentions) Erase(ctx context.Context, device string, note care.Note) (more bool, err error) {
	of := word(device)
	return false, m.each(ctx, device, func(one mention) error {
		text := one.text
		for of.MatchString(text) { // neighbours share what is between them
			text = of.ReplaceAllString(text, "${1}"+replaced+"${2}")
		}
		return m.db.Commit(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
			first, second, _ := strings.Cut(m.key, ", ")
			n, err := tx.Exec(ctx, "UPDATE "+m.table+" SET "+m.col+" = ? WHERE "+first+" = ? AND "+second+" = ? AND "+m.col+" = ?", text, one.first, one.second, one.text)
			if err != nil || n == 0 {
				return err
			}
			return note(ctx, tx, link.CareFound{Kind: m.kind, Count: 1})
		})
	})
}

// Export is care.Holding's.
func (m mentions) Export(ctx context.Context, device string, each func(link.SubjectItem) error) error {
	return m.each(ctx, device, func(one mention) error {
		row, err := json.Marshal(map[string]any{"of": one.first, "text": one.text})
		if err != nil {
			return err
		}
		return each(link.SubjectItem{Kind: m.kind, Row: row})
	})
}
