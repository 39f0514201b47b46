package telemetry

import (
	"context"
	"encoding/json"
	"slices"

	"github.com/slipway/slipway/internal/care"
	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/sqldb"
)

// Hold has the servers drop nothing for its age while something is held, for
// clean-ups to leave that; what is held still goes when there is no room.
func (l *Logs) Hold(ctx context.Context, held bool) error {
	telemetry, events := l.keep.TelemetryAge, l.keep.EventAge
	if held {
		telemetry, events = 0, 0
	}
	if err := l.telemetry.KeepFor(ctx, telemetry); err != nil {
		return err
	}
	return l.events.KeepFor(ctx, events)
}

// Holdings are the two logs as what a stamp keeps of devices. tenant says whose
// device one is, and is empty where nobody knows.
func (l *Logs) Holdings(db *sqldb.DB, tenant func(ctx context.Context, device string) (string, error)) []care.Holding {
	return []care.Holding{holding{l, "telemetry", l.telemetrySide(), db, tenant}, holding{l, "events", l.eventSide(), db, tenant}}
}

// holding is one of the two.
type holding struct {
	logs   *Logs
	kind   string
	side   side
	db     *sqldb.DB
	tenant func(ctx context.Context, device string) (string, error)
}

// Kind is care.Holding's.
func (h holding) Kind() string { return h.kind }

// Look is care.Holding's. Where something is held the number is the least that
// goes.
func (h holding) Look(ctx context.Context, cut care.Cut) (link.CareFound, error) {
	found := link.CareFound{Kind: h.kind}
	before, err := h.side.log.Before(ctx, cut.Before)
	if err != nil || before == 0 {
		return found, err
	}
	state, err := h.side.log.State(ctx)
	if err != nil || state.Messages == 0 || before < state.First {
		return found, err
	}
	n := min(before-state.First+1, state.Messages)
	if len(cut.Holds) > 0 {
		_, held, err := h.subjects(ctx, cut.Holds)
		if err != nil {
			return found, err
		}
		n -= min(n, held)
	}
	found.Count, found.Bytes = int64(n), int64(state.Bytes/state.Messages*n)
	oldest, _, err := h.side.log.Read(ctx, h.side.subject(""), 0, 1)
	if err == nil && len(oldest) > 0 && n > 0 {
		at := oldest[0].Time.UTC()
		found.Oldest = &at
	}
	return found, err
}

// subjects are those that nobody holds, and how many records the others have.
func (h holding) subjects(ctx context.Context, holds []link.CareHold) (free []string, held uint64, err error) {
	counts, err := h.side.log.Subjects(ctx, h.side.subject(""))
	if err != nil {
		return nil, 0, err
	}
	tenants := slices.ContainsFunc(holds, func(h link.CareHold) bool { return h.Tenant != "" })
	for subject, n := range counts {
		device, owner := deviceOf(h.side.prefix, subject), ""
		if tenants {
			if owner, err = h.tenant(ctx, device); err != nil {
				return nil, 0, err
			}
		}
		if care.Held(holds, device, owner) {
			held += n
			continue
		}
		free = append(free, subject)
	}
	return free, held, nil
}

// Remove is care.Holding's. The log is cut at once: its server does that in the
// background.
func (h holding) Remove(ctx context.Context, cut care.Cut, note care.Note) (more bool, err error) {
	before, err := h.side.log.Before(ctx, cut.Before)
	if err != nil || before == 0 {
		return false, err
	}
	free := []string{h.side.subject("")}
	if len(cut.Holds) > 0 {
		if free, _, err = h.subjects(ctx, cut.Holds); err != nil {
			return false, err
		}
	}
	return false, h.purge(ctx, free, before, note)
}

// purge cuts subjects, and notes how much that took away.
func (h holding) purge(ctx context.Context, subjects []string, upTo uint64, note care.Note) error {
	was, err := h.side.log.State(ctx)
	if err != nil {
		return err
	}
	for _, subject := range subjects {
		if err := h.side.log.Purge(ctx, subject, upTo); err != nil {
			return err
		}
	}
	is, err := h.side.log.State(ctx)
	if err != nil {
		return err
	}
	removed := int64(was.Messages+is.Last-was.Last) - int64(is.Messages)
	if removed <= 0 || was.Messages == 0 {
		return nil
	}
	found := link.CareFound{Kind: h.kind, Count: removed, Bytes: int64(was.Bytes) * removed / int64(was.Messages)}
	return h.db.Commit(ctx, func(ctx context.Context, tx *sqldb.Tx) error { return note(ctx, tx, found) })
}

// Erase is care.Holding's.
func (h holding) Erase(ctx context.Context, device string, note care.Note) (more bool, err error) {
	return false, h.purge(ctx, []string{h.side.subject(device)}, 0, note)
}

// Export is care.Holding's.
func (h holding) Export(ctx context.Context, device string, each func(link.SubjectItem) error) error {
	for after := uint64(0); ; {
		page, err := h.logs.read(ctx, h.side, link.ReadLog{DeviceID: device, After: after, Limit: link.MaxPage / 4})
		if err != nil {
			return err
		}
		for _, one := range page.Items {
			row, err := json.Marshal(one)
			if err != nil {
				return err
			}
			if err := each(link.SubjectItem{Kind: h.kind, Row: row}); err != nil {
				return err
			}
			after = one.Sequence
		}
		if !page.More {
			return nil
		}
	}
}
