package evidence

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/slipway/slipway/internal/control/readiness"
	"github.com/slipway/slipway/internal/link"
)

// sampled is how many devices of a move are looked up one by one.
const sampled = 5

// moves looks up the newest move that brought devices here, and whether they are
// gone from where they were.
func (s *scene) moves(ctx context.Context) error {
	f := readiness.MoveFacts{}
	if len(s.upstream) > 0 {
		f.From = s.upstream[0]
	}
	all, err := s.Fleet.Moves(ctx, link.MaxPage)
	if err != nil {
		return err
	}
	for _, m := range all.Items {
		if m.To != s.name || m.Census.Arrived == 0 && f.Last != "" {
			continue
		}
		if f.Last == "" || f.Arrived == 0 && m.Census.Arrived > 0 {
			f.Last, f.Arrived, f.At = m.ID, m.Census.Arrived, m.CreatedAt
		}
	}
	if f.Arrived > 0 && f.From != "" {
		if err := s.gone(ctx, &f); err != nil {
			return err
		}
	}
	s.facts.Moves = &f
	return nil
}

// gone looks for devices of a move where they came from.
func (s *scene) gone(ctx context.Context, f *readiness.MoveFacts) error {
	moved, err := s.Fleet.MoveDevices(ctx, link.ListMoveDevices{ID: f.Last, State: "arrived", Limit: sampled})
	if err != nil {
		return err
	}
	for _, one := range moved.Items {
		d, err := s.Fleet.Show(ctx, one.DeviceID)
		if err != nil {
			return err
		}
		left := ""
		for _, stay := range d.History {
			if stay.Environment != s.name && stay.To != nil && !stay.To.Before(f.At.Add(-time.Minute)) {
				left = stay.Stamp
			}
		}
		if left == "" {
			continue
		}
		there, err := s.onStamp(ctx, left, one.DeviceID)
		if err != nil {
			return err
		}
		if there {
			f.Present = append(f.Present, one.DeviceID+" on "+left)
			continue
		}
		f.Removed++
		f.Rejected += s.refused(ctx, left, one.DeviceID, f.At)
	}
	return nil
}

// onStamp asks a stamp whether it knows a device.
func (s *scene) onStamp(ctx context.Context, stamp, device string) (bool, error) {
	answers, err := s.Fleet.Query(ctx, "", stamp, link.RunQuery{Query: fmt.Sprintf("SELECT deviceId FROM devices WHERE deviceId = '%s'", strings.ReplaceAll(device, "'", "''")), Limit: 1})
	if err != nil {
		return false, err
	}
	for _, a := range answers {
		if a.Problem != "" {
			return false, fmt.Errorf("stamp %s: %s", stamp, a.Problem)
		}
		if len(a.Items) > 0 {
			return true, nil
		}
	}
	return false, nil
}

// refused counts how often a stamp has refused a device since; a stamp that does
// not tell has refused nobody.
func (s *scene) refused(ctx context.Context, stamp, device string, since time.Time) (n int) {
	page, err := s.Fleet.Events(ctx, stamp, link.ReadLog{DeviceID: device, Last: true, Limit: 50})
	if err != nil {
		return 0
	}
	for _, e := range page.Items {
		if e.Kind == "refused" && e.EnqueuedTime.After(since) {
			n++
		}
	}
	return n
}

func (s *scene) devices(ctx context.Context) error {
	stamps, err := s.Fleet.Stamps(ctx)
	if err != nil {
		return err
	}
	f, told := readiness.DeviceFacts{}, false
	for _, one := range stamps {
		if one.Spec.Environment != s.name {
			continue
		}
		o, heard := s.Environments.Observed(one.Metadata.Name)
		if !heard || o.Releases == nil || !o.Releases.Complete {
			continue
		}
		told = true
		c := o.Releases.Devices
		f.Registered += o.Devices
		f.Updated, f.Pending, f.Failed = f.Updated+c.Updated, f.Pending+c.Pending, f.Failed+c.Failed
		f.RolledBack, f.Unreachable, f.Exempt = f.RolledBack+c.RolledBack, f.Unreachable+c.Unreachable, f.Exempt+c.Exempt
	}
	if !told {
		s.facts.Missing["what devices run"] = "no stamp has told yet what its devices run"
		return nil
	}
	s.facts.Devices = &f
	return nil
}
