package api

import (
	"context"

	"github.com/slipway/slipway/internal/control/fleet"
	"github.com/slipway/slipway/internal/link"
)

type setUpdateGateway struct {
	StampRef
	Body struct {
		Tenant string `json:"tenant" minLength:"1" maxLength:"63" doc:"Whose update clients may show it"`
		On     bool   `json:"on" doc:"Make a token, which voids the one before; false takes it away"`
	}
}

// updateClients registers what update clients of hawkBit's protocol are set up
// with.
func (a *api) updateClients() {
	route(a, "GET", "/api/v1/devices/{id}/update-token", "readUpdateToken", "What a device's update client is set up with; reading it is recorded", func(ctx context.Context, in *DeviceRef) (*body[fleet.UpdateClient], error) {
		c, err := a.Fleet.UpdateClient(ctx, actorOf(ctx), in.ID)
		return &body[fleet.UpdateClient]{c}, err
	})
	route(a, "POST", "/api/v1/stamps/{name}/update-gateway", "setUpdateGateway", "Give a tenant's update clients on a stamp one token for all its devices, or take it away", func(ctx context.Context, in *setUpdateGateway) (*body[link.UpdateGateway], error) {
		g, err := a.Fleet.SetUpdateGateway(ctx, actorOf(ctx), in.Stamp, link.SetUpdateGateway{Tenant: in.Body.Tenant, On: in.Body.On})
		return &body[link.UpdateGateway]{g}, err
	})
}
