package control

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/slipway/slipway/internal/bus"
	"github.com/slipway/slipway/internal/control/access"
	"github.com/slipway/slipway/internal/control/audit"
	"github.com/slipway/slipway/internal/control/decommission"
	"github.com/slipway/slipway/internal/control/dossier"
	"github.com/slipway/slipway/internal/control/erasure"
	"github.com/slipway/slipway/internal/control/retention"
	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/sqldb"
)

// erasing builds what takes devices out of use, makes planes forget them, and
// hands out what they keep.
func (p *Plane) erasing(o Options, log *audit.Log) {
	held := func(ctx context.Context, q sqldb.Querier, device, tenant string) (string, bool, error) {
		h, held, err := retention.Held(ctx, q, device, tenant)
		return h.ID, held, err
	}
	asked := subjects{planes{o.Conn}, p}
	p.decommissions = decommission.New(decommission.Options{
		DB: p.db, Audit: log, Devices: asked, Find: p.fleet.Whereabouts, Held: held, Logger: o.Logger, Now: time.Now,
	})
	p.erasures = erasure.New(erasure.Options{
		DB: p.db, Audit: log, Planes: asked, Stamps: p.environments.Stamps, Known: p.known, Held: held, Drop: p.drop, Remains: p.remains(o), Logger: o.Logger, Now: time.Now,
	})
	p.dossiers = dossier.New(dossier.Options{
		Audit: log, Export: asked.Export, Registered: asked.Registered, Here: asked.Here, Stamps: p.environments.Stamps, Tenant: p.environments.Tenant, Known: p.known, Now: time.Now,
	})
}

// known fails where there is nothing of a device or tenant.
func (p *Plane) known(ctx context.Context, kind, subject string) error {
	if kind == erasure.Tenant {
		_, err := p.environments.Tenant(ctx, subject)
		return err
	}
	_, err := p.fleet.Whereabouts(ctx, subject)
	if !problem.Is(err, problem.NotFound) {
		return err
	}
	// One that was decommissioned long ago may be known from that alone.
	if _, gone := p.decommissions.Of(ctx, subject); gone == nil {
		return nil
	}
	return err
}

// drop takes a tenant away, with the tokens that were its.
func (p *Plane) drop(ctx context.Context, actor access.Actor, tenant string) (tokens int64, err error) {
	err = p.db.Commit(ctx, func(ctx context.Context, tx *sqldb.Tx) (err error) {
		tokens, err = tx.Exec(ctx, "DELETE FROM token WHERE tenant = ?", tenant)
		return err
	})
	if err == nil {
		err = p.fleet.DeleteTenant(ctx, actor, tenant, "")
	}
	if problem.Is(err, problem.NotFound) {
		err = nil
	}
	return tokens, err
}

// remains tells what an erasure leaves, and until when.
func (p *Plane) remains(o Options) func(context.Context, time.Time) ([]erasure.Remain, error) {
	return func(ctx context.Context, at time.Time) ([]erasure.Remain, error) {
		plan, err := p.backups.Schedule(ctx)
		if err != nil {
			return nil, err
		}
		all := []erasure.Remain{{What: "entries of the audit log, without names"}, {What: "a keyed hash of each device's registration id, which keeps it from registering"}}
		for _, v := range o.Backups.Vaults {
			until := erasure.Horizon(at, plan.EverySeconds, plan.Keep.Last, plan.Keep.Daily, plan.Keep.Weekly, plan.Keep.Monthly, v.LockDays)
			all = append(all, erasure.Remain{What: "backups in vault " + v.Name + ", encrypted for the recovery role", Until: &until})
		}
		routes, err := p.environments.Routes(ctx, access.Actor{Name: "slipway"}, false)
		if err != nil {
			return nil, err
		}
		names := make([]string, len(routes))
		for i, r := range routes {
			names[i] = r.Metadata.Name
		}
		if len(names) > 0 {
			all = append(all, erasure.Remain{What: fmt.Sprintf("what routes delivered elsewhere (%s): with whoever has it", strings.Join(names, ", "))})
		}
		journal := at.Add(p.journal.Age)
		return append(all, erasure.Remain{What: "lines of logs and traces in the journal", Until: &journal}, erasure.Remain{What: "logs of processes that are kept elsewhere, and freed bytes on disks until they are written over"}), nil
	}
}

// subjects asks planes about devices.
type subjects struct {
	planes
	plane *Plane
}

// Bar bars a device at provisioning. One that a back end made on a stamp, which
// provisioning does not know, is taken off there.
func (s subjects) Bar(ctx context.Context, req link.BarDevice) (link.BarState, error) {
	state, err := bus.Ask(ctx, s.conn, link.ProvisioningPeer, link.DeviceBar, req)
	if err != nil || state.Registered || req.Forget {
		return state, err
	}
	at, err := s.plane.fleet.Whereabouts(ctx, req.DeviceID)
	if problem.Is(err, problem.NotFound) {
		return state, nil
	}
	if err != nil {
		return state, err
	}
	state.Stamp, state.Environment, state.Tenant, state.Off = at.Stamp, at.Environment, at.Tenant, false
	if !req.Remove {
		return state, nil
	}
	d, err := bus.Ask(ctx, s.conn, link.StampPeer(at.Stamp), link.DeviceGet, link.DeviceRef{DeviceID: req.DeviceID})
	if err == nil {
		_, err = bus.Ask(ctx, s.conn, link.StampPeer(at.Stamp), link.IdentityRemove, link.RemoveIdentity{DeviceID: req.DeviceID, Epoch: d.Epoch, Reason: req.Reason})
	}
	state.Off = err == nil
	return state, err
}

// Unbar lets a device register again.
func (s subjects) Unbar(ctx context.Context, device string) error {
	_, err := bus.Ask(ctx, s.conn, link.ProvisioningPeer, link.DeviceUnbar, link.BarDevice{DeviceID: device})
	return err
}

// Wipe tells a device to wipe itself.
func (s subjects) Wipe(ctx context.Context, stamp string, req link.InvokeMethod) (link.MethodResult, error) {
	return bus.Ask(ctx, s.conn, link.StampPeer(stamp), link.MethodInvoke, req)
}

// Erase has a plane erase what it keeps of a device.
func (s subjects) Erase(ctx context.Context, peer string, req link.EraseSubject) (link.Erased, error) {
	return bus.Ask(ctx, s.conn, peer, link.SubjectErase, req)
}

// Export follows what a plane keeps of a device.
func (s subjects) Export(ctx context.Context, peer, device string, each func(link.SubjectItem) error) error {
	return bus.Follow(ctx, s.conn, peer, link.SubjectExport, link.ExportSubject{Device: device}, each)
}

// Registered are devices that provisioning knows.
func (s subjects) Registered(ctx context.Context, req link.ListRegistrations) (link.Registrations, error) {
	return bus.Ask(ctx, s.conn, link.ProvisioningPeer, link.RegistrationList, req)
}

// Here are devices of a stamp.
func (s subjects) Here(ctx context.Context, stamp string, req link.QueryDevices) (link.Devices, error) {
	return bus.Ask(ctx, s.conn, link.StampPeer(stamp), link.DeviceQuery, req)
}
