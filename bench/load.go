package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/slipway/slipway/device"
	"github.com/slipway/slipway/internal/mqtt"
	"github.com/slipway/slipway/internal/sastoken"
	"github.com/slipway/slipway/internal/up"
)

// target is the server under load.
type target struct {
	pid   int
	ready up.Ready
	pool  *x509.CertPool
}

func newTarget(pid int, ready up.Ready) (*target, error) {
	pem, err := os.ReadFile(ready.CA)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(pem)
	return &target{pid, ready, pool}, nil
}

// conn is one client of the load.
type conn struct {
	*mqtt.ClientConn
	id string
}

func dial(pool *x509.CertPool, host string, port int, connect *mqtt.Connect) (*mqtt.ClientConn, error) {
	nc, err := tls.Dial("tcp", net.JoinHostPort(host, strconv.Itoa(port)), &tls.Config{RootCAs: pool, ServerName: host, MinVersion: tls.VersionTLS13})
	if err != nil {
		return nil, err
	}
	c := mqtt.NewClientConn(nc, 1<<20)
	connect.ProtocolName, connect.ProtocolLevel, connect.CleanSession, connect.KeepAlive = "MQTT", 4, true, 600
	connect.HasUsername, connect.HasPassword = connect.Username != "", len(connect.Password) > 0
	connack, err := c.Connect(context.Background(), connect)
	if err != nil {
		return nil, err
	}
	if connack.Code != mqtt.Accepted {
		return nil, fmt.Errorf("refused: %s", connack.Code)
	}
	return c, nil
}

// atOnce is how many connections are being made at a time.
const atOnce = 64

// each does something for the devices first … first+n-1 and returns its rate.
func (t *target) each(first, n int, do func(i int) error) (result, error) {
	cpu, began := cpuOf(t.pid), time.Now()
	var group errgroup.Group
	group.SetLimit(atOnce)
	for i := range n {
		group.Go(func() error { return do(first + i) })
	}
	err := group.Wait()
	took := time.Since(began)
	return result{rate: float64(n) / took.Seconds(), cpu: (cpuOf(t.pid) - cpu) / time.Duration(n)}, err
}

func deviceID(i int) string { return fmt.Sprintf("bench-%06d", i) }

func token(resource string, key []byte, policy string) []byte {
	return []byte(sastoken.Sign(key, url.QueryEscape(resource), time.Now().Add(time.Hour), policy))
}

// register registers devices over MQTT, each on a connection of its own.
func (t *target) register(n int) (result, error) {
	p := t.ready.Provisioning
	r, err := t.each(0, n, func(i int) error {
		id := deviceID(i)
		resource := p.IDScope + "/registrations/" + id
		c, err := dial(t.pool, p.Host, p.MQTTS, &mqtt.Connect{ClientID: id, Username: resource + "/api-version=2019-03-31", Password: token(resource, device.DeriveKey(groupKey, id), "registration")})
		if err != nil {
			return err
		}
		defer c.Close()
		if err := c.Write(&mqtt.Subscribe{PacketID: 1, Filters: []mqtt.Filter{{Topic: "$dps/registrations/res/#"}}},
			&mqtt.Publish{Topic: "$dps/registrations/PUT/iotdps-register/?$rid=1"}); err != nil {
			return err
		}
		for {
			packet, err := c.Next()
			if _, answered := packet.(*mqtt.Publish); err != nil || answered {
				return err
			}
		}
	})
	return r, err
}

// connectAll connects devices to the Test stamp.
func (t *target) connectAll(first, n int) ([]conn, result, error) {
	hub := t.ready.Stamps[slices.IndexFunc(t.ready.Stamps, func(s up.ReadyStamp) bool { return s.Environment == "test" })]
	var mu sync.Mutex
	var all []conn
	r, err := t.each(first, n, func(i int) error {
		id := deviceID(i)
		c, err := t.connect(hub, id)
		if err != nil {
			return err
		}
		mu.Lock()
		defer mu.Unlock()
		all = append(all, conn{c, id})
		return nil
	})
	return all, r, err
}

