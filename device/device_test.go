package device

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"math/big"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/slipway/slipway/device/retry"
	"github.com/slipway/slipway/internal/mqtt"
)

// cloud is provisioning and two hubs in one listener, as simple as can be.
type cloud struct {
	t        *testing.T
	address  string
	pool     *x509.CertPool
	mu       sync.Mutex
	assigned string            // the hub provisioning names: alpha or beta
	codes    map[string][]byte // CONNACK codes by client id @ device or "registrations", one after another; then 0
	connects []string          // user names in order
	acks     bool              // publishes are acknowledged
	got      []string          // telemetry topics
	open     map[*mqtt.Conn]bool
}

func newCloud(t *testing.T) *cloud {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}, MinVersion: tls.VersionTLS12})
	if err != nil {
		t.Fatal(err)
	}
	c := &cloud{t: t, address: l.Addr().String(), pool: x509.NewCertPool(), assigned: "alpha", codes: map[string][]byte{}, acks: true, open: map[*mqtt.Conn]bool{}}
	c.pool.AddCert(cert)
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			nc, err := l.Accept()
			if err != nil {
				return
			}
			serving.Go(func() { c.serve(nc) })
		}
	})
	t.Cleanup(func() { l.Close(); c.cut(); serving.Wait() })
	return c
}

func (c *cloud) cut() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for conn := range c.open {
		conn.Close()
	}
}

func (c *cloud) serve(nc net.Conn) {
	conn := mqtt.NewConn(nc, mqtt.Limits{MaxPacket: 1 << 20, ConnectTimeout: 10 * time.Second, WriteTimeout: 10 * time.Second, MaxKeepAlive: time.Minute, MaxBuffered: 1 << 20})
	connect, err := conn.ReadConnect()
	if err != nil {
		conn.Close()
		return
	}
	whom := connect.ClientID + "@" + strings.Split(connect.Username, "/")[1]
	c.mu.Lock()
	c.connects = append(c.connects, connect.Username)
	code := byte(0)
	if queue := c.codes[whom]; len(queue) > 0 {
		code, c.codes[whom] = queue[0], queue[1:]
	}
	c.open[conn] = true
	c.mu.Unlock()
	defer func() { c.mu.Lock(); delete(c.open, conn); c.mu.Unlock(); conn.Close() }()
	if code != 0 {
		if err := conn.Refuse(mqtt.ConnackCode(code)); err != nil {
			c.t.Logf("refusal: %v", err)
		}
		return
	}
	if conn.Accept(false, connect.KeepAlive) != nil {
		return
	}
	for {
		packet, err := conn.Next()
		if err != nil {
			return
		}
		c.answer(conn, packet)
	}
}

func (c *cloud) answer(conn *mqtt.Conn, packet mqtt.Packet) {
	send := func(p mqtt.Packet) {
		if err := conn.Send(p); err != nil {
			c.t.Logf("answer: %v", err)
		}
	}
	switch p := packet.(type) {
	case *mqtt.Subscribe:
		send(&mqtt.Suback{PacketID: p.PacketID, Codes: make([]byte, len(p.Filters))})
	case *mqtt.Pingreq:
		send(&mqtt.Pingresp{})
	case *mqtt.Publish:
		c.mu.Lock()
		hub, acks := c.assigned, c.acks
		if strings.HasPrefix(p.Topic, "devices/") {
			c.got = append(c.got, p.Topic)
		}
		c.mu.Unlock()
		if strings.HasPrefix(p.Topic, "$dps/registrations/PUT/") {
			send(&mqtt.Publish{Topic: "$dps/registrations/res/200/?$rid=1", Payload: fmt.Appendf(nil, `{"status":"assigned","registrationState":{"assignedHub":%q,"deviceId":"%s-d"}}`, c.address, hub)})
		}
		if p.QoS > 0 && acks {
			send(&mqtt.Puback{PacketID: p.PacketID})
		}
	}
}

func (c *cloud) client(t *testing.T, change func(*Config)) (*Client, chan Event) {
	t.Helper()
	config := Config{
		Provisioning: c.address, IDScope: "0ne1", RegistrationID: "d", Key: []byte("0123456789abcdef"), CA: c.pool,
		Policy: retry.Policy{Base: 5 * time.Millisecond, Cap: 50 * time.Millisecond, Attempts: 6, Elapsed: time.Minute, Dormant: time.Hour, Stable: time.Minute},
	}
	if change != nil {
		change(&config)
	}
	client, err := New(config)
	if err != nil {
		t.Fatal(err)
	}
	events := make(chan Event, 1000)
	client.OnEvent(func(e Event) { events <- e })
	return client, events
}

func (c *cloud) run(t *testing.T, client *Client) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- client.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

// await returns the next event of a kind, and how many of each came before it.
func await(t *testing.T, events chan Event, kind EventKind) (Event, map[EventKind]int) {
	t.Helper()
	before := map[EventKind]int{}
	limit := time.After(20 * time.Second)
	for {
		select {
		case e := <-events:
			if e.Kind == kind {
				return e, before
			}
			before[e.Kind]++
		case <-limit:
			t.Fatalf("no %s; only %v", kind, before)
		}
	}
}

