package stamp

import (
	"context"

	"github.com/slipway/slipway/internal/link"
)

// Known is a device of the stamp that may connect with a key, and its twin's
// desired version.
type Known struct {
	ID      string
	Key     []byte
	Desired int64
}

// Known finds a device that can be tried, and tells how many there are.
func (s *Stamp) Known(ctx context.Context) (k Known, devices int64, err error) {
	if devices, err = s.hub.Devices.Count(ctx); err != nil {
		return k, 0, err
	}
	for after := ""; ; {
		page, err := s.hub.Devices.Query(ctx, link.QueryDevices{After: after, Limit: link.MaxPage})
		if err != nil {
			return k, devices, err
		}
		for _, one := range page.Items {
			after = one.DeviceID
			d, err := s.hub.Devices.Get(ctx, one.DeviceID)
			if err != nil {
				return k, devices, err
			}
			if d.Auth.Type == link.AuthSAS && d.Status == "enabled" && len(d.Auth.PrimaryKey) > 0 {
				return Known{d.ID, d.Auth.PrimaryKey, d.DesiredVersion}, devices, nil
			}
		}
		if !page.More {
			return k, devices, nil
		}
	}
}
