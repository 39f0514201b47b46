// Package probe tries every open stamp as a device would, again and again: its
// probe registers, is assigned, connects, says something, changes its twin, has it
// changed, and answers a method. What comes of it is counted. A probe is nobody's
// device: it has a name that nobody else may have, takes no place, is in no
// census, gets no release, and what it says goes to nobody.
package probe

import (
	"context"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"github.com/slipway/slipway/device"
	"github.com/slipway/slipway/internal/bus"
	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/metrics"
	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/resource"
	"github.com/slipway/slipway/internal/tasks"
)

// Config says how often stamps are tried, and how probes find provisioning.
type Config struct {
	Every        time.Duration  // 0 is never
	Provisioning string         // where devices register, host:port
	CA           *x509.CertPool // whom probes trust; nil is the system's
}

// The bounds of how often a stamp is tried.
const (
	MinEvery = 10 * time.Second
	MaxEvery = time.Hour
)

// Check refuses a configuration that makes no sense.
func (c Config) Check(field string) error {
	if c.Every != 0 && (c.Every < MinEvery || c.Every > MaxEvery) {
		return problem.New(problem.Invalid, "stamps are tried every %s to %s, or never (0), not every %s", MinEvery, MaxEvery, c.Every).At(field)
	}
	return nil
}

// Options are what probes are built from.
type Options struct {
	Config
	Conn     *bus.Conn
	Stamps   func(context.Context) ([]resource.Stamp, error)
	Registry *metrics.Registry
	Logger   *slog.Logger
}

// Probes are those of all stamps.
type Probes struct {
	Options
	runs    *prometheus.CounterVec
	seconds *prometheus.HistogramVec
	last    *prometheus.GaugeVec
	failing map[string]bool // by stamp
}

// New returns probes that try nothing before Run.
func New(o Options) *Probes {
	auto := promauto.With(o.Registry)
	labels := []string{"environment", "stamp"}
	return &Probes{
		Options: o, failing: map[string]bool{},
		runs:    auto.NewCounterVec(prometheus.CounterOpts{Name: "slipway_probe_runs_total", Help: "How often a stamp was tried as by a device, by the step at which that ended and how it went."}, append(labels, "step", "result")),
		seconds: auto.NewHistogramVec(prometheus.HistogramOpts{Name: "slipway_probe_seconds", Help: "How long the steps of a probe took.", Buckets: metrics.Seconds}, append(labels, "step")),
		last:    auto.NewGaugeVec(prometheus.GaugeOpts{Name: "slipway_probe_success_timestamp_seconds", Help: "When a probe last went well, as seconds since 1970."}, labels),
	}
}

// Run tries each open stamp again and again, until ctx ends. The first time comes
// after one interval, when everything has started.
func (p *Probes) Run(ctx context.Context) error {
	if p.Every <= 0 || p.Provisioning == "" {
		<-ctx.Done()
		return nil
	}
	return tasks.Every(ctx, p.Every, func() {
		if err := p.all(ctx); err != nil && ctx.Err() == nil {
			p.Logger.Warn("stamps could not be tried", "error", err)
		}
	})
}

func (p *Probes) all(ctx context.Context) error {
	stamps, err := p.Stamps(ctx)
	if err != nil {
		return err
	}
	for _, s := range stamps {
		if s.Status == nil || s.Spec.State != link.StampOpen || ctx.Err() != nil {
			continue
		}
		p.count(ctx, s)
	}
	return nil
}

// count tries a stamp and counts what came of it. What begins to fail is said
// once, and that it goes well again.
func (p *Probes) count(ctx context.Context, s resource.Stamp) {
	name, environment := s.Metadata.Name, s.Spec.Environment
	step, err := p.try(ctx, name, environment)
	if ctx.Err() != nil {
		return // the process ends; that is no failure
	}
	p.runs.WithLabelValues(environment, name, step, metrics.Result(err)).Inc()
	if err == nil {
		p.last.WithLabelValues(environment, name).SetToCurrentTime()
	}
	switch {
	case err != nil && !p.failing[name]:
		p.Logger.Warn("a probe fails", "stamp", name, "environment", environment, "step", step, "error", err)
	case err == nil && p.failing[name]:
		p.Logger.Info("a probe goes well again", "stamp", name, "environment", environment)
	}
	p.failing[name] = err != nil
}

// The steps of a probe, in order.
const (
	enrol     = "enrol"
	connect   = "connect"
	telemetry = "telemetry"
	report    = "report"
	desire    = "desire"
	method    = "method"
	done      = "done"
)

// within bounds one try.
const within = 30 * time.Second

// try takes a stamp's probe through its steps, and says at which it ended.
func (p *Probes) try(ctx context.Context, stamp, environment string) (step string, err error) {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	probe, err := p.device(ctx, stamp, environment)
	if err != nil {
		return enrol, err
	}
	running, stop := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- probe.client.Run(running) }()
	defer func() {
		stop()
		err = errors.Join(err, <-ended)
	}()
	for _, one := range []struct {
		name string
		do   func(context.Context) error
	}{{connect, probe.connects}, {telemetry, probe.says}, {report, probe.reports}, {desire, probe.isDesired}, {method, probe.answers}} {
		began := time.Now()
		if err := one.do(ctx); err != nil {
			return one.name, err
		}
		p.seconds.WithLabelValues(environment, stamp, one.name).Observe(time.Since(began).Seconds())
	}
	return done, nil
}

