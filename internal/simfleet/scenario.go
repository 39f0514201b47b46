package simfleet

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"net"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"
)

// Scenario is what befalls a fleet.
type Scenario struct {
	Name string
	Says string
	// Linked makes the connections of a device what they are in the field.
	link func(id string, nc net.Conn) net.Conn
	// refuses is the share of dials that fail.
	refuses float64
	// reconnects is after how long a connection breaks by itself, on average.
	reconnects time.Duration
	// clock is how far a device's clock is off.
	clock func(id string) time.Duration
	// at once: all devices start together.
	atOnce bool
	// run does what goes on meanwhile.
	run func(ctx context.Context, f *Fleet, length time.Duration)
}

// Scenarios are those there are, the first of which is a quiet day.
var Scenarios = []Scenario{
	{Name: "steady", Says: "devices connect one after another and send regularly"},
	{Name: "boot-storm", Says: "all devices start at once, and lose power together halfway", atOnce: true, run: blackout},
	{Name: "diurnal", Says: "a day in the time the run lasts: devices send eight times as often at noon as at midnight", run: day},
	{Name: "flaky-links", Says: "one dial in ten fails, and connections break after half a minute on average", refuses: 0.1, link: flaky},
	{Name: "restless", Says: "connections break after a minute on average, and more often where a release makes them", reconnects: time.Minute},
	{Name: "slow-links", Says: "each packet takes a third of a second, and a kilobyte another eighth", link: slow},
	{Name: "bad-clocks", Says: "one device in ten has a clock that is a day to years off", clock: badClock},
	{Name: "crash-loop", Says: "one device in five crashes every ten seconds, as after a bad firmware", run: crashLoop},
}

// ScenarioNames lists them.
func ScenarioNames() string {
	names := make([]string, len(Scenarios))
	for i, s := range Scenarios {
		names[i] = s.Name
	}
	return strings.Join(names, ", ")
}

// FindScenario finds one by name.
func FindScenario(name string) (Scenario, error) {
	i := slices.IndexFunc(Scenarios, func(s Scenario) bool { return s.Name == name })
	if i < 0 {
		return Scenario{}, fmt.Errorf("there is no scenario %q; there are %s", name, ScenarioNames())
	}
	return Scenarios[i], nil
}

// share is a device's own number in [0, 1), the same every time.
func share(id, of string) float64 {
	sum := sha256.Sum256([]byte(of + " " + id))
	return float64(binary.BigEndian.Uint64(sum[:8])>>11) / (1 << 53)
}

// blackout cuts everybody halfway.
func blackout(ctx context.Context, f *Fleet, length time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(length / 2):
		f.CutAll()
	}
}

// dayStep is how often a day's course is followed.
const dayStep = 200 * time.Millisecond

