package console

import (
	"context"
	"net/http"

	"github.com/slipway/slipway/internal/control/access"
	"github.com/slipway/slipway/internal/control/fleet"
	"github.com/slipway/slipway/internal/resource"
)

var capacityPage = newPage("capacity.html")

type capacityView struct {
	base
	Room room
}

// room is how much of it there is, and whose devices take it.
type room struct {
	Environments []fleet.Capacity
	Tenants      []resource.Tenant
}

func (c *console) capacity(w http.ResponseWriter, r *http.Request, s access.Session) error {
	found, err := c.findRoom(r.Context())
	if err != nil {
		return err
	}
	return show(w, r, http.StatusOK, capacityPage, "", capacityView{inside(r, s, "capacity", "Capacity and tenants"), found})
}

func (c *console) findRoom(ctx context.Context) (found room, err error) {
	if found.Environments, err = c.Fleet.Capacity(ctx); err != nil {
		return found, err
	}
	found.Tenants, err = c.Fleet.Tenants(ctx)
	return found, err
}

func (c *console) capacityLive(w http.ResponseWriter, r *http.Request, _ access.Session) error {
	return c.live(w, r, 2*pulseEvery, func(ctx context.Context, s *stream) error {
		found, err := c.findRoom(ctx)
		if err != nil {
			return err
		}
		return s.part(capacityPage, "room", found)
	})
}
