package fleet

import (
	"context"
	"strings"

	"github.com/slipway/slipway/internal/bus"
	"github.com/slipway/slipway/internal/control/access"
	"github.com/slipway/slipway/internal/control/audit"
	"github.com/slipway/slipway/internal/link"
)

// Uploads returns the newest files that devices of a stamp have sent, or only
// those of one device.
func (f *Fleet) Uploads(ctx context.Context, stamp, device string, limit int) ([]link.Upload, error) {
	if _, err := f.environments.Stamp(ctx, stamp); err != nil {
		return nil, err
	}
	found, err := stampAsk(ctx, f, stamp, link.UploadList, link.ListUploads{DeviceID: device, Limit: limitOf(limit)})
	return found.Items, err
}

// ReadUpload hands over a file in parts, the first of which tells its size.
// That it was read is recorded.
func (f *Fleet) ReadUpload(ctx context.Context, actor access.Actor, stamp, blob string, each func(link.UploadChunk) error) error {
	if _, err := f.environments.Stamp(ctx, stamp); err != nil {
		return err
	}
	return f.audit.Around(ctx, audit.Entry{Actor: actor.Name, Action: "upload.read", Object: "device/" + deviceOf(blob), Environment: f.environmentOf(ctx, stamp), Detail: blob}, func(*audit.Entry) error {
		return bus.Follow(ctx, f.conn, link.StampPeer(stamp), link.UploadRead, link.ReadUpload{Blob: blob}, each)
	})
}

// deviceOf is the device that a file is of: the first part of its name.
func deviceOf(blob string) string {
	device, _, _ := strings.Cut(blob, "/")
	return device
}
