// Package simfleet is a fleet of simulated devices, for the demo, for tests
// and for load. Each is a client of the public device SDK and knows no more
// than a real one: the provisioning endpoint, the id scope and its own key.
package simfleet

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"log/slog"
	"math"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/slipway/slipway/device"
	"github.com/slipway/slipway/device/retry"
)

// Options describe a fleet.
type Options struct {
	Devices      int
	Pattern      string // of registration ids; default "sensor-%04d", from 1
	Provisioning string
	IDScope      string
	GroupKey     []byte
	CA           *x509.CertPool
	ReportEvery  time.Duration // until the twin says otherwise; default 5 s
	StartRate    float64       // devices started per second; default 50
	Policy       retry.Policy
	Quiet        bool // connect and answer, send nothing by itself
	Logger       *slog.Logger
	Dial         func(ctx context.Context, network, address string) (net.Conn, error)
	// Event is called with what happens to each device's connection.
	Event func(registration string, e device.Event)
}

// Stats count what the fleet has done so far.
type Stats struct {
	Provisioned, Connects, Disconnects, Refusals int64
	Connected                                    int64 // now
	Acked                                        int64 // telemetry messages
	Methods, Messages                            int64
}

// Fleet is a number of simulated devices.
type Fleet struct {
	options Options
	devices []*Device

	provisioned, connects, disconnects, refusals atomic.Int64
	connected, acked, methods, messages          atomic.Int64
}