// connect connects a device to its stamp.
func (t *target) connect(hub up.ReadyStamp, id string) (*mqtt.ClientConn, error) {
	return dial(t.pool, hub.Host, hub.MQTTS, &mqtt.Connect{
		ClientID: id, Username: hub.Host + "/" + id + "/?api-version=2021-04-12", Password: token(hub.Host+"/devices/"+id, device.DeriveKey(groupKey, id), ""),
	})
}

func closeAll(conns []conn) {
	for _, c := range conns {
		c.Close()
	}
}

// loadKind makes the topics and bodies of a load.
type loadKind struct {
	prepare func(c conn) error
	topic   func(c conn) string
	body    func(n int) []byte
}

var telemetryLoad = loadKind{
	prepare: func(conn) error { return nil },
	topic:   func(c conn) string { return "devices/" + c.id + "/messages/events/" },
	body:    func(int) []byte { return message[:] },
}

var message [128]byte

// twinLoad patches reported properties; the PUBACK follows the commit.
var twinLoad = loadKind{
	prepare: func(c conn) error {
		if err := c.Write(&mqtt.Subscribe{PacketID: 1, Filters: []mqtt.Filter{{Topic: "$iothub/twin/res/#"}}}); err != nil {
			return err
		}
		_, err := c.Next()
		return err
	},
	topic: func(conn) string { return "$iothub/twin/PATCH/properties/reported/?$rid=1" },
	body:  func(n int) []byte { return fmt.Appendf(nil, `{"n":%d}`, n) },
}

// load keeps a number of messages of each connection under way.
func load(pid int, conns []conn, kind loadKind, inFlight int, long time.Duration) (result, error) {
	var mu sync.Mutex
	var taken []time.Duration
	var group errgroup.Group
	for _, c := range conns {
		if err := kind.prepare(c); err != nil {
			return result{}, err
		}
	}
	cpu, end := cpuOf(pid), time.Now().Add(long)
	for _, c := range conns {
		group.Go(func() error {
			mine, err := drive(c, kind, inFlight, end)
			mu.Lock()
			defer mu.Unlock()
			taken = append(taken, mine...)
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return result{}, err
	}
	slices.Sort(taken)
	n := len(taken)
	return result{rate: float64(n) / long.Seconds(), cpu: (cpuOf(pid) - cpu) / time.Duration(n), p50: taken[n/2], p99: taken[n*99/100]}, nil
}

func drive(c conn, kind loadKind, inFlight int, end time.Time) (taken []time.Duration, err error) {
	topic, sent := kind.topic(c), make([]time.Time, 1<<16)
	var id uint16
	for under := 0; time.Now().Before(end); {
		for ; under < inFlight; under++ {
			if id++; id == 0 {
				id = 1
			}
			sent[id] = time.Now()
			if err := c.Write(&mqtt.Publish{Topic: topic, Payload: kind.body(len(taken)), QoS: 1, PacketID: id}); err != nil {
				return taken, err
			}
		}
		packet, err := c.Next()
		if err != nil {
			return taken, err
		}
		if ack, ok := packet.(*mqtt.Puback); ok {
			taken = append(taken, time.Since(sent[ack.PacketID]))
			under--
		}
	}
	return taken, nil
}

// cpuOf is the processor time a process has used; /proc counts hundredths.
func cpuOf(pid int) time.Duration {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}
	fields := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+2:]))
	var ticks int
	for _, field := range fields[11:13] {
		n, err := strconv.Atoi(field)
		if err != nil {
			return 0
		}
		ticks += n
	}
	return time.Duration(ticks) * 10 * time.Millisecond
}

// memory is the server's resident memory in bytes.
func (t *target) memory() int {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", t.pid))
	if err != nil {
		return 0
	}
	var size, resident int
	if _, err := fmt.Sscan(string(text), &size, &resident); err != nil {
		return 0
	}
	return resident * os.Getpagesize()
}
