package software

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"time"

	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/sqldb"
	"github.com/slipway/slipway/internal/stamp/twin"
)

// Order returns the order that a device has, and where it stands; ok is false
// where it has none. Asking counts as being there: a device that is to have an
// order once it is there gets it now.
func (e *Engine) Order(ctx context.Context, deviceID string) (o link.UpdateOrder, u link.Update, ok bool, err error) {
	p := e.plan.Load()
	if p == nil {
		return o, u, false, nil
	}
	s, err := e.arrived(ctx, deviceID)
	if err != nil {
		return o, u, false, err
	}
	given, err := e.release(ctx, p, s.Given)
	if err != nil {
		return o, u, false, err
	}
	o, ok = s.order(given, p.Environment)
	return o, s.shown(e.Stamp), ok, nil
}

// arriveWait is how long a device that has just turned up waits for its order.
const arriveWait = time.Second

// arrived notes that a device is there, and returns where it stands once
// somebody has looked at it.
func (e *Engine) arrived(ctx context.Context, id string) (Standing, error) {
	s, found, err := e.standing(ctx, id)
	now := e.Now()
	waiting := !found || s.Step == Away
	if err != nil || !waiting && s.SeenAt != nil && now.Sub(*s.SeenAt) < pollTrust/3 {
		return s, err
	}
	if found {
		err = e.db.Commit(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
			_, err := tx.Exec(ctx, "UPDATE software SET seen_at = ? WHERE device_id = ?", sqldb.Micros(now), id)
			return err
		})
		if err != nil {
			return s, err
		}
	}
	e.Notify(id)
	tick := time.NewTicker(25 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(arriveWait); waiting && time.Now().Before(deadline); {
		select {
		case <-ctx.Done():
			return s, ctx.Err()
		case <-tick.C:
		}
		if s, found, err = e.standing(ctx, id); err != nil {
			return s, err
		}
		waiting = !found || s.Step == Away
	}
	if !found {
		return s, problem.New(problem.NotFound, "device %s is not on this stamp, or not for long enough; try again", id)
	}
	return s, nil
}

// Report takes what a device says of itself elsewhere than in its twin, where
// it is then to be found as well. What it says of an earlier order than its last
// one changes nothing.
func (e *Engine) Report(ctx context.Context, deviceID string, report link.UpdateReport) error {
	text, err := json.Marshal(report)
	if err != nil {
		return err
	}
	s, found, err := e.standing(ctx, deviceID)
	if err != nil {
		return err
	}
	if found && report.Order != 0 && report.Order < s.Order {
		return nil
	}
	said, err := asDocument(ParseReport(text))
	if err != nil {
		return err
	}
	for _, member := range []string{"phase", "progress", "error"} {
		if _, sent := said[member]; !sent {
			said[member] = nil // not what it said before
		}
	}
	patch, err := twin.Encode(twin.Document{link.UpdateProperty: said})
	if err != nil {
		return err
	}
	return e.Twins.ReportFor(ctx, deviceID, patch)
}

// Artifact opens an artifact of the stamp.
func (e *Engine) Artifact(_ context.Context, sha256 string) (io.ReadSeekCloser, int64, error) {
	file, size, err := e.files.open(sha256)
	if err != nil {
		return nil, 0, err
	}
	return file, size, nil
}

// ArtifactFor opens an artifact for a device that is to run a release with it.
func (e *Engine) ArtifactFor(ctx context.Context, deviceID, sha256 string) (io.ReadSeekCloser, int64, error) {
	p := e.plan.Load()
	unknown := problem.New(problem.NotFound, "device %s has no order with an artifact %s", deviceID, clean(sha256, 64))
	if p == nil {
		return nil, 0, unknown
	}
	s, _, err := e.standing(ctx, deviceID)
	if err != nil {
		return nil, 0, err
	}
	for _, one := range []struct{ digest, hardware string }{{s.Given, s.GivenFor}, {s.Target, s.Hardware}} {
		r, err := e.release(ctx, p, one.digest)
		if err != nil {
			return nil, 0, err
		}
		for _, software := range For(r, one.hardware) {
			for _, a := range software.Artifacts {
				if a.SHA256 == sha256 {
					return e.Artifact(ctx, sha256)
				}
			}
		}
	}
	return nil, 0, unknown
}

// Metadata returns a file of signed metadata.
func (e *Engine) Metadata(ctx context.Context, name string) (io.ReadSeeker, error) {
	content, err := e.metadata.read(ctx, name)
	return bytes.NewReader(content), err
}
