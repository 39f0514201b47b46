package api

import (
	"context"

	"github.com/slipway/slipway/internal/link"
)

type listUpdates struct {
	StampRef
	State string `query:"state" enum:"updated,pending,failed,rolledBack,unreachable,exempt"`
	After string `query:"after" maxLength:"128"`
	Limit int    `query:"limit" minimum:"1" maximum:"1000"`
}

// updates registers where devices stand with what they are to run.
func (a *api) updates() {
	route(a, "GET", "/api/v1/stamps/{name}/updates", "listUpdates", "The census of a stamp: where each device stands with what it is to run, in order of id", func(ctx context.Context, in *listUpdates) (*body[list[link.Update]], error) {
		page, err := a.Fleet.Updates(ctx, in.Stamp, link.ListUpdates{State: link.UpdateState(in.State), After: in.After, Limit: in.Limit})
		next := ""
		if page.More && len(page.Items) > 0 {
			next = page.Items[len(page.Items)-1].DeviceID
		}
		return listOf(page.Items, next), err
	})
	route(a, "GET", "/api/v1/devices/{id}/update", "getUpdate", "Where a device stands with what it is to run", func(ctx context.Context, in *DeviceRef) (*body[link.Update], error) {
		device, err := a.Fleet.Show(ctx, in.ID)
		if err != nil {
			return nil, err
		}
		update, err := a.Fleet.Update(ctx, device.Stamp, in.ID)
		return &body[link.Update]{update}, err
	})
}
