package simfleet

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"math/big"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/slipway/slipway/device/retry"
	"github.com/slipway/slipway/internal/mqtt"
)

// cloud is provisioning and one hub, on a network without wires.
type cloud struct {
	mu       sync.Mutex
	desired  string
	refuse   bool
	messages map[string][]mqtt.Publish // by device
	reports  map[string][]string
	answers  []mqtt.Publish // to methods
	open     map[string]*mqtt.Conn
}

func newCloud() *cloud {
	return &cloud{desired: `{}`, messages: map[string][]mqtt.Publish{}, reports: map[string][]string{}, open: map[string]*mqtt.Conn{}}
}

var identity, trusted = certify()

func certify() (tls.Certificate, *x509.CertPool) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), DNSNames: []string{"cloud.test"}, IsCA: true, BasicConstraintsValid: true,
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

func (c *cloud) dial(context.Context, string, string) (net.Conn, error) {
	theirs, ours := net.Pipe()
	go c.serve(ours)
	return theirs, nil
}

func (c *cloud) serve(nc net.Conn) {
	conn := mqtt.NewConn(tls.Server(nc, &tls.Config{Certificates: []tls.Certificate{identity}, SessionTicketsDisabled: true, MinVersion: tls.VersionTLS13}),
		mqtt.Limits{MaxPacket: 1 << 20, ConnectTimeout: time.Minute, WriteTimeout: time.Minute, MaxKeepAlive: time.Hour, MaxBuffered: 1 << 20})
	defer conn.Close()
	connect, err := conn.ReadConnect()
	if err != nil {
		return
	}
	hub := !strings.Contains(connect.Username, "/registrations/")
	c.mu.Lock()
	refuse := c.refuse && hub
	if refuse {
		c.refuse = false
	} else if hub {
		c.open[connect.ClientID] = conn
	}
	c.mu.Unlock()
	if refuse {
		if err := conn.Refuse(mqtt.NotAuthorized); err != nil {
			panic(err)
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
		for _, p := range c.answer(connect.ClientID, packet) {
			if conn.Send(p) != nil {
				return
			}
		}
	}
}

func (c *cloud) answer(id string, packet mqtt.Packet) []mqtt.Packet {
	p, ok := packet.(*mqtt.Publish)
	if _, ping := packet.(*mqtt.Pingreq); ping {
		return []mqtt.Packet{&mqtt.Pingresp{}}
	}
	if !ok {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	_, rid, _ := strings.Cut(p.Topic, "$rid=")
	kept := *p
	kept.Payload = slices.Clone(p.Payload)
	var all []mqtt.Packet
	if p.QoS > 0 {
		all = append(all, &mqtt.Puback{PacketID: p.PacketID})
	}
	switch {
	case strings.HasPrefix(p.Topic, "$dps/"):
		body := fmt.Sprintf(`{"status":"assigned","registrationState":{"assignedHub":"cloud.test","deviceId":%q}}`, id)
		all = append(all, &mqtt.Publish{Topic: "$dps/registrations/res/200/?$rid=" + rid, Payload: []byte(body)})
	case strings.HasPrefix(p.Topic, "$iothub/twin/GET/"):
		all = append(all, &mqtt.Publish{Topic: "$iothub/twin/res/200/?$rid=" + rid, Payload: fmt.Appendf(nil, `{"desired":%s,"reported":{}}`, c.desired)})
	case strings.HasPrefix(p.Topic, "$iothub/twin/PATCH/"):
		c.reports[id] = append(c.reports[id], string(kept.Payload))
		all = append(all, &mqtt.Publish{Topic: "$iothub/twin/res/204/?$version=2&$rid=" + rid})
	case strings.HasPrefix(p.Topic, "$iothub/methods/res/"):
		c.answers = append(c.answers, kept)
	default:
		c.messages[id] = append(c.messages[id], kept)
	}
	return all
}

func (c *cloud) say(id, topic, payload string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.open[id].Send(&mqtt.Publish{Topic: topic, Payload: []byte(payload)}); err != nil {
		panic(err)
	}
}

// run runs a fleet for the length of a test, in time that passes only when
// everybody waits; a goroutine left behind fails it.
func run(t *testing.T, devices int, test func(t *testing.T, c *cloud, f *Fleet)) {
	t.Helper()
	runWith(t, Options{Devices: devices}, test)
}

func runWith(t *testing.T, o Options, test func(t *testing.T, c *cloud, f *Fleet)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		c := newCloud()
		o.Provisioning, o.IDScope, o.GroupKey, o.CA, o.Dial = "cloud.test", "0ne1", []byte("0123456789abcdef"), trusted, c.dial
		f, err := New(o)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- f.Run(ctx) }()
		test(t, c, f)
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		if s := f.Stats(); s.Connected != 0 || s.Errors != 0 {
			t.Errorf("in the end %+v", s)
		}
	})
}