func TestSDK11RefusedByItsHubAsksProvisioningOncePerCampaign(t *testing.T) {
	c := newCloud(t)
	client, events := c.client(t, nil)
	c.run(t, client)
	await(t, events, Connected)
	c.mu.Lock()
	c.assigned = "beta"
	c.codes["alpha-d@alpha-d"] = []byte{5, 5, 5, 5, 5}
	c.mu.Unlock()
	c.cut()
	_, before := await(t, events, Connected)
	if before[Refused] != 1 || before[Provisioned] != 1 {
		t.Errorf("on the way: %v", before)
	}
	c.mu.Lock()
	c.codes["beta-d@beta-d"] = []byte{5, 5, 5, 5, 5, 5, 5, 5}
	c.mu.Unlock()
	c.cut()
	e, before := await(t, events, Dormant)
	if before[Provisioned] != 1 || before[Refused] != 2 || e.Delay < time.Hour {
		t.Errorf("a hub that refuses what provisioning says: %v, then quiet for %s", before, e.Delay)
	}
}

func TestSDK7ThrottledIsTriedAgainAndRefusalIsNot(t *testing.T) {
	c := newCloud(t)
	c.codes["alpha-d@alpha-d"] = []byte{3, 3}
	client, events := c.client(t, nil)
	c.run(t, client)
	_, before := await(t, events, Connected)
	if before[Waiting] != 2 || before[Provisioned] != 1 {
		t.Errorf("on the way: %v", before)
	}
	c2 := newCloud(t)
	c2.codes["d@registrations"] = []byte{5}
	client, events = c2.client(t, nil)
	c2.run(t, client)
	if _, before := await(t, events, Dormant); before[Waiting] != 0 {
		t.Errorf("a final refusal was tried again: %v", before)
	}
}

func TestSDK5OneLayerRetries(t *testing.T) {
	c := newCloud(t)
	c.codes["alpha-d@alpha-d"] = []byte{3, 3, 3}
	client, events := c.client(t, nil)
	c.run(t, client)
	await(t, events, Connected)
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.connects) != 5 { // one registration, three refusals, one connection
		t.Errorf("%d connections were opened: %v", len(c.connects), c.connects)
	}
}

func TestSDK10MessagesBearAnIDThatRepetitionsShare(t *testing.T) {
	c := newCloud(t)
	c.acks = false
	client, events := c.client(t, nil)
	c.run(t, client)
	await(t, events, Connected)
	client.Enqueue(Message{Body: []byte("1")})
	wait(t, func() bool { c.mu.Lock(); defer c.mu.Unlock(); return len(c.got) == 1 })
	c.mu.Lock()
	c.acks = true
	c.mu.Unlock()
	c.cut()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if err := client.Send(ctx, Message{Body: []byte("2")}); err != nil {
		t.Fatal(err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.got) != 3 || c.got[0] != c.got[1] || !strings.Contains(c.got[0], "%24.mid=") || c.got[2] == c.got[1] {
		t.Errorf("topics %v", c.got)
	}
}

func wait(t *testing.T, so func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(20 * time.Second); !so(); <-tick.C {
		if time.Now().After(end) {
			t.Fatal("it did not come about")
		}
	}
}

func TestSDK13AssignmentAndCampaignSurviveAReboot(t *testing.T) {
	c := newCloud(t)
	store := FileStore(filepath.Join(t.TempDir(), "state.json"))
	for boot := range 3 {
		client, events := c.client(t, func(config *Config) { config.Store = store })
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- client.Run(ctx) }()
		_, before := await(t, events, Connected)
		if (before[Provisioned] == 1) != (boot == 0) {
			t.Errorf("boot %d: %v", boot, before)
		}
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
}

func TestSDK14OfflineQueueDropsTheOldest(t *testing.T) {
	c := newCloud(t)
	client, _ := c.client(t, func(config *Config) { config.Queue = 3 })
	var waiting []*outgoing
	for i := range 5 {
		waiting = append(waiting, client.queue.add(Message{Body: fmt.Append(nil, i)}))
	}
	for i, o := range waiting[:2] {
		<-o.done
		if !errors.Is(o.err, ErrDropped) {
			t.Errorf("message %d: %v", i, o.err)
		}
	}
	if client.Queued() != 3 {
		t.Errorf("%d messages wait", client.Queued())
	}
	c.run(t, client)
	for i, o := range waiting[2:] {
		<-o.done
		if o.err != nil {
			t.Errorf("message %d: %v", i+2, o.err)
		}
	}
}

func TestTokensAreRenewedBeforeTheyExpire(t *testing.T) {
	c := newCloud(t)
	client, events := c.client(t, func(config *Config) { config.TokenLife = time.Second })
	c.run(t, client)
	await(t, events, Connected)
	_, before := await(t, events, Connected)
	if before[Disconnected] != 1 || before[Waiting] != 0 || before[Provisioned] != 0 {
		t.Errorf("on the way: %v", before)
	}
}

func TestConfigurationIsChecked(t *testing.T) {
	for name, config := range map[string]Config{
		"nothing": {}, "no secret": {Provisioning: "h", IDScope: "s", RegistrationID: "d"},
		"two secrets": {Provisioning: "h", IDScope: "s", RegistrationID: "d", Key: []byte("k"), Certificate: &tls.Certificate{}},
	} {
		if _, err := New(config); err == nil {
			t.Errorf("%s was accepted", name)
		}
	}
}
