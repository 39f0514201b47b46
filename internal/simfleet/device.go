package simfleet

import (
	"context"
	"encoding/json"
	"sync"
	"sync/atomic"
	"time"

	"github.com/slipway/slipway/device"
	"github.com/slipway/slipway/device/retry"
	"github.com/slipway/slipway/device/update"
)

// Device is one simulated device.
type Device struct {
	ID       string
	Hardware string
	Client   *device.Client

	fleet       *Fleet
	every       atomic.Int64 // ns between messages
	booted      atomic.Int64 // ns since 1970
	provisioned atomic.Int64
	sync        chan struct{} // a connection is new: read and report
	reboot      chan struct{}
	ordered     chan struct{}
	update      updating // of the goroutine that obeys alone

	mu      sync.Mutex
	sensor  *sensor
	offered update.Order // the newest
}

func (f *Fleet) newDevice(id string) (*Device, error) {
	o := f.options
	dial, clock := o.scenario.dial(id, o.Dial), time.Now
	if o.scenario.clock != nil {
		off := o.scenario.clock(id)
		clock = func() time.Time { return time.Now().Add(off) }
	}
	var known device.Store
	if o.Store != nil {
		known = o.Store(id)
	}
	client, err := device.New(device.Config{
		Store:        known,
		Clock:        clock,
		Provisioning: o.Provisioning, IDScope: o.IDScope, RegistrationID: id, Key: device.DeriveKey(o.GroupKey, id), Queue: offline,
		CA: o.CA, HTTPSPort: o.HTTPSPort, Policy: o.Policy, Logger: o.Logger, Dial: dial, ModelID: "dtmi:slipway:demo:sensor;1",
	})
	if err != nil {
		return nil, err
	}
	d := &Device{
		ID: id, Hardware: o.Hardware[int(share(id, "hardware")*float64(len(o.Hardware)))], Client: client, fleet: f, sensor: newSensor(retry.Seed(id, 7)),
		sync: make(chan struct{}, 1), reboot: make(chan struct{}, 1), ordered: make(chan struct{}, 1),
		update: updating{running: map[string]string{"firmware": o.Firmware}},
	}
	d.every.Store(int64(o.ReportEvery))
	client.OnEvent(d.happened)
	client.OnDesired(func(_ int64, patch []byte) { d.desired(patch) })
	client.OnMessage(func(m device.Message) {
		f.messages.Add(1)
		o.Logger.Info("message from the cloud", "device", id, "messageId", m.ID, "bytes", len(m.Body))
	})
	client.OnMethod("identify", d.method(func() (int, any) {
		return 200, map[string]any{"deviceId": d.ID, "blinking": true}
	}))
	client.OnMethod("selfTest", d.method(func() (int, any) {
		return 200, map[string]any{"selfTest": "ok", "batteryPercent": d.measure(time.Now()).Battery}
	}))
	client.OnMethod("reboot", d.method(func() (int, any) {
		signal(d.reboot)
		return 202, map[string]any{"rebooting": true}
	}))
	return d, nil
}

// method counts a method's calls and writes its answer.
func (d *Device) method(do func() (status int, answer any)) device.MethodHandler {
	return func(context.Context, []byte) (int, []byte) {
		d.fleet.methods.Add(1)
		status, answer := do()
		text, err := json.Marshal(answer)
		if err != nil {
			d.failed("answer a method", err)
			return 500, nil
		}
		return status, text
	}
}

func signal(to chan struct{}) {
	select {
	case to <- struct{}{}:
	default:
	}
}

func (d *Device) failed(to string, err error) {
	d.fleet.failures.Add(1)
	d.fleet.options.Logger.Warn("a simulated device failed", "device", d.ID, "to", to, "error", err)
}

