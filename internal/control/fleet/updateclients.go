package fleet

import (
	"context"

	"github.com/slipway/slipway/internal/control/access"
	"github.com/slipway/slipway/internal/control/audit"
	"github.com/slipway/slipway/internal/link"
)

// UpdateClient is what an update client that speaks hawkBit's protocol is set
// up with for a device.
type UpdateClient struct {
	link.UpdateToken
	Stamp string `json:"stamp"`
	Host  string `json:"host" doc:"The name of the stamp's hub, without the port of its HTTPS"`
}

// UpdateClient returns how a device's update client is set up, its secret too,
// which is recorded.
func (f *Fleet) UpdateClient(ctx context.Context, actor access.Actor, id string) (c UpdateClient, err error) {
	if c.Stamp, err = f.home(ctx, id); err != nil {
		return c, err
	}
	if c.Host, err = f.hubHost(ctx, c.Stamp); err != nil {
		return c, err
	}
	err = f.audit.Around(ctx, audit.Entry{Actor: actor.Name, Action: "device.readUpdateToken", Object: "device/" + id}, func(*audit.Entry) error {
		c.UpdateToken, err = stampAsk(ctx, f, c.Stamp, link.UpdateTokenRead, link.DeviceRef{DeviceID: id})
		return err
	})
	return c, err
}

// SetUpdateGateway gives the update clients of a tenant on a stamp a token that
// speaks for all its devices, in place of any before, or takes it away.
func (f *Fleet) SetUpdateGateway(ctx context.Context, actor access.Actor, stamp string, req link.SetUpdateGateway) (g link.UpdateGateway, err error) {
	action := "updateGateway.off"
	if req.On {
		action = "updateGateway.on"
	}
	err = f.audit.Around(ctx, audit.Entry{Actor: actor.Name, Action: action, Object: "stamp/" + stamp, Environment: f.environmentOf(ctx, stamp), Detail: req.Tenant}, func(*audit.Entry) error {
		g, err = stampAsk(ctx, f, stamp, link.UpdateGatewaySet, req)
		return err
	})
	return g, err
}
