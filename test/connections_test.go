package test

import (
	"bufio"
	"context"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/slipway/slipway/device"
	"github.com/slipway/slipway/internal/bus/bustest"
	"github.com/slipway/slipway/internal/sastoken"
	"github.com/slipway/slipway/internal/simfleet"
	"github.com/slipway/slipway/internal/sqldb/sqldbtest"
)

// assembly is what a process of devices is told: a process has descriptors for
// some twenty thousand connections only.
type assembly struct {
	Provisioning, IDScope, CA, Pattern string
	Devices                            int
	StartRate                          float64
	// Host is what devices know as their hub, and At where the stamp's processes
	// are: each device goes to another one in turn, as through a balancer.
	Host string
	At   []string
}

// store is that of a device which knows its hub from before it was switched off.
func (c assembly) store(id string) device.Store {
	known := &device.MemoryStore{}
	text, err := json.Marshal(map[string]any{"assignment": device.Assignment{Hub: c.Host, DeviceID: id}})
	if err == nil {
		err = known.Save(text)
	}
	if err != nil {
		panic(err) // a string and memory
	}
	return known
}

const crowdVariable = "SLIPWAY_TEST_CROWD"

// gather runs a crowd until it is interrupted, and prints how it fares each
// second as JSON.
func gather(ctx context.Context, text string) error {
	var c assembly
	if err := json.Unmarshal([]byte(text), &c); err != nil {
		return err
	}
	pem, err := os.ReadFile(c.CA)
	if err != nil {
		return err
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(pem)
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGTERM)
	defer stop()
	var turn atomic.Uint32
	var dialer net.Dialer
	fleet, err := simfleet.New(simfleet.Options{
		Devices: c.Devices, Pattern: c.Pattern, Provisioning: c.Provisioning, IDScope: c.IDScope, GroupKey: groupKey, CA: pool, StartRate: c.StartRate, Quiet: true, Store: c.store,
		Dial: func(ctx context.Context, network, address string) (net.Conn, error) {
			if address == c.Host {
				address = c.At[int(turn.Add(1))%len(c.At)]
			}
			return dialer.DialContext(ctx, network, address)
		},
	})
	if err != nil {
		return err
	}
	go func() {
		tick := time.NewTicker(time.Second)
		defer tick.Stop()
		for range tick.C {
			if err := json.NewEncoder(os.Stdout).Encode(fleet.Stats()); err != nil {
				stop()
			}
		}
	}()
	return fleet.Run(ctx)
}

// crowdProcess is a process of devices, and how it fares.
type crowdProcess struct {
	command *exec.Cmd
	stats   atomic.Pointer[simfleet.Stats]
}

func startCrowd(t *testing.T, c assembly) *crowdProcess {
	t.Helper()
	text, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	p := &crowdProcess{command: exec.Command(os.Args[0])}
	p.command.Env = append(os.Environ(), crowdVariable+"="+string(text))
	p.command.Stderr = os.Stderr
	out, err := p.command.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.command.Start(); err != nil {
		t.Fatal(err)
	}
	p.stats.Store(&simfleet.Stats{})
	go func() {
		for lines := bufio.NewScanner(out); lines.Scan(); {
			var s simfleet.Stats
			if json.Unmarshal(lines.Bytes(), &s) == nil {
				p.stats.Store(&s)
			}
		}
	}()
	t.Cleanup(func() {
		if err := p.command.Process.Kill(); err != nil {
			t.Error(err)
		}
		_ = p.command.Wait() // it was killed, which is what it says
	})
	return p
}

// The size of the crowd: SLIPWAY_CONNECTIONS asks for another one. A process of
// the stamp has descriptors for fewer than twenty thousand connections.
const (
	usualCrowd      = 400
	perStampProcess = 17_000
	perCrowdProcess = 15_000
	crowdRate       = 500 // devices started each second
)

