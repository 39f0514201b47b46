package fleet

import (
	"context"

	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/problem"
)

// Updates returns a page of a stamp's census: where its devices stand with what
// they are to run.
func (f *Fleet) Updates(ctx context.Context, stamp string, req link.ListUpdates) (link.Updates, error) {
	if _, err := f.environments.Stamp(ctx, stamp); err != nil {
		return link.Updates{}, err
	}
	req.Limit = limitOf(req.Limit)
	return stampAsk(ctx, f, stamp, link.UpdateList, req)
}

// Update returns where one device stands with what it is to run. One that is
// to run nothing is not found.
func (f *Fleet) Update(ctx context.Context, stamp, device string) (link.Update, error) {
	found, err := f.Updates(ctx, stamp, link.ListUpdates{DeviceID: device, Limit: 1})
	if err != nil {
		return link.Update{}, err
	}
	if len(found.Items) == 0 {
		return link.Update{}, problem.New(problem.NotFound, "device %s is to run no release", device)
	}
	return found.Items[0], nil
}
