package simfleet

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/slipway/slipway/device/update"
)

// The metadata of an order's software that tells simulated devices what it is
// like: simulate is a list, by commas, of what goes wrong, and
// simulateHardware and simulateEnvironment the one kind of hardware, and the
// one environment, in which it does.
const (
	simulateKey            = "simulate"
	simulateEnvironmentKey = "simulateEnvironment"
	simulateHardwareKey    = "simulateHardware"
)

// behaviour is what a release does to a device.
type behaviour struct {
	failsInstall  bool    // fail-install: it cannot be installed
	failsSelfTest bool    // fail-self-test: it is taken back
	silent        bool    // silent: nothing is heard of the order after it was accepted
	reconnects    float64 // reconnects+30%: so much more often connections break while it runs
}

// behaves reads what an order's software is like on a kind of hardware. What it
// does not know goes well.
func behaves(order update.Order, hardware string) (b behaviour) {
	for _, s := range order.Software {
		if only := s.Metadata[simulateHardwareKey]; only != "" && only != hardware {
			continue
		}
		if only := s.Metadata[simulateEnvironmentKey]; only != "" && only != order.Environment {
			continue
		}
		for word := range strings.SplitSeq(s.Metadata[simulateKey], ",") {
			word = strings.TrimSpace(word)
			percent, more := strings.CutPrefix(word, "reconnects+")
			switch share, err := strconv.ParseFloat(strings.TrimSuffix(percent, "%"), 64); {
			case more && err == nil && share >= 0 && share <= 10_000:
				b.reconnects += share / 100
			case word == "fail-install":
				b.failsInstall = true
			case word == "fail-self-test":
				b.failsSelfTest = true
			case word == "silent":
				b.silent = true
			}
		}
	}
	return b
}

// updating is where a device stands with orders. Only its own goroutine uses
// it, but for offered.
type updating struct {
	hub      string // whose orders these are
	last     int64
	order    update.Order
	phase    string
	fault    string
	like     behaviour // of what is being installed
	running  map[string]string
	restless float64 // how much more often the connection breaks, for what runs
	step     <-chan time.Time
	breaks   <-chan time.Time
}

// offer notes the order in desired properties; null withdraws it.
func (d *Device) offer(text json.RawMessage) {
	var order update.Order
	if string(text) != "null" {
		var err error
		if order, err = update.ParseOrder(text); err != nil {
			d.failed("read an order", err)
			return
		}
	}
	d.mu.Lock()
	d.offered = order
	d.mu.Unlock()
	signal(d.ordered)
}

// take begins to follow the newest order, unless it is an old one.
func (d *Device) take(ctx context.Context) {
	d.mu.Lock()
	order := d.offered
	d.mu.Unlock()
	u := &d.update
	if hub := d.Client.Assignment().Hub; hub != u.hub { // which counts its own
		u.hub, u.last, u.phase, u.step = hub, 0, "", nil
	}
	if begun := u.phase == update.ReportInstalling || u.phase == update.ReportTrial; order.Order == 0 && u.step != nil && !begun {
		u.phase, u.step = "", nil
		d.tell(ctx)
		return
	}
	if order.Order <= u.last {
		return
	}
	u.last, u.order, u.fault, u.like = order.Order, order, "", behaves(order, d.Hardware)
	if ordered := d.fleet.options.Ordered; ordered != nil {
		ordered(u.hub, order)
	}
	d.enter(ctx, update.ReportAccepted)
}

// enter reports a phase, and sets the time of the next.
func (d *Device) enter(ctx context.Context, phase string) {
	d.update.phase = phase
	d.tell(ctx)
	d.update.step = nil
	if phase != update.ReportConfirmed && phase != update.ReportFailed && phase != update.ReportRolledBack {
		d.update.step = time.After(time.Duration(float64(d.fleet.options.UpdateTime) / 4 * (0.5 + rand.Float64())))
	}
}

// advance goes from one phase to the next.
func (d *Device) advance(ctx context.Context) {
	u := &d.update
	switch u.phase {
	case update.ReportAccepted:
		if u.step = nil; !u.like.silent {
			d.enter(ctx, update.ReportDownloading)
		}
	case update.ReportDownloading:
		if err := d.download(ctx); err != nil {
			u.fault = err.Error()
			d.enter(ctx, update.ReportFailed)
			return
		}
		d.enter(ctx, update.ReportInstalling)
	case update.ReportInstalling:
		if u.like.failsInstall {
			u.fault = "simulated: it cannot be installed"
			d.enter(ctx, update.ReportFailed)
			return
		}
		d.enter(ctx, update.ReportTrial)
	case update.ReportTrial:
		if u.like.failsSelfTest {
			u.fault = "simulated: self-test: exit status 1"
			d.enter(ctx, update.ReportRolledBack)
			return
		}
		for _, s := range u.order.Software {
			u.running[s.Name] = s.Version
		}
		u.restless = u.like.reconnects
		d.plan()
		d.enter(ctx, update.ReportConfirmed)
	}
}

// plan sets the time at which the connection breaks next.
func (d *Device) plan() {
	every := d.fleet.options.ReconnectEvery
	if every <= 0 {
		return
	}
	d.update.breaks = time.After(lasts(every, d.update.restless, rand.ExpFloat64()))
}

// lasts is how long a connection lasts that breaks without memory, by chance
// with a mean of one.
func lasts(every time.Duration, restless, chance float64) time.Duration {
	return time.Duration(chance * float64(every) / (1 + restless))
}

// standing is what the device says of its updates.
func (d *Device) standing() update.Report {
	u := &d.update
	r := update.Report{Hardware: d.Hardware, Software: map[string]string{}}
	for _, s := range u.order.Software { // it may have been on trial, and told
		r.Software[s.Name] = ""
	}
	maps.Copy(r.Software, u.running)
	if u.phase != "" && u.hub == d.Client.Assignment().Hub {
		r.Order, r.Phase, r.Error = u.last, u.phase, u.fault
	}
	if u.phase == update.ReportTrial {
		for _, s := range u.order.Software {
			r.Software[s.Name] = s.Version
		}
	}
	return r
}

// tell reports it.
func (d *Device) tell(ctx context.Context) {
	text, err := json.Marshal(d.standing().Patch())
	if err == nil {
		_, err = d.Client.Report(ctx, text)
	}
	d.unless(ctx, "report an update", err)
}

// download fetches what the order names, on a share of the devices; the others
// imagine it, as a fleet has one machine's network.
func (d *Device) download(ctx context.Context) error {
	if share(d.ID, "download") >= d.fleet.options.Download {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for _, s := range d.update.order.Software {
		for _, a := range s.Artifacts {
			if err := d.fetch(ctx, a); err != nil {
				return fmt.Errorf("fetch %s: %w", a.File, err)
			}
		}
	}
	return nil
}

func (d *Device) fetch(ctx context.Context, a update.Artifact) (err error) {
	response, err := d.Client.Fetch(ctx, "updates/artifacts/"+a.SHA256, nil)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, response.Body.Close()) }()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("the hub answered %d", response.StatusCode)
	}
	sum := sha256.New()
	if _, err := io.Copy(sum, io.LimitReader(response.Body, a.Size+1)); err != nil {
		return err
	}
	if hex.EncodeToString(sum.Sum(nil)) != a.SHA256 {
		return errors.New("it has another hash")
	}
	d.fleet.downloads.Add(1)
	return nil
}