// device is a stamp's probe, ready to run.
func (p *Probes) device(ctx context.Context, stamp, environment string) (*probe, error) {
	key, err := p.key(ctx, stamp, environment)
	if err != nil {
		return nil, err
	}
	scope, err := bus.Ask(ctx, p.Conn, link.ProvisioningPeer, link.ProvisioningInfo, link.None{})
	if err != nil {
		return nil, err
	}
	one := &probe{stamp: stamp, word: rand.Text(), conn: p.Conn, connected: make(chan struct{}, 1), refused: make(chan error, 1), desired: make(chan struct{}, 1)}
	one.client, err = device.New(device.Config{Provisioning: p.Provisioning, IDScope: scope.IDScope, RegistrationID: link.Probe(stamp), Key: key, CA: p.CA})
	if err != nil {
		return nil, err
	}
	one.listen()
	return one, nil
}

// key is what a stamp's probe proves itself with; its enrolment is made, or made
// again, where it is not as it should be.
func (p *Probes) key(ctx context.Context, stamp, environment string) ([]byte, error) {
	id := link.Probe(stamp)
	found, err := bus.Ask(ctx, p.Conn, link.ProvisioningPeer, link.EnrollmentGet, link.EnrollmentRef{Kind: link.Individual, Name: id})
	if problem.Is(err, problem.NotFound) || err == nil && found.Spec.Environment != environment {
		found, err = bus.Ask(ctx, p.Conn, link.ProvisioningPeer, link.EnrollmentPut, link.PutEnrollment{Kind: link.Individual, Name: id, Spec: link.EnrollmentSpec{
			Environment: environment, Attestation: link.Attestation{SymmetricKey: &link.SymmetricKey{}}, Allocation: &link.Allocation{Policy: link.AllocateStatic, Stamps: []string{stamp}},
		}})
	}
	if err != nil {
		return nil, err
	}
	if found.Spec.Attestation.SymmetricKey == nil {
		return nil, problem.New(problem.Conflict, "the enrolment %s has no symmetric key; delete it, and it is made again", id)
	}
	return base64.StdEncoding.DecodeString(found.Spec.Attestation.SymmetricKey.PrimaryKey)
}

// probe is one device that tries its stamp once.
type probe struct {
	stamp, word string // word is of this try alone
	client      *device.Client
	conn        *bus.Conn
	connected   chan struct{}
	refused     chan error
	desired     chan struct{}
}

func (d *probe) listen() {
	d.client.OnEvent(func(e device.Event) {
		switch e.Kind {
		case device.Connected:
			signal(d.connected)
		case device.Refused, device.Disconnected:
			select {
			case d.refused <- e.Err:
			default:
			}
		}
	})
	d.client.OnDesired(func(_ int64, patch []byte) {
		var said struct{ Probe string }
		if json.Unmarshal(patch, &said) == nil && said.Probe == d.word {
			signal(d.desired)
		}
	})
	d.client.OnMethod("probe", func(_ context.Context, payload []byte) (int, []byte) { return 200, payload })
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// connects waits until the probe is registered, assigned and let in. A device
// tries again after a refusal; that it had to is no failure unless time runs out.
func (d *probe) connects(ctx context.Context) error {
	select {
	case <-d.connected:
		return nil
	case <-ctx.Done():
		select {
		case err := <-d.refused:
			return problem.New(problem.TimedOut, "it was not let in: %w", err)
		default:
			return problem.New(problem.TimedOut, "it was not let in within %s", within)
		}
	}
}

func (d *probe) says(ctx context.Context) error {
	return d.client.Send(ctx, device.Message{Body: []byte(`{"probe":"` + d.word + `"}`), ContentType: "application/json"})
}

// reports changes the twin from below and reads it back.
func (d *probe) reports(ctx context.Context) error {
	if _, err := d.client.Report(ctx, []byte(`{"probe":"`+d.word+`"}`)); err != nil {
		return err
	}
	text, err := d.client.Twin(ctx)
	if err != nil {
		return err
	}
	var twin struct{ Reported struct{ Probe string } }
	if err := json.Unmarshal(text, &twin); err != nil || twin.Reported.Probe != d.word {
		return problem.New(problem.Internal, "the twin does not hold what was reported")
	}
	return nil
}

// isDesired changes the twin from above and waits until the probe knows.
func (d *probe) isDesired(ctx context.Context) error {
	patch := link.PatchTwin{DeviceID: link.Probe(d.stamp), Patch: json.RawMessage(fmt.Sprintf(`{"properties":{"desired":{"probe":%q}}}`, d.word))}
	if _, err := bus.Ask(ctx, d.conn, link.StampPeer(d.stamp), link.TwinPatch, patch); err != nil {
		return err
	}
	select {
	case <-d.desired:
		return nil
	case <-ctx.Done():
		return problem.New(problem.TimedOut, "it was not told what is desired of it")
	}
}

// answers has the probe answer a method.
func (d *probe) answers(ctx context.Context) error {
	said, err := bus.Ask(ctx, d.conn, link.StampPeer(d.stamp), link.MethodInvoke, link.InvokeMethod{
		DeviceID: link.Probe(d.stamp), Method: "probe", Payload: json.RawMessage(fmt.Sprintf("%q", d.word)), ResponseTimeout: 10 * time.Second,
	})
	if err != nil {
		return err
	}
	var word string
	if err := json.Unmarshal(said.Payload, &word); err != nil || said.Status != 200 || word != d.word {
		return problem.New(problem.Internal, "the method was answered with %d and something else than was asked", said.Status)
	}
	return nil
}
