package updatetest

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/mqtt"
	"github.com/slipway/slipway/internal/sastoken"
)

// Device is the id of the one device a Hub knows.
const Device = "d"

// Hub is provisioning and a hub for one device, on real sockets: MQTT with its
// twin, and HTTPS with what a Repository holds.
type Hub struct {
	Repository *Repository
	CA         []byte // PEM
	Port       int    // of MQTT
	HTTPSPort  int
	Key        []byte // the device's

	t      *testing.T
	server *httptest.Server

	mu      sync.Mutex
	desired map[string]any
	version int
	reports []link.UpdateReport
	open    map[*mqtt.Conn]bool
	lie     Lie
	orders  int64
	changed chan struct{}
}

// NewHub starts one.
func NewHub(t *testing.T, environments ...string) *Hub {
	h := &Hub{
		Repository: NewRepository(t, environments...), Key: []byte("the key of the device, 32 bytes."), t: t,
		desired: map[string]any{}, open: map[*mqtt.Conn]bool{}, changed: make(chan struct{}),
	}
	certificate := h.certify()
	listener, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{certificate}, MinVersion: tls.VersionTLS12})
	if err != nil {
		t.Fatal(err)
	}
	h.Port = listener.Addr().(*net.TCPAddr).Port
	h.server = httptest.NewUnstartedServer(http.HandlerFunc(h.serve))
	h.server.TLS = &tls.Config{Certificates: []tls.Certificate{certificate}, ClientAuth: tls.RequestClientCert, MinVersion: tls.VersionTLS12}
	h.server.StartTLS()
	h.HTTPSPort = h.server.Listener.Addr().(*net.TCPAddr).Port
	var connections sync.WaitGroup
	connections.Go(func() {
		for {
			nc, err := listener.Accept()
			if err != nil {
				return
			}
			connections.Go(func() { h.connection(nc) })
		}
	})
	t.Cleanup(func() {
		if err := listener.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
		h.Cut()
		h.server.Close()
		connections.Wait()
	})
	return h
}

func (h *Hub) certify() tls.Certificate {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		h.t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "hub"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		h.t.Fatal(err)
	}
	h.CA = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// connection speaks MQTT with the device.
func (h *Hub) connection(nc net.Conn) {
	conn := mqtt.NewConn(nc.(*tls.Conn), mqtt.Limits{MaxPacket: 1 << 20, ConnectTimeout: time.Minute, WriteTimeout: time.Minute, MaxKeepAlive: time.Hour, MaxBuffered: 1 << 20})
	defer conn.Close() //nolint:errcheck // it is over
	connect, err := conn.ReadConnect()
	if err != nil || conn.Accept(false, connect.KeepAlive) != nil {
		return
	}
	h.mu.Lock()
	h.open[conn] = true
	h.mu.Unlock()
	for {
		packet, err := conn.Next()
		if err != nil {
			break
		}
		for _, p := range h.answer(packet) {
			if conn.Send(p) != nil {
				break
			}
		}
	}
	h.mu.Lock()
	delete(h.open, conn)
	h.mu.Unlock()
}

func (h *Hub) answer(packet mqtt.Packet) []mqtt.Packet {
	switch p := packet.(type) {
	case *mqtt.Subscribe:
		return []mqtt.Packet{&mqtt.Suback{PacketID: p.PacketID, Codes: make([]byte, len(p.Filters))}}
	case *mqtt.Pingreq:
		return []mqtt.Packet{&mqtt.Pingresp{}}
	case *mqtt.Publish:
		var all []mqtt.Packet
		if p.QoS > 0 {
			all = append(all, &mqtt.Puback{PacketID: p.PacketID})
		}
		return append(all, h.published(p)...)
	}
	return nil
}

func (h *Hub) published(p *mqtt.Publish) []mqtt.Packet {
	h.mu.Lock()
	defer h.mu.Unlock()
	_, rid, _ := strings.Cut(p.Topic, "$rid=")
	reply := func(topic string, body any) []mqtt.Packet {
		text, err := json.Marshal(body)
		if err != nil {
			h.t.Error(err)
		}
		return []mqtt.Packet{&mqtt.Publish{Topic: topic, Payload: text}}
	}
	switch {
	case strings.HasPrefix(p.Topic, "$dps/"):
		return reply("$dps/registrations/res/200/?$rid="+rid, map[string]any{"status": "assigned", "registrationState": map[string]any{"assignedHub": h.Host(), "deviceId": Device}})
	case strings.HasPrefix(p.Topic, "$iothub/twin/GET/"):
		return reply("$iothub/twin/res/200/?$rid="+rid, map[string]any{"desired": h.desired, "reported": map[string]any{}})
	case strings.HasPrefix(p.Topic, "$iothub/twin/PATCH/properties/reported/"):
		h.report(p.Payload)
		return reply(fmt.Sprintf("$iothub/twin/res/204/?$rid=%s&$version=%d", rid, len(h.reports)+1), nil)
	}
	return nil
}