func day(ctx context.Context, f *Fleet, length time.Duration) {
	tick := time.NewTicker(dayStep)
	defer tick.Stop()
	for begin := time.Now(); ; {
		busy := math.Pow(8, 0.5-0.5*math.Cos(2*math.Pi*float64(time.Since(begin))/float64(length))) // 1 at midnight, 8 at noon
		for _, d := range f.devices {
			d.every.Store(int64(float64(f.options.ReportEvery) * 8 / busy))
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// crashEvery is how long a device with bad firmware lasts.
const crashEvery = 10 * time.Second

func crashLoop(ctx context.Context, f *Fleet, _ time.Duration) {
	var all sync.WaitGroup
	defer all.Wait()
	for _, d := range f.devices {
		if share(d.ID, "crash") >= 0.2 {
			continue
		}
		all.Go(func() {
			for {
				select {
				case <-ctx.Done():
					return
				case <-time.After(time.Duration(float64(crashEvery) * (0.5 + rand.Float64()))):
					d.booted.Store(time.Now().UnixNano())
					d.Client.Disconnect()
				}
			}
		})
	}
}

func badClock(id string) time.Duration {
	if share(id, "clock") >= 0.1 {
		return 0
	}
	off := 24 * time.Hour * time.Duration(1+int(share(id, "days")*3650))
	if share(id, "sign") < 0.5 {
		return -off
	}
	return off
}

// flaky breaks a connection by and by.
func flaky(_ string, nc net.Conn) net.Conn {
	time.AfterFunc(time.Duration(rand.ExpFloat64()*float64(30*time.Second)), func() {
		_ = nc.Close() // it may have ended already
	})
	return nc
}

func slow(_ string, nc net.Conn) net.Conn { return slowConn{nc} }

// slowConn is a connection by radio, far out.
type slowConn struct{ net.Conn }

// Write takes its time.
func (c slowConn) Write(b []byte) (int, error) {
	time.Sleep(330*time.Millisecond + time.Duration(len(b))*125*time.Microsecond)
	return c.Conn.Write(b)
}

// fromOwnAddress dials as one device of many on this machine. An address has
// ports for some ten thousand connections to a server; on loopback there are
// addresses for everybody.
func fromOwnAddress(id string) dialer {
	d := net.Dialer{Timeout: 10 * time.Second}
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		host, _, err := net.SplitHostPort(address)
		if ip := net.ParseIP(host); err == nil && ip != nil && ip.IsLoopback() && ip.To4() != nil && runtime.GOOS == "linux" {
			own := d
			own.LocalAddr = &net.TCPAddr{IP: net.IPv4(127, 100, byte(share(id, "subnet")*250), 1)}
			return own.DialContext(ctx, network, address)
		}
		return d.DialContext(ctx, network, address)
	}
}

// dialer opens connections.
type dialer = func(ctx context.Context, network, address string) (net.Conn, error)

// dial opens a device's connection as the scenario has it.
func (s Scenario) dial(id string, dial dialer) dialer {
	if dial == nil {
		dial = fromOwnAddress(id)
	}
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		if s.refuses > 0 && rand.Float64() < s.refuses {
			return nil, fmt.Errorf("dial %s: no signal", address)
		}
		nc, err := dial(ctx, network, address)
		if err != nil || s.link == nil {
			return nc, err
		}
		return s.link(id, nc), nil
	}
}

// Moment is a fleet at one second of a run.
type Moment struct {
	Second    float64 `json:"second"`
	Connected int64   `json:"connected"`
	Acked     float64 `json:"ackedPerSecond"`
	Refused   float64 `json:"refusedPerSecond"`
	Connects  float64 `json:"connectsPerSecond"`
}

// Report is what became of a run.
type Report struct {
	Scenario    string   `json:"scenario"`
	Devices     int      `json:"devices"`
	Seconds     float64  `json:"seconds"`
	Provisioned int64    `json:"provisioned"`
	Connected   int64    `json:"connected"` // at the end
	Most        int64    `json:"mostConnected"`
	Connects    int64    `json:"connects"`
	Disconnects int64    `json:"disconnects"`
	Refusals    int64    `json:"refusals"`
	Sent        int64    `json:"sent"`
	Acked       int64    `json:"acked"`
	Dropped     int64    `json:"dropped"`
	Errors      int64    `json:"errors"`
	ReturnP50   float64  `json:"returnP50Seconds,omitempty"` // after the blackout, where there was one
	ReturnP99   float64  `json:"returnP99Seconds,omitempty"`
	Course      []Moment `json:"course"`
}

// Simulate runs a fleet through a scenario for a time and reports. Each second
// watch is shown the moment.
func Simulate(ctx context.Context, o Options, s Scenario, length time.Duration, watch func(Moment, Stats)) (Report, error) {
	o.scenario = s
	if s.atOnce {
		o.StartRate = 1e6
	}
	f, err := New(o)
	if err != nil {
		return Report{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, length)
	defer cancel()
	var running sync.WaitGroup
	failed := make(chan error, 1)
	running.Go(func() { failed <- f.Run(ctx) })
	if s.run != nil {
		running.Go(func() { s.run(ctx, f, length) })
	}
	r := f.follow(ctx, watch)
	running.Wait()
	r.Scenario = s.Name
	return r, <-failed
}

// follow looks at the fleet each second until ctx ends.
func (f *Fleet) follow(ctx context.Context, watch func(Moment, Stats)) Report {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	begin, before, at := time.Now(), f.Stats(), time.Now()
	r := Report{Devices: len(f.devices), Course: []Moment{}}
	for {
		select {
		case <-ctx.Done():
		case <-tick.C:
		}
		last := ctx.Err() != nil // also where both were so
		now := f.Stats()
		passed := time.Since(at).Seconds()
		m := Moment{
			Second: time.Since(begin).Seconds(), Connected: now.Connected, Acked: float64(now.Acked-before.Acked) / passed,
			Refused: float64(now.Refusals-before.Refusals) / passed, Connects: float64(now.Connects-before.Connects) / passed,
		}
		if last { // who is still connected is leaving already
			return f.conclude(r, now, m.Second)
		}
		r.Course, r.Most, r.Connected = append(r.Course, m), max(r.Most, now.Connected), now.Connected
		watch(m, now)
		before, at = now, time.Now()
	}
}

func (f *Fleet) conclude(r Report, s Stats, seconds float64) Report {
	r.Seconds, r.Provisioned, r.Connects, r.Disconnects, r.Refusals = seconds, s.Provisioned, s.Connects, s.Disconnects, s.Refusals
	r.Sent, r.Acked, r.Dropped, r.Errors = s.Sent, s.Acked, s.Dropped, s.Errors
	if returns := f.Returns(); len(returns) > 0 {
		slices.Sort(returns)
		r.ReturnP50, r.ReturnP99 = returns[len(returns)/2].Seconds(), returns[len(returns)*99/100].Seconds()
	}
	return r
}
