package hub

import (
	"context"

	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/stamp/device"
	"github.com/slipway/slipway/internal/stamp/telemetry"
)

// Actor says who changes the registry, for the event log.
type Actor string

// CreateIdentity adds a device, or a module of one, for a back end.
func (h *Hub) CreateIdentity(ctx context.Context, spec device.Spec, twin *link.TwinContent, actor Actor) (device.Entry, error) {
	defer h.lock(spec.ID)()
	entry, err := h.Devices.Create(ctx, spec, twin, h.Now())
	if err == nil {
		h.noteRegistry(spec.ID, "created", actor)
	}
	return entry, err
}

// ChangeIdentity sets what a back end may set of an identity. Disabling it
// cuts its connection and, of a device, those of its modules; new credentials
// cut nothing.
func (h *Hub) ChangeIdentity(ctx context.Context, spec device.Spec, ifMatch string, actor Actor) (device.Entry, error) {
	before, after, err := h.changeIdentity(ctx, spec, ifMatch)
	if err != nil {
		return after, err
	}
	h.noteRegistry(spec.ID, "changed", actor)
	if before.Status == device.Enabled && after.Status == device.Disabled {
		err = h.cutEverywhere(ctx, spec.ID, "disabled")
	}
	return after, err
}

func (h *Hub) changeIdentity(ctx context.Context, spec device.Spec, ifMatch string) (before, after device.Entry, err error) {
	defer h.lock(spec.ID)()
	return h.Devices.Change(ctx, spec, ifMatch, h.Now())
}

// DeleteIdentity takes an identity away, and with a device its modules.
func (h *Hub) DeleteIdentity(ctx context.Context, id, ifMatch string, actor Actor) error {
	if err := h.deleteIdentity(ctx, id, ifMatch); err != nil {
		return err
	}
	h.noteRegistry(id, "deleted", actor)
	return h.cutEverywhere(ctx, id, "deleted")
}

func (h *Hub) deleteIdentity(ctx context.Context, id, ifMatch string) error {
	defer h.lock(id)()
	return h.Devices.Delete(ctx, id, ifMatch)
}

// RotateKeys changes the keys of an identity; see device.Devices.Rotate.
func (h *Hub) RotateKeys(ctx context.Context, id, which string, actor Actor) (device.Entry, error) {
	defer h.lock(id)()
	entry, err := h.Devices.Rotate(ctx, id, which)
	if err == nil {
		h.noteRegistry(id, "keysRotated", actor)
	}
	return entry, err
}

// CreateModule adds a module that a configuration needs.
func (h *Hub) CreateModule(ctx context.Context, id, module string) error {
	_, err := h.CreateIdentity(ctx, device.Spec{ID: link.ModuleIdentity(id, module)}, nil, "configuration")
	return err
}

func (h *Hub) noteRegistry(id, kind string, actor Actor) {
	h.changed(id)
	h.Logs.Note(telemetry.Event{DeviceID: id, Kind: kind, Details: map[string]string{"actor": string(actor)}})
}

// Purge drops what waits for a device and returns how much that was.
func (h *Hub) Purge(ctx context.Context, id string) (link.Purged, error) {
	if _, err := h.Devices.Get(ctx, id); err != nil {
		return link.Purged{}, err
	}
	n, err := h.Queues.Purge(ctx, id, h.Now())
	return link.Purged{Total: int(n)}, err
}

// Live brings an entry's connection state up to the moment.
func (h *Hub) Live(e device.Entry) device.Entry {
	var d link.Device
	d.DeviceID, d.Connected, d.ConnectedAt, d.LastActivity, d.Messages = e.ID, e.Connected, e.ConnectedAt, e.LastActivity, e.Messages
	h.Overlay(&d)
	e.Connected, e.ConnectedAt, e.LastActivity, e.Messages = d.Connected, d.ConnectedAt, d.LastActivity, d.Messages
	return e
}

// cutFamily cuts the connection of an identity and, of a device, those of its
// modules.
func (h *Hub) cutFamily(id, reason string) {
	var family []*Session
	h.mu.RLock()
	if s := h.sessions[id]; s != nil {
		family = append(family, s)
	}
	for module := range h.modules[id] {
		family = append(family, module)
	}
	h.mu.RUnlock()
	for _, s := range family {
		s.cut(reason)
	}
}