func (h *Hub) report(patch []byte) {
	var document struct {
		Slipway *link.UpdateReport `json:"slipway"`
	}
	if err := json.Unmarshal(patch, &document); err != nil || document.Slipway == nil {
		h.t.Errorf("reported %s: %v", patch, err)
		return
	}
	h.reports = append(h.reports, *document.Slipway)
	close(h.changed)
	h.changed = make(chan struct{})
}

// Host is what provisioning calls the hub.
func (h *Hub) Host() string { return fmt.Sprintf("127.0.0.1:%d", h.Port) }

// Lie puts a proxy in front of the HTTPS API; nil takes it away.
func (h *Hub) Lie(lie Lie) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.lie = lie
}

func (h *Hub) serve(w http.ResponseWriter, r *http.Request) {
	h.mu.Lock()
	lie := h.lie
	h.mu.Unlock()
	if lie != nil {
		lie(w, r, http.HandlerFunc(h.honest))
		return
	}
	h.honest(w, r)
}

func (h *Hub) honest(w http.ResponseWriter, r *http.Request) {
	if !h.knows(r) {
		http.Error(w, "not you", http.StatusUnauthorized)
		return
	}
	below := link.UpdatePath(Device)
	if name, found := strings.CutPrefix(r.URL.Path, below+"metadata/"); found {
		text := h.Repository.File(name)
		if text == nil {
			http.NotFound(w, r)
			return
		}
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(text))
		return
	}
	sum := strings.TrimPrefix(r.URL.Path, below+"artifacts/")
	content := h.Repository.Artifact(sum)
	if content == nil {
		http.NotFound(w, r)
		return
	}
	w.Header().Set("ETag", `"`+sum+`"`)
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(content))
}

// knows reports whether a request is the device's, by its token or, where it
// has none, by its certificate.
func (h *Hub) knows(r *http.Request) bool {
	text := r.Header.Get("Authorization")
	if text == "" {
		return len(r.TLS.PeerCertificates) > 0 && r.TLS.PeerCertificates[0].Subject.CommonName == Device
	}
	token, err := sastoken.Parse(text)
	return err == nil && token.Verify(h.Key, time.Now(), time.Minute) == nil && token.Resource == h.Host()+"/devices/"+Device
}

// Certificate is one for the device, with its key, both PEM.
func (h *Hub) Certificate() (certificate, key []byte) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		h.t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: Device}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	if err != nil {
		h.t.Fatal(err)
	}
	text, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		h.t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: text})
}

// Release publishes a release with one file for each kind of software, and
// returns an order for it.
func (h *Hub) Release(name, environment string, software map[string][]byte, files map[string]string) link.UpdateOrder {
	o := link.UpdateOrder{Release: name, Environment: environment}
	counter := h.Repository.Counter()
	for kind, content := range software {
		sum := h.Repository.Add(files[kind], content, Custom{Release: name, Environment: environment, Software: kind, Version: name, Counter: counter})
		o.Software = append(o.Software, link.Software{Name: kind, Version: name, Handler: "files", Artifacts: []link.Artifact{{File: files[kind], Size: int64(len(content)), SHA256: sum}}})
	}
	h.Repository.Sign()
	return o
}

// Order writes an order into the twin, with the next number, which it returns.
func (h *Hub) Order(o link.UpdateOrder) int64 {
	h.mu.Lock()
	h.orders++
	o.Order = h.orders
	h.mu.Unlock()
	h.Desire(map[string]any{link.UpdateProperty: o})
	return o.Order
}

// Desire changes desired properties, and tells the device if it is connected.
func (h *Hub) Desire(patch map[string]any) {
	text, err := json.Marshal(patch)
	if err != nil {
		h.t.Fatal(err)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	for key, value := range patch {
		h.desired[key] = value
	}
	h.version++
	for conn := range h.open {
		if err := conn.Send(&mqtt.Publish{Topic: fmt.Sprintf("$iothub/twin/PATCH/properties/desired/?$version=%d", h.version), Payload: text}); err != nil {
			h.t.Logf("send: %v", err)
		}
	}
}

// Cut ends every connection of the device.
func (h *Hub) Cut() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for conn := range h.open {
		_ = conn.Close() // that is what it is for
	}
}

// Reports are those that came, in order.
func (h *Hub) Reports() []link.UpdateReport {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.reports)
}

// Ended waits for the end of an order.
func (h *Hub) Ended(order int64, limit time.Duration) link.UpdateReport {
	h.t.Helper()
	deadline := time.After(limit)
	for {
		h.mu.Lock()
		changed, reports := h.changed, h.reports
		h.mu.Unlock()
		for _, r := range slices.Backward(reports) {
			if r.Order == order && slices.Contains([]string{link.OrderConfirmed, link.OrderFailed, link.OrderRolledBack}, r.Phase) {
				return r
			}
		}
		select {
		case <-changed:
		case <-deadline:
			h.t.Fatalf("order %d did not end within %s; reports %+v", order, limit, reports[max(0, len(reports)-5):])
		}
	}
}
