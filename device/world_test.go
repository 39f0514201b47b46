package device_test

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
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/slipway/slipway/device"
	"github.com/slipway/slipway/internal/mqtt"
)

// authority certifies the servers of every world; time in there begins in 2000.
var authority, authorityPool = newAuthority()

func newAuthority() (tls.Certificate, *x509.CertPool) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "world"}, DNSNames: []string{"dps.test", "alpha.test", "beta.test"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Date(1999, 1, 1, 0, 0, 0, 0, time.UTC), NotAfter: time.Date(2099, 1, 1, 0, 0, 0, 0, time.UTC),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		panic(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		panic(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(cert)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, pool
}

// visit is one connection somebody tried to open.
type visit struct {
	host    string
	at      time.Time
	connect mqtt.Connect // zero when the host was down
	proofs  int          // certificates the client presented
}

// world is provisioning and hubs on a network without wires, in which time
// passes only when everybody waits: hours take no time, and a goroutine left
// behind fails the test.
type world struct {
	t *testing.T

	mu       sync.Mutex
	visits   []visit
	down     map[string]bool                   // hosts nobody reaches
	codes    map[string]mqtt.ConnackCode       // of hosts that refuse
	later    map[string]int                    // seconds after which those want the client back
	register func(rid, topic string) []answers // what provisioning answers
	publish  func(host string, p *mqtt.Publish) []mqtt.Packet
	packets  []mqtt.Publish // what hubs were sent
	acks     []uint16       // of what hubs sent
	open     map[string][]*mqtt.Conn
}

// answers is provisioning's answer: what follows res/, and the body.
type answers struct{ topic, body string }

func assign(host string) func(rid, topic string) []answers {
	return func(rid, _ string) []answers {
		return []answers{{"200/?$rid=" + rid, fmt.Sprintf(`{"status":"assigned","registrationState":{"assignedHub":%q,"deviceId":"d"}}`, host)}}
	}
}

func newWorld(t *testing.T) *world {
	return &world{
		t: t, down: map[string]bool{}, codes: map[string]mqtt.ConnackCode{}, later: map[string]int{}, register: assign("alpha.test"), open: map[string][]*mqtt.Conn{},
		publish: func(_ string, p *mqtt.Publish) []mqtt.Packet { return acknowledge(p) },
	}
}

func acknowledge(p *mqtt.Publish) []mqtt.Packet {
	if p.QoS == 0 {
		return nil
	}
	return []mqtt.Packet{&mqtt.Puback{PacketID: p.PacketID}}
}

var errDown = errors.New("nobody answers")

func (w *world) dial(_ context.Context, _, address string) (net.Conn, error) {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.down[host] {
		w.visits = append(w.visits, visit{host: host, at: time.Now()})
		return nil, errDown
	}
	theirs, ours := net.Pipe()
	go w.serve(host, ours)
	return theirs, nil
}

func (w *world) serve(host string, nc net.Conn) {
	// Tickets would be written while the client writes, and a pipe holds nothing.
	secured := tls.Server(nc, &tls.Config{Certificates: []tls.Certificate{authority}, SessionTicketsDisabled: true, ClientAuth: tls.RequestClientCert, MinVersion: tls.VersionTLS13})
	conn := mqtt.NewConn(secured, mqtt.Limits{MaxPacket: 1 << 20, ConnectTimeout: time.Minute, WriteTimeout: time.Minute, MaxKeepAlive: time.Hour, MaxBuffered: 1 << 20})
	defer conn.Close()
	connect, err := conn.ReadConnect()
	if err != nil {
		return
	}
	w.mu.Lock()
	w.visits = append(w.visits, visit{host, time.Now(), *connect, len(conn.TLS().PeerCertificates)})
	code, later := w.codes[host], w.later[host]
	w.open[host] = append(w.open[host], conn)
	w.mu.Unlock()
	if code != mqtt.Accepted {
		var more []mqtt.Packet
		if later > 0 && strings.Contains(connect.Username, "&retry-after=1") {
			more = append(more, &mqtt.Publish{Topic: fmt.Sprint("$slipway/retry-after/", later)})
		}
		if err := conn.Refuse(code, more...); err != nil {
			w.t.Logf("refusal: %v", err)
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
		for _, p := range w.answer(host, packet) {
			if conn.Send(p) != nil {
				return
			}
		}
	}
}

func (w *world) answer(host string, packet mqtt.Packet) []mqtt.Packet {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch p := packet.(type) {
	case *mqtt.Subscribe:
		return []mqtt.Packet{&mqtt.Suback{PacketID: p.PacketID, Codes: make([]byte, len(p.Filters))}}
	case *mqtt.Pingreq:
		return []mqtt.Packet{&mqtt.Pingresp{}}
	case *mqtt.Puback:
		w.acks = append(w.acks, p.PacketID)
	case *mqtt.Publish:
		if host == "dps.test" {
			all := acknowledge(p)
			for _, a := range w.register(ridOf(p.Topic), p.Topic) {
				all = append(all, &mqtt.Publish{Topic: "$dps/registrations/res/" + a.topic, Payload: []byte(a.body)})
			}
			return all
		}
		kept := *p
		kept.Payload = slices.Clone(p.Payload)
		w.packets = append(w.packets, kept)
		return w.publish(host, p)
	}
	return nil
}

func ridOf(topic string) string {
	_, rid, _ := strings.Cut(topic, "$rid=")
	rid, _, _ = strings.Cut(rid, "&")
	return rid
}

// send has a hub say something to whoever is connected.
func (w *world) send(host string, p *mqtt.Publish) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, conn := range w.open[host] {
		if err := conn.Send(p); err != nil {
			w.t.Logf("send: %v", err)
		}
	}
}

// cut ends every connection to a host.
func (w *world) cut(host string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, conn := range w.open[host] {
		conn.Close()
	}
	w.open[host] = nil
}

func (w *world) set(change func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	change()
}

// to returns the visits to a host.
func (w *world) to(host string) []visit {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(w.visits), func(v visit) bool { return v.host != host })
}

func (w *world) sent(prefix string) []mqtt.Publish {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(w.packets), func(p mqtt.Publish) bool { return !strings.HasPrefix(p.Topic, prefix) })
}

// twin is a device under test, with all it told.
type twin struct {
	*device.Client
	mu     sync.Mutex
	events []device.Event
	stop   func()
}

func (d *twin) told(kind device.EventKind) []device.Event {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(d.events), func(e device.Event) bool { return e.Kind != kind })
}

// boot makes a device and runs it; prepare sets handlers.
func (w *world) boot(change func(*device.Config), prepare func(*device.Client)) *twin {
	config := device.Config{Provisioning: "dps.test", IDScope: "0ne1", RegistrationID: "d", Key: []byte("0123456789abcdef"), CA: authorityPool, Dial: w.dial}
	if change != nil {
		change(&config)
	}
	client, err := device.New(config)
	if err != nil {
		w.t.Fatal(err)
	}
	d := &twin{Client: client}
	client.OnEvent(func(e device.Event) {
		d.mu.Lock()
		defer d.mu.Unlock()
		d.events = append(d.events, e)
	})
	if prepare != nil {
		prepare(client)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- client.Run(ctx) }()
	d.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			w.t.Error(err)
		}
	})
	return d
}

// in runs a test in a world of its own.
func in(t *testing.T, test func(t *testing.T, w *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) { test(t, newWorld(t)) })
}

// pass lets time pass, until everybody waits again.
func pass(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}