// TestManyConnectionsComeBack connects many devices, which a back end made and
// which know their hub, to one stamp of several processes, prints what a connection costs, kills all processes at once, and
// prints how long the devices take to come back.
func TestManyConnectionsComeBack(t *testing.T) {
	t.Parallel()
	devices := usualCrowd
	if text := os.Getenv("SLIPWAY_CONNECTIONS"); text != "" {
		var err error
		if devices, err = strconv.Atoi(text); err != nil {
			t.Fatal(err)
		}
	}
	g := startTogetherBeside(t, sqldbtest.Start(t), "", bustest.Start(t, 3), max(2, (devices+perStampProcess-1)/perStampProcess))
	before := g.resident(t)
	c := assembly{Provisioning: g.provisioningAddress(), IDScope: g.ready.Provisioning.IDScope, CA: g.ready.CA, Host: fmt.Sprint(g.stamp("test-1").Host, ":", stampMQTTS), At: g.mqtts}
	var crowds []*crowdProcess
	processes := (devices + perCrowdProcess - 1) / perCrowdProcess
	for i := range processes {
		c.Pattern, c.Devices, c.StartRate = fmt.Sprintf("crowd-%d-%%05d", i), devices/processes, crowdRate/float64(processes)
		g.make(t, c)
		crowds = append(crowds, startCrowd(t, c))
	}
	devices = devices / processes * processes
	sum := func(of func(simfleet.Stats) int64) (n int64) {
		for _, one := range crowds {
			n += of(*one.stats.Load())
		}
		return n
	}
	connected := func(s simfleet.Stats) int64 { return s.Connected }
	patience := time.Minute + time.Duration(devices/100)*time.Second
	begin := time.Now()
	eventually(t, "everybody is connected", patience, func() bool { return sum(connected) == int64(devices) })
	took := time.Since(begin)
	t.Logf("%d devices connected over TLS within %s; %d processes of the stamp take %d bytes a connection", devices, took.Round(time.Millisecond), len(g.names), (g.resident(t)-before)/devices)
	for _, name := range g.names {
		g.parts[name].kill(t)
	}
	connects := sum(func(s simfleet.Stats) int64 { return s.Connects })
	begin = time.Now()
	for _, name := range g.names {
		g.again(name)
	}
	up := time.Now()
	var half, most time.Duration
	eventually(t, "99 of 100 are back", patience, func() bool {
		back := sum(func(s simfleet.Stats) int64 { return s.Connects }) - connects
		if half == 0 && back >= int64(devices/2) {
			half = time.Since(begin)
		}
		most = time.Since(begin)
		return back >= int64(devices)*99/100 && sum(connected) >= int64(devices)*99/100
	})
	t.Logf("all processes killed: they serve again after %s; half of the devices are back after %s, 99 of 100 after %s (%d processors for both sides)",
		up.Sub(begin).Round(time.Millisecond), half.Round(time.Millisecond), most.Round(time.Millisecond), runtime.NumCPU())
}

// make has a back end make the devices of an assembly, a hundred at a time.
func (g *together) make(t *testing.T, c assembly) {
	t.Helper()
	s := g.stamp("test-1")
	key, err := base64.StdEncoding.DecodeString(g.policy("test-1", "iothubowner").PrimaryKey)
	if err != nil {
		t.Fatal(err)
	}
	token := sastoken.Sign(key, url.QueryEscape(s.Host), time.Now().Add(time.Hour), "iothubowner")
	hub := g.hubHTTP(s)
	for first := 1; first <= c.Devices; first += 100 {
		var hundred []map[string]any
		for i := first; i < min(first+100, c.Devices+1); i++ {
			id := fmt.Sprintf(c.Pattern, i)
			key := base64.StdEncoding.EncodeToString(device.DeriveKey(groupKey, id))
			hundred = append(hundred, map[string]any{"id": id, "importMode": "create", "authentication": map[string]any{"type": "sas", "symmetricKey": map[string]any{"primaryKey": key, "secondaryKey": key}}})
		}
		body, err := json.Marshal(hundred)
		if err != nil {
			t.Fatal(err)
		}
		if code, _, text := hub.do("POST", "/devices?api-version=2021-04-12", token, nil, string(body)); code != 200 || !strings.Contains(text, `"isSuccessful":true`) {
			t.Fatalf("devices from %d on are not made: %d %s", first, code, text)
		}
	}
}

// resident is the memory that the stamp's processes take, in bytes.
func (g *together) resident(t *testing.T) (sum int) {
	t.Helper()
	for _, name := range g.names {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", g.parts[name].command.Process.Pid))
		if err != nil {
			t.Fatal(err)
		}
		var size, resident int
		if _, err := fmt.Sscan(string(text), &size, &resident); err != nil {
			t.Fatal(err)
		}
		sum += resident * os.Getpagesize()
	}
	return sum
}