func (d *Device) happened(e device.Event) {
	f := d.fleet
	switch e.Kind {
	case device.Provisioned:
		f.provisioned.Add(1)
		if d.provisioned.Add(1) > 1 {
			f.reprovisioned.Add(1)
		}
	case device.Connected:
		f.connects.Add(1)
		f.connected.Add(1)
		f.returned()
		signal(d.sync)
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

// run lives a device's life until ctx ends.
func (d *Device) run(ctx context.Context) {
	d.booted.Store(time.Now().UnixNano())
	var parts sync.WaitGroup
	defer parts.Wait()
	parts.Go(func() {
		if err := d.Client.Run(ctx); err != nil {
			d.failed("run", err)
		}
	})
	parts.Go(func() { d.obey(ctx) })
	if d.fleet.options.Quiet {
		return
	}
	parts.Go(func() {
		d.Client.Periodic(ctx, func() time.Duration { return time.Duration(d.every.Load()) }, func(context.Context) { d.send() })
	})
}

// obey does what takes longer than a handler should.
func (d *Device) obey(ctx context.Context) {
	d.plan()
	for {
		select {
		case <-ctx.Done():
			return
		case <-d.ordered:
			d.take(ctx)
		case <-d.update.step:
			d.advance(ctx)
		case <-d.update.breaks:
			d.Client.Disconnect()
			d.plan()
		case <-d.sync:
			if !d.fleet.options.Quiet {
				d.introduce(ctx)
			}
		case <-d.reboot:
			d.restart(ctx)
		}
	}
}

// down is how long a device says goodbye before it reboots, so that the answer
// to the method leaves before the connection goes.
const down = 200 * time.Millisecond

func (d *Device) restart(ctx context.Context) {
	select {
	case <-ctx.Done():
		return
	case <-time.After(down):
	}
	d.booted.Store(time.Now().UnixNano())
	d.Client.Disconnect()
}

// report is what a device says about itself.
type report struct {
	Firmware struct {
		Version string `json:"version"`
	} `json:"firmware"`
	SelfTest    string  `json:"selfTest"`
	StartedAt   string  `json:"startedAt"`
	Uptime      float64 `json:"uptime"`      // seconds
	ReportEvery float64 `json:"reportEvery"` // seconds

	Slipway any `json:"slipway"` // how it stands with updates
}

// introduce reads what is desired, which may have changed meanwhile or be
// another environment's, and reports what the device is, as firmware does when
// it has connected. The SDK alone tries again; what fails is left to the next
// connection.
func (d *Device) introduce(ctx context.Context) {
	twin, err := d.Client.Twin(ctx)
	if err != nil {
		d.unless(ctx, "read its twin", err)
		return
	}
	var document struct {
		Desired json.RawMessage `json:"desired"`
	}
	if err := json.Unmarshal(twin, &document); err != nil {
		d.failed("read its twin", err)
		return
	}
	d.desired(document.Desired)
	booted := time.Unix(0, d.booted.Load()).UTC()
	r := report{SelfTest: "ok", StartedAt: booted.Format(time.RFC3339), Uptime: time.Since(booted).Round(time.Second).Seconds(), ReportEvery: time.Duration(d.every.Load()).Seconds()}
	r.Firmware.Version, r.Slipway = d.update.running["firmware"], d.standing().Patch()[update.Property]
	text, err := json.Marshal(r)
	if err == nil {
		_, err = d.Client.Report(ctx, text)
	}
	d.unless(ctx, "report", err)
}

// unless notes an error that is not the fleet's end.
func (d *Device) unless(ctx context.Context, to string, err error) {
	if err != nil && ctx.Err() == nil {
		d.failed(to, err)
	}
}

// desired takes up what back ends want: how often to report, and what to run.
func (d *Device) desired(document []byte) {
	var wanted struct {
		ReportEvery float64         `json:"reportEvery"` // seconds
		Slipway     json.RawMessage `json:"slipway"`
	}
	if json.Unmarshal(document, &wanted) != nil {
		return
	}
	if wanted.ReportEvery >= 0.1 && wanted.ReportEvery <= 86400 {
		d.every.Store(int64(wanted.ReportEvery * float64(time.Second)))
	}
	if len(wanted.Slipway) > 0 {
		d.offer(wanted.Slipway)
	}
}

func (d *Device) measure(now time.Time) reading {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.sensor.measure(now)
}

func (d *Device) send() {
	r := d.measure(time.Now())
	body, err := json.Marshal(r)
	if err != nil {
		d.failed("measure", err)
		return
	}
	m := device.Message{ContentType: "application/json", ContentEncoding: "utf-8", Body: body}
	if r.alarming() {
		d.fleet.alerts.Add(1)
		m.Properties = map[string]string{"alert": "true"}
	}
	if err := d.Client.Enqueue(m); err != nil {
		d.failed("send", err)
		return
	}
	d.fleet.sent.Add(1)
}
