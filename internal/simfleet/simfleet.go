// Package simfleet is a fleet of simulated devices, for the demo, for tests
// and for load. Each is a client of the public device SDK and knows no more
// than a real one: the provisioning endpoint, the id scope and its own key.
package simfleet

import (
	"context"
	"crypto/x509"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/slipway/slipway/device"
	"github.com/slipway/slipway/device/retry"
	"github.com/slipway/slipway/device/update"
)

// Options describe a fleet.
type Options struct {
	Devices      int
	Pattern      string // of registration ids; default "sensor-%04d", from 1
	Provisioning string
	IDScope      string
	GroupKey     []byte
	CA           *x509.CertPool
	Firmware     string        // the version devices report; default "1.4.2"
	ReportEvery  time.Duration // until the twin says otherwise; default 5 s
	StartRate    float64       // devices started per second; default 50
	Policy       retry.Policy
	Quiet        bool // connect and answer, send nothing by itself
	// Hardware are the kinds of hardware, in equal shares; default gw-100, gw-200.
	Hardware []string
	// UpdateTime is how long devices take to follow an order, about; default 3 s.
	UpdateTime time.Duration
	// Download is the share of devices that fetch what an order names, from
	// HTTPSPort of their hub; the others imagine it.
	Download  float64
	HTTPSPort int
	// ReconnectEvery is after how long a connection breaks by itself, on
	// average; 0: it does not. Releases may make it more often.
	ReconnectEvery time.Duration
	Logger         *slog.Logger
	Dial           func(ctx context.Context, network, address string) (net.Conn, error)
	// Store holds what a device knows from before; nil: devices are new.
	Store func(registration string) device.Store
	// Event is called with what happens to each device's connection.
	Event func(registration string, e device.Event)
	// Ordered is called when a device begins to follow an order of its hub.
	Ordered func(hub string, o update.Order)

	scenario Scenario
}

// Stats count what the fleet has done so far.
type Stats struct {
	Provisioned, Reprovisioned        int64 // registrations; those of them that were not a device's first
	Connects, Disconnects, Refusals   int64
	Connected                         int64 // now
	Sent, Acked, Dropped              int64 // telemetry messages
	Methods, Messages, Errors, Alerts int64
	Downloads                         int64 // artifacts fetched, and as they should be
}

// Fleet is a number of simulated devices.
type Fleet struct {
	options Options
	devices []*Device

	provisioned, reprovisioned, connects, disconnects, refusals atomic.Int64
	connected, sent, methods, messages, failures, alerts        atomic.Int64
	downloads                                                   atomic.Int64

	mu      sync.Mutex
	cut     time.Time
	returns []time.Duration
}

// offline is how many messages a device keeps; a fleet shares one memory.
const offline = 100

// New makes a fleet that does nothing before Run.
func New(o Options) (*Fleet, error) {
	if o.Pattern == "" {
		o.Pattern = "sensor-%04d"
	}
	if o.Firmware == "" {
		o.Firmware = "1.4.2"
	}
	if o.ReportEvery == 0 {
		o.ReportEvery = 5 * time.Second
	}
	if o.StartRate <= 0 {
		o.StartRate = 50
	}
	if len(o.Hardware) == 0 {
		o.Hardware = []string{"gw-100", "gw-200"}
	}
	if o.UpdateTime <= 0 {
		o.UpdateTime = 3 * time.Second
	}
	if o.ReconnectEvery == 0 {
		o.ReconnectEvery = o.scenario.reconnects
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	f := &Fleet{options: o}
	for i := range o.Devices {
		d, err := f.newDevice(fmt.Sprintf(o.Pattern, i+1))
		if err != nil {
			return nil, err
		}
		f.devices = append(f.devices, d)
	}
	return f, nil
}

// Run starts the devices one after another and runs them until ctx ends.
func (f *Fleet) Run(ctx context.Context) error {
	pause := time.NewTicker(max(time.Microsecond, time.Duration(float64(time.Second)/f.options.StartRate)))
	defer pause.Stop()
	var running sync.WaitGroup
	defer running.Wait()
	for _, d := range f.devices {
		running.Go(func() { d.run(ctx) })
		select {
		case <-ctx.Done():
			return nil
		case <-pause.C:
		}
	}
	return nil
}

// Devices are the fleet's devices.
func (f *Fleet) Devices() []*Device { return f.devices }

// Stats returns the counters.
func (f *Fleet) Stats() Stats {
	s := Stats{
		Provisioned: f.provisioned.Load(), Reprovisioned: f.reprovisioned.Load(), Connects: f.connects.Load(), Disconnects: f.disconnects.Load(),
		Refusals: f.refusals.Load(), Connected: f.connected.Load(), Sent: f.sent.Load(), Methods: f.methods.Load(), Messages: f.messages.Load(),
		Errors: f.failures.Load(), Alerts: f.alerts.Load(), Downloads: f.downloads.Load(),
	}
	for _, d := range f.devices {
		counters := d.Client.Counters()
		s.Acked += int64(counters.Acked)
		s.Dropped += int64(counters.Dropped)
	}
	return s
}

// CutAll drops every connection at once, as a network fault would, and begins
// to note how long devices take to come back.
func (f *Fleet) CutAll() {
	f.mu.Lock()
	f.cut, f.returns = time.Now(), nil
	f.mu.Unlock()
	for _, d := range f.devices {
		d.Client.Disconnect()
	}
}

// Returns are how long after CutAll each connection came back, in order.
func (f *Fleet) Returns() []time.Duration {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.returns)
}

func (f *Fleet) returned() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.cut.IsZero() {
		f.returns = append(f.returns, time.Since(f.cut))
	}
}
