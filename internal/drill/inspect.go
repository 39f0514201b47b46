package drill

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/up"
)

// Findings are what an installation has shown that was restored and run.
type Findings struct {
	Checks     []link.DrillCheck `json:"checks"`
	BootMillis int64             `json:"bootMillis"` // until it was ready
	// DeviceMillis is until the first device was let in; 0 where none was tried.
	DeviceMillis int64 `json:"deviceMillis"`
}

// Subject is a restored installation that is to be run.
type Subject struct {
	Dir      string `json:"dir"`
	Database string `json:"database,omitempty"`
	// SealingKeys says where the keys come from that are not in the directory.
	SealingKeys string `json:"sealingKeys,omitempty"`
	Version     string `json:"version"`
}

// bootTime bounds how long a restored installation may take to be ready.
const bootTime = 10 * time.Minute

// Inspect runs a restored installation, on loopback alone, and looks whether it
// works: it connects to nothing.
func Inspect(ctx context.Context, s Subject, logger *slog.Logger) Findings {
	var f Findings
	ctx, cancel := context.WithTimeout(ctx, bootTime)
	defer cancel()
	begun := time.Now()
	booted := false
	err := up.Run(ctx, up.Options{
		Data: s.Dir, Database: s.Database, SealingKeys: s.SealingKeys, HTTP: "127.0.0.1:0", HTTPS: "127.0.0.1:0", MQTTS: "127.0.0.1:0", AMQPS: "127.0.0.1:0", Version: s.Version, Logger: logger,
		Inspect: func(ctx context.Context, within up.Within) error {
			booted, f.BootMillis = true, time.Since(begun).Milliseconds()
			f.look(ctx, begun, within)
			return nil
		},
	})
	switch {
	case !booted && err == nil:
		err = errors.New("it ended before it was ready")
		fallthrough
	case err != nil:
		f.add("boot", "", err, "")
	default:
		f.add("boot", "", nil, fmt.Sprintf("ready after %d ms", f.BootMillis))
	}
	return f
}

func (f *Findings) add(name, plane string, err error, detail string) {
	c := link.DrillCheck{Name: name, Plane: plane, Verdict: link.Pass, Detail: detail}
	if err != nil {
		c.Verdict, c.Detail = link.Fail, err.Error()
	}
	f.Checks = append(f.Checks, c)
}

func (f *Findings) look(ctx context.Context, begun time.Time, within up.Within) {
	f.devices(ctx, begun, within)
	found, err := within.Control.AuditWhole(ctx)
	f.add("audit", link.ControlPeer, err, found)
	asked, err := within.Control.NothingToDo(ctx)
	f.add("promotion", link.ControlPeer, err, fmt.Sprintf("%d environments have nothing to do", asked))
}

// devices has one device of each stamp connect and read its twin.
func (f *Findings) devices(ctx context.Context, begun time.Time, within up.Within) {
	tried, unknown := 0, []string{}
	for _, name := range slices.Sorted(maps.Keys(within.Stamps)) {
		peer := link.StampPeer(name)
		known, devices, err := within.Stamps[name].Known(ctx)
		if err == nil && known.ID == "" {
			if devices > 0 {
				unknown = append(unknown, name)
			}
			continue
		}
		if err == nil {
			err = f.device(ctx, peer, within, name, known.ID, known.Key, known.Desired)
		}
		if tried++; err == nil && f.DeviceMillis == 0 {
			f.DeviceMillis = time.Since(begun).Milliseconds()
		}
		f.add("device", peer, err, known.ID+" was let in")
	}
	switch {
	case tried > 0:
	case len(unknown) > 0:
		f.Checks = append(f.Checks, link.DrillCheck{Name: "device", Verdict: link.Inconclusive, Detail: "no device of " + strings.Join(unknown, ", ") + " has a key that the stamp knows; one that does can be tried"})
	default:
		f.Checks = append(f.Checks, link.DrillCheck{Name: "device", Verdict: link.NothingToDo, Detail: "there is no device"})
	}
}

func (f *Findings) device(ctx context.Context, peer string, within up.Within, stamp, id string, key []byte, desired int64) error {
	for _, at := range within.Ready.Stamps {
		if at.Name != stamp {
			continue
		}
		twin, err := visit(ctx, within.CA, at.Host, at.MQTTS, id, key)
		if err != nil {
			return fmt.Errorf("%s: %w", id, err)
		}
		var wrong error
		if twin.Desired.Version != desired {
			wrong = fmt.Errorf("%s is told desired properties of version %d, and its twin has %d", id, twin.Desired.Version, desired)
		}
		f.add("twin", peer, wrong, fmt.Sprintf("%s reads version %d", id, desired))
		return nil
	}
	return fmt.Errorf("the stamp %s does not run", stamp)
}
