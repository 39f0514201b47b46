package provisioning

import (
	"errors"
	"time"

	"github.com/slipway/slipway/internal/bus"
	"github.com/slipway/slipway/internal/care"
	"github.com/slipway/slipway/internal/link"
)

// caring builds what cleans provisioning up, and erases and hands out what it
// keeps of a device.
func (p *Plane) caring() error {
	p.care = care.New(p.db, p.holdings(), p.metrics, p.logger, time.Now)
	const peer = link.ProvisioningPeer
	return errors.Join(
		bus.Answer(p.conn, peer, link.CarePut, p.care.Put),
		bus.Answer(p.conn, peer, link.CareLook, p.care.Look),
		bus.Answer(p.conn, peer, link.CareRunNow, p.care.Ask),
		bus.Answer(p.conn, peer, link.CareRuns, p.care.Runs),
		bus.Answer(p.conn, peer, link.SubjectErase, p.care.Erase),
		bus.AnswerFeed(p.conn, peer, link.SubjectExport, p.care.Export),
		bus.Answer(p.conn, peer, link.DeviceBar, p.service.Bar),
		bus.Answer(p.conn, peer, link.DeviceUnbar, p.service.Unbar),
	)
}

// holdings is everything that provisioning keeps of devices, in the order in
// which it is erased: registrations last, as the others are theirs.
func (p *Plane) holdings() []care.Holding {
	table := func(kind, name, key string) care.Table { return care.Table{DB: p.db, Of: kind, Name: name, Key: key} }
	steps := table("registration-history", "registration_transition", "registration, number")
	steps.At, steps.Columns = "at", "number, at, step, environment, stamp, epoch, reason, move"
	steps.Spare = "number < coalesce((SELECT r.transitions FROM registration r WHERE r.id = registration_transition.registration), number + 1)"
	steps.Device = "(SELECT r.device_id FROM registration r WHERE r.id = registration_transition.registration)"
	steps.Tenant = "(SELECT r.tenant FROM registration r WHERE r.id = registration_transition.registration)"
	moves := table("moves", "move", "number")
	moves.At, moves.Mixed, moves.Also = "finished_at", true, []string{"DELETE FROM move_device WHERE move IN ({chosen})"}
	moved := table("moves", "move_device", "move, device_id")
	moved.Device, moved.Columns = "move_device.device_id", "move, device_id, state, problem"
	issued := table("certificates", "certificate", "serial")
	issued.At, issued.Device, issued.Columns = "not_after", "certificate.device_id", "serial, device_id, environment, not_before, not_after, revoked_at"
	issued.Tenant = "(SELECT r.tenant FROM registration r WHERE r.id = certificate.registration)"
	registrations := table("registrations", "registration", "id")
	registrations.Device = "registration.device_id"
	registrations.Columns = "registration_id, device_id, enrollment_kind, enrollment, tenant, environment, stamp, phase, epoch, twin, assigned_at, created_at, updated_at"
	// What belongs to a single device beside that, its own enrolment, goes with it.
	enrolled := table("registrations", "enrollment", "kind, name_key")
	enrolled.Device = "(CASE WHEN kind = 'Enrollment' THEN coalesce((SELECT r.device_id FROM registration r WHERE r.id = enrollment.name_key), enrollment.name) END)"
	enrolled.Columns = "kind, name, created_at, updated_at"
	return []care.Holding{steps, moves, moved, issued, enrolled, registrations}
}