// New makes a fleet that does nothing before Run.
func New(o Options) (*Fleet, error) {
	if o.Pattern == "" {
		o.Pattern = "sensor-%04d"
	}
	if o.ReportEvery == 0 {
		o.ReportEvery = 5 * time.Second
	}
	if o.StartRate == 0 {
		o.StartRate = 50
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

// Run runs every device until ctx ends.
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
	return Stats{
		f.provisioned.Load(), f.connects.Load(), f.disconnects.Load(), f.refusals.Load(),
		f.connected.Load(), f.acked.Load(), f.methods.Load(), f.messages.Load(),
	}
}

// CutAll drops every connection at once, as a network fault would.
func (f *Fleet) CutAll() {
	for _, d := range f.devices {
		d.Client.Disconnect()
	}
}

// Device is one simulated device.
type Device struct {
	ID     string
	Client *device.Client

	fleet  *Fleet
	chance *rand.Rand
	every  atomic.Int64 // ns between messages
	began  time.Time

	mu     sync.Mutex
	sensor sensor
}

// sensor is the little world a device measures.
type sensor struct {
	base, swing float64 // of the temperature, in °C
	humidity    float64
	vibration   float64
	battery     float64
}

func (f *Fleet) newDevice(id string) (*Device, error) {
	o := f.options
	client, err := device.New(device.Config{
		Provisioning: o.Provisioning, IDScope: o.IDScope, RegistrationID: id, Key: device.DeriveKey(o.GroupKey, id),
		CA: o.CA, Policy: o.Policy, Logger: o.Logger, Dial: o.Dial, ModelID: "dtmi:slipway:demo:sensor;1",
	})
	if err != nil {
		return nil, err
	}
	d := &Device{ID: id, Client: client, fleet: f, chance: retry.Seed(id, 7)}
	d.every.Store(int64(o.ReportEvery))
	d.sensor = sensor{
		base: 18 + 6*d.chance.Float64(), swing: 2 + 4*d.chance.Float64(), humidity: 35 + 30*d.chance.Float64(),
		vibration: 0.2 + d.chance.Float64(), battery: 60 + 40*d.chance.Float64(),
	}
	client.OnEvent(d.happened)
	client.OnDesired(func(_ int64, patch []byte) { d.desired(patch) })
	client.OnMessage(func(m device.Message) {
		f.messages.Add(1)
		o.Logger.Info("message from the cloud", "device", id, "messageId", m.ID, "bytes", len(m.Body))
	})
	d.handleMethods()
	return d, nil
}

func (d *Device) handleMethods() {
	answer := func(status int, value any) (int, []byte) {
		d.fleet.methods.Add(1)
		text, err := json.Marshal(value)
		if err != nil {
			return 500, nil
		}
		return status, text
	}
	d.Client.OnMethod("identify", func(context.Context, []byte) (int, []byte) {
		return answer(200, map[string]any{"deviceId": d.ID, "blinking": true})
	})
	d.Client.OnMethod("selfTest", func(context.Context, []byte) (int, []byte) {
		return answer(200, map[string]any{"selfTest": "ok", "batteryPercent": round(d.reading(time.Now()).Battery)})
	})
	d.Client.OnMethod("reboot", func(context.Context, []byte) (int, []byte) {
		// The answer must leave before the connection goes.
		time.AfterFunc(200*time.Millisecond, d.Client.Disconnect)
		return answer(202, map[string]any{"rebooting": true})
	})
}

func (d *Device) happened(e device.Event) {
	f := d.fleet
	switch e.Kind {
	case device.Provisioned:
		f.provisioned.Add(1)
	case device.Connected:
		f.connects.Add(1)
		f.connected.Add(1)
	case device.Disconnected:
		f.disconnects.Add(1)
		f.connected.Add(-1)
	case device.Refused:
		f.refusals.Add(1)
	}
	if f.options.Event != nil {
		f.options.Event(d.ID, e)
	}
}

// desired takes up what back ends want: how often to report.
func (d *Device) desired(document []byte) {
	var wanted struct {
		ReportEvery float64 `json:"reportEvery"`
	}
	if json.Unmarshal(document, &wanted) == nil && wanted.ReportEvery >= 0.1 && wanted.ReportEvery <= 86400 {
		d.every.Store(int64(wanted.ReportEvery * float64(time.Second)))
	}
}

// run lives a device's life until ctx ends.
func (d *Device) run(ctx context.Context) {
	d.began = time.Now()
	var parts sync.WaitGroup
	defer parts.Wait()
	parts.Go(func() {
		if err := d.Client.Run(ctx); err != nil {
			d.fleet.options.Logger.Error("device failed", "device", d.ID, "error", err)
		}
	})
	if d.fleet.options.Quiet {
		return
	}
	parts.Go(func() { d.introduce(ctx) })
	parts.Go(func() {
		d.Client.Periodic(ctx, func() time.Duration { return time.Duration(d.every.Load()) }, d.send)
	})
}

// introduce reads the twin and reports what the device is, once it is
// connected, as firmware does after it has started.
func (d *Device) introduce(ctx context.Context) {
	for ctx.Err() == nil {
		twin, err := d.Client.Twin(ctx)
		if err != nil {
			continue
		}
		var document struct {
			Desired json.RawMessage `json:"desired"`
		}
		if json.Unmarshal(twin, &document) == nil {
			d.desired(document.Desired)
		}
		report := fmt.Sprintf(`{"firmware":{"version":"1.4.2"},"selfTest":"ok","startedAt":%q,"reportEvery":%g}`,
			d.began.UTC().Format(time.RFC3339), time.Duration(d.every.Load()).Seconds())
		if _, err := d.Client.Report(ctx, []byte(report)); err == nil {
			return
		}
	}
}

// reading is one message's body.
type reading struct {
	Temperature float64 `json:"temperature"` // °C
	Humidity    float64 `json:"humidity"`    // % relative
	Vibration   float64 `json:"vibration"`   // mm/s
	Battery     float64 `json:"battery"`     // %
	At          string  `json:"at"`
}

// reading measures: a daily swing of the device's own phase, slow drifts, and
// now and then a shock.
func (d *Device) reading(now time.Time) reading {
	d.mu.Lock()
	defer d.mu.Unlock()
	s := &d.sensor
	day := float64(now.Unix()%86400)/86400*2*math.Pi + s.base
	s.humidity = min(95, max(15, s.humidity+d.chance.NormFloat64()*0.4))
	s.battery = max(5, s.battery-0.002*d.chance.Float64())
	vibration := s.vibration * (0.8 + 0.4*d.chance.Float64())
	if d.chance.IntN(60) == 0 {
		vibration += 3 + 4*d.chance.Float64()
	}
	temperature := s.base + s.swing*math.Sin(day) + 0.6*math.Sin(float64(now.UnixMilli())/17000+s.base) + d.chance.NormFloat64()*0.15
	return reading{round(temperature), round(s.humidity), round(vibration), round(s.battery), now.UTC().Format(time.RFC3339Nano)}
}

func round(x float64) float64 { return math.Round(x*100) / 100 }

// shock is the vibration above which a message carries an alert.
const shock = 3

func (d *Device) send(ctx context.Context) {
	r := d.reading(time.Now())
	body, err := json.Marshal(r)
	if err != nil {
		return
	}
	m := device.Message{ContentType: "application/json", ContentEncoding: "utf-8", Body: body}
	if r.Vibration > shock {
		m.Properties = map[string]string{"alert": "vibration"}
	}
	if d.Client.Send(ctx, m) == nil {
		d.fleet.acked.Add(1)
	}
}