func pass(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

func TestDevicesLiveBelievably(t *testing.T) {
	run(t, 20, func(t *testing.T, c *cloud, f *Fleet) {
		pass(10 * time.Second)
		s := f.Stats()
		if s.Provisioned != 20 || s.Connected != 20 || s.Sent < 20 || s.Acked != s.Sent {
			t.Fatalf("after ten seconds %+v", s)
		}
		pass(20 * time.Minute)
		s = f.Stats()
		if least := int64(20 * 20 * 60 / 5); s.Acked < least || s.Acked > least+60 || s.Dropped != 0 {
			t.Errorf("after twenty minutes %+v, want about %d messages", s, least)
		}
		alerts, temperatures := int64(0), map[float64]bool{}
		for id, messages := range c.messages {
			for _, m := range messages {
				var r reading
				if err := json.Unmarshal(m.Payload, &r); err != nil || r.Temperature < 0 || r.Temperature > 45 || r.Humidity < 15 || r.Humidity > 95 || r.Battery < 5 {
					t.Fatalf("%s measured %s, %v", id, m.Payload, err)
				}
				temperatures[r.Temperature] = true
				if !strings.Contains(m.Topic, "%24.ct=application%2Fjson&%24.ce=utf-8") || strings.HasSuffix(m.Topic, "&alert=true") != (r.Vibration > shock) {
					t.Fatalf("%s on %s", m.Payload, m.Topic)
				}
				if r.Vibration > shock {
					alerts++
				}
			}
		}
		if alerts == 0 || alerts != s.Alerts || len(temperatures) < 100 {
			t.Errorf("%d alerts, %d counted, %d temperatures", alerts, s.Alerts, len(temperatures))
		}
		for _, d := range f.Devices() {
			if reports := c.reports[d.ID]; len(reports) != 1 || !strings.HasPrefix(reports[0], `{"firmware":{"version":"1.4.2"},"selfTest":"ok",`) {
				t.Errorf("%s reported %q", d.ID, reports)
			}
		}
	})
}

func TestTheTwinSaysHowOftenToReport(t *testing.T) {
	run(t, 1, func(t *testing.T, c *cloud, f *Fleet) {
		rate := func() int64 { before := f.Stats().Acked; pass(time.Minute); return f.Stats().Acked - before }
		c.mu.Lock()
		c.desired = `{"reportEvery":30}`
		c.mu.Unlock()
		pass(time.Minute)
		if got := rate(); got != 2 {
			t.Errorf("%d messages a minute by the whole twin", got)
		}
		c.say("sensor-0001", "$iothub/twin/PATCH/properties/desired/?$version=3", `{"reportEvery":1}`)
		pass(30 * time.Second)
		if got := rate(); got != 60 {
			t.Errorf("%d messages a minute by a patch", got)
		}
		c.say("sensor-0001", "$iothub/twin/PATCH/properties/desired/?$version=4", `{"reportEvery":-1}`)
		if got := rate(); got != 60 {
			t.Errorf("%d messages a minute by nonsense", got)
		}
	})
}

func TestDevicesAnswerMethods(t *testing.T) {
	run(t, 1, func(t *testing.T, c *cloud, f *Fleet) {
		pass(time.Second)
		for i, name := range []string{"identify", "selfTest", "reboot"} {
			c.say("sensor-0001", fmt.Sprintf("$iothub/methods/POST/%s/?$rid=%d", name, i), `null`)
			synctest.Wait()
		}
		pass(10 * time.Second)
		if len(c.answers) != 3 || !strings.Contains(string(c.answers[1].Payload), `"selfTest":"ok"`) || !strings.HasPrefix(c.answers[2].Topic, "$iothub/methods/res/202/") {
			t.Errorf("answers %+v", c.answers)
		}
		s := f.Stats()
		if s.Methods != 3 || s.Connects != 2 || len(c.reports["sensor-0001"]) != 2 {
			t.Errorf("after a reboot %+v, %q", s, c.reports)
		}
	})
}

func TestCutDevicesComeBackSpread(t *testing.T) {
	run(t, 50, func(t *testing.T, _ *cloud, f *Fleet) {
		pass(2 * time.Minute)
		f.CutAll()
		pass(time.Minute)
		returns := f.Returns()
		if len(returns) != 50 || f.Stats().Connected != 50 || f.Stats().Reprovisioned != 0 {
			t.Fatalf("%d came back, %+v", len(returns), f.Stats())
		}
		early := 0
		for _, after := range returns {
			if after > retry.Default.Base+100*time.Millisecond {
				t.Errorf("one came back after %s", after)
			}
			if after < retry.Default.Base/2 {
				early++
			}
		}
		if early < 10 || early > 40 {
			t.Errorf("%d of 50 came back within half the time", early)
		}
	})
}

func TestARefusedDeviceRegistersAgainAndLosesNothing(t *testing.T) {
	run(t, 1, func(t *testing.T, c *cloud, f *Fleet) {
		pass(2 * time.Minute)
		c.mu.Lock()
		c.refuse = true
		c.mu.Unlock()
		f.CutAll()
		pass(time.Minute)
		if s := f.Stats(); s.Provisioned != 2 || s.Reprovisioned != 1 || s.Connected != 1 || s.Acked != s.Sent || s.Refusals != 1 {
			t.Errorf("%+v", s)
		}
	})
}
