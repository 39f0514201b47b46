package simscale

import (
	"time"

	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/provisioning/allocation"
)

// drain empties an ordinary stamp as a move does: no faster than the system's
// pace, and only as long as others have room.
func (m *model) drain(now func() time.Time) (d Displaced) {
	from := m.Stamps / 2
	m.stamps[from].State = link.StampDraining
	for i, at := range m.placed {
		if at != from {
			continue
		}
		d.Devices += m.weight
		if allocation.Room(m.stamps, environment, m.stamps[from].Name, 0) < 1 {
			continue // it stays until there is room
		}
		m.stamps[from].Taken--
		if m.placed[i] = m.choose(i, m.tenantOf(i), now); m.placed[i] < 0 {
			m.placed[i] = from
			m.stamps[from].Taken++
			continue
		}
		d.Placed += m.weight
	}
	d.Takes = m.lasts(d.Placed)
	return d
}

// moveTenant takes the devices of a tenant that may be anywhere to the stamp
// that was added, wherever they are.
func (m *model) moveTenant(now func() time.Time) (d Displaced) {
	which := 0
	for m.tenants[which].Regions != nil && which < len(m.tenants)-1 {
		which++
	}
	tenant := link.Tenant{Name: m.tenants[which].Name, Stamps: []string{addedStamp}}
	for i, at := range m.placed {
		if i%len(m.tenants) != which || at < 0 {
			continue
		}
		d.Devices += m.weight
		m.stamps[at].Taken--
		if m.placed[i] = m.choose(i, tenant, now); m.placed[i] >= 0 {
			d.Placed += m.weight
		}
	}
	d.Takes = m.lasts(d.Placed)
	return d
}
