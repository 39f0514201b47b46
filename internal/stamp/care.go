package stamp

import (
	"context"
	"encoding/json"
	"errors"
	"io"

	"github.com/slipway/slipway/internal/bus"
	"github.com/slipway/slipway/internal/care"
	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/sqldb"
)

// caring builds what cleans the stamp up, and erases and hands out what it
// keeps of a device.
func (s *Stamp) caring(o Options) *care.Keeper {
	keeper := care.New(s.db, s.holdings(), s.metrics, s.logger, o.Now)
	keeper.Planned = func(ctx context.Context, plan link.CarePlan) error { return s.logs.Hold(ctx, len(plan.Holds) > 0) }
	return keeper
}

func (s *Stamp) answerCare(peer string) error {
	return errors.Join(
		bus.Answer(s.link, peer, link.CarePut, s.care.Put),
		bus.Answer(s.link, peer, link.CareLook, s.care.Look),
		bus.Answer(s.link, peer, link.CareRunNow, s.care.Ask),
		bus.Answer(s.link, peer, link.CareRuns, s.care.Runs),
		bus.Answer(s.link, peer, link.SubjectErase, s.care.Erase),
		bus.AnswerFeed(s.link, peer, link.SubjectExport, s.care.Export),
	)
}

// tenantOf is whose a device of the stamp is; empty where it is not here.
func (s *Stamp) tenantOf(ctx context.Context, device string) (string, error) {
	found, err := s.hub.Devices.Lookup(ctx, []string{device})
	if err != nil || len(found) == 0 {
		return "", err
	}
	return found[0].Tenant, nil
}

// holdings is everything that a stamp keeps, in the order in which it is
// erased: identities go first, so that nothing new comes of them.
func (s *Stamp) holdings() []care.Holding {
	table := func(kind, name, key string) care.Table {
		return care.Table{
			DB: s.db, Of: kind, Name: name, Key: key, Device: name + ".device_id",
			Tenant: "(SELECT d.tenant FROM device d WHERE d.device_id = " + name + ".device_id)",
		}
	}
	devices := table("devices", "device", "device_id")
	devices.Lasts = true
	devices.Columns = "device_id, tenant, status, status_reason, enrollment, auth_type, model_id, connected_at, last_activity, messages, created_at, edge"
	twins, running := table("devices", "twin", "device_id"), table("devices", "software", "device_id")
	twins.Lasts, running.Lasts = true, true
	twins.Columns = "device_id, version, tags, desired, reported"
	running.Columns = "device_id, name, target, state, reason, hardware, running, number, ordered_at, updated_at"
	commands, feedback, notices := table("commands", "command", "sequence"), table("commands", "feedback", "sequence"), table("commands", "file_notification", "sequence")
	commands.Columns = "device_id, message_id, properties, body, enqueued_at, expires_at"
	feedback.Columns = "device_id, message_id, status, description, at"
	notices.Columns = "device_id, blob, size, uploaded_at"
	uploads, blobs := table("uploads", "upload", "correlation_id"), table("uploads", "blob", "name")
	uploads.At, uploads.Spare, uploads.Columns = "created_at", "status <> 'open'", "device_id, blob, status, size, description, created_at, ended_at"
	blobs.At, blobs.Size, blobs.Columns, blobs.Device = "updated_at", "size", "name, size, type, updated_at", "blob.name"
	blobs.Spare = "NOT EXISTS (SELECT 1 FROM upload u WHERE u.blob = blob.name AND u.status = 'open')"
	blobs.Tenant = "(SELECT d.tenant FROM device d JOIN upload u ON u.device_id = d.device_id WHERE u.blob = blob.name LIMIT 1)"
	letters := table("dead-letters", "dead_letter", "id")
	letters.At, letters.Size, letters.Columns = "at", "length(message)", "device_id, route, message, reason, attempts, at"
	letters.Also = []string{`UPDATE route SET dropped = dropped + (SELECT count(*) FROM dead_letter l WHERE l.route = route.name AND l.id IN ({chosen})),
		kept = kept - (SELECT count(*) FROM dead_letter l WHERE l.route = route.name AND l.id IN ({chosen})),
		kept_bytes = kept_bytes - (SELECT coalesce(sum(length(l.message)), 0) FROM dead_letter l WHERE l.route = route.name AND l.id IN ({chosen}))`}
	jobs := care.Table{DB: s.db, Of: "jobs", Name: "job", Key: "id", At: "end_at", Mixed: true}
	done := table("jobs", "device_job", "job_id, device_id")
	done.Columns = "device_id, job_id, status, outcome, failure, created_at, updated_at"
	left := table("left-twins", "tombstone", "device_id")
	left.At, left.Spare, left.Set, left.Size = "at", "twin <> 'null'", "twin = 'null'", "length(twin)"
	left.Columns = "device_id, epoch, at, reason, sent_to, twin"
	all := []care.Holding{identities{devices, s}, twins, running, commands, feedback, notices}
	all = append(all, s.logs.Holdings(s.db, s.tenantOf)...)
	return append(all, uploads, files{blobs, s}, letters, jobs, done, left)
}

// identities are the devices of the stamp; whoever erases one that is still
// here takes it off.
type identities struct {
	care.Table
	stamp *Stamp
}

// Erase is care.Holding's.
func (i identities) Erase(ctx context.Context, device string, note care.Note) (more bool, err error) {
	found, err := i.stamp.hub.Devices.Lookup(ctx, []string{device})
	if err != nil || len(found) == 0 {
		return false, err
	}
	if _, err := i.stamp.hub.RemoveIdentity(ctx, link.RemoveIdentity{DeviceID: device, Epoch: found[0].Epoch, Reason: "erased"}); err != nil {
		return false, err
	}
	return false, i.DB.Commit(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		return note(ctx, tx, link.CareFound{Kind: i.Of, Count: 1})
	})
}

// nameOf is the name of a file in the row that tells of it.
func nameOf(row json.RawMessage) (string, error) {
	var of struct{ Name string }
	err := json.Unmarshal(row, &of)
	return of.Name, err
}

// files are what devices uploaded, handed out with what is in them.
type files struct {
	care.Table
	stamp *Stamp
}

// Export is care.Holding's.
func (f files) Export(ctx context.Context, device string, each func(link.SubjectItem) error) error {
	names := []string{}
	err := f.Table.Export(ctx, device, func(item link.SubjectItem) error {
		name, err := nameOf(item.Row)
		names = append(names, name)
		return errors.Join(err, each(item))
	})
	for _, name := range names {
		if err == nil {
			err = f.hand(ctx, name, each)
		}
	}
	return err
}

func (f files) hand(ctx context.Context, name string, each func(link.SubjectItem) error) (err error) {
	_, file, err := f.stamp.uploads.Find(ctx, name)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	buffer := make([]byte, uploadChunk)
	for {
		n, err := file.Read(buffer)
		if n > 0 {
			if err := each(link.SubjectItem{Kind: f.Of, File: name, Data: buffer[:n]}); err != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}
