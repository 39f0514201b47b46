package test

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/slipway/slipway/internal/client"
	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/mqtt"
	"github.com/slipway/slipway/internal/up"
)

// kills is how often the server is killed; SLIPWAY_KILLS asks for another number.
func kills(t *testing.T) int {
	text := os.Getenv("SLIPWAY_KILLS")
	if text == "" {
		return 50
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// hand is one device under load: it remembers what was acknowledged.
type hand struct {
	id      string
	next    int   // number of the next message and patch
	acked   []int // messages, by number, in order
	hub     up.ReadyStamp
	patched int // highest number in an acknowledged patch
}

// TestNothingAcknowledgedIsLost kills the server at random moments under load,
// while devices move between environments, and holds it to what it said.
func TestNothingAcknowledgedIsLost(t *testing.T) {
	in := start(t)
	in.enrol()
	hands := make([]*hand, 12)
	for i := range hands {
		hands[i] = &hand{id: fmt.Sprintf("hand-%02d", i)}
	}
	listener := persistentListener(t, in)
	for round := range kills(t) {
		stop := make(chan struct{})
		var working sync.WaitGroup
		for _, h := range hands {
			working.Go(func() { h.work(in, stop) })
		}
		mover := hands[round%len(hands)].id
		working.Go(func() {
			to := []string{"production", "test"}[round/len(hands)%2]
			// The answer may be lost with the server; the move itself may not.
			if _, err := in.api.StartMove(t.Context(), "", client.MoveRequest{To: to, Devices: []string{mover}}); err != nil {
				t.Logf("round %d: %v", round, err)
			}
		})
		<-time.After(time.Duration(50+rand.IntN(700)) * time.Millisecond)
		in.kill(syscall.SIGKILL)
		close(stop)
		working.Wait()
		in.launch()
	}
	acked := 0
	for _, h := range hands {
		acked += len(h.acked)
		h.check(t, in)
	}
	t.Logf("%d messages acknowledged over %d kills", acked, kills(t))
	if acked < kills(t) {
		t.Errorf("only %d messages were acknowledged: the load was none", acked)
	}
	listener.stillHears(t, in)
	everyDeviceInOnePlace(t, in, hands)
}

// work lives through one round: register, connect, publish and patch until the
// server is gone.
func (h *hand) work(in *installation, stop <-chan struct{}) {
	for h.until(in, stop, func() {}) != nil {
	}
}

// until registers, connects, and publishes and patches until it is stopped or
// fails; acked is called after each.
func (h *hand) until(in *installation, stop <-chan struct{}, acked func()) error {
	stopped := func() bool {
		select {
		case <-stop:
			return true
		default:
			return false
		}
	}
	if stopped() {
		return nil
	}
	host, err := in.register(h.id)
	if err != nil {
		return err
	}
	for _, s := range in.ready.Stamps {
		if strings.HasPrefix(host, s.Host) {
			h.hub = s
		}
	}
	conn, err := in.hub(h.id, h.hub, true)
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := conn.Write(&mqtt.Subscribe{PacketID: 60000, Filters: []mqtt.Filter{{Topic: "$iothub/twin/res/#"}}}); err != nil {
		return err
	}
	for !stopped() {
		h.next++
		n := h.next
		if err := conn.publish(fmt.Sprintf(`{"n":%d}`, n)); err != nil {
			return err
		}
		h.acked = append(h.acked, n)
		if err := conn.report(n); err != nil {
			return err
		}
		h.patched = n
		acked()
	}
	return nil
}

// report patches the twin and waits for the answer.
func (r *raw) report(n int) error {
	if err := r.SetReadDeadline(time.Now().Add(r.patience)); err != nil {
		return err
	}
	if err := r.Write(&mqtt.Publish{Topic: "$iothub/twin/PATCH/properties/reported/?$rid=" + strconv.Itoa(n), Payload: fmt.Appendf(nil, `{"n":%d}`, n)}); err != nil {
		return err
	}
	for {
		packet, err := r.Next()
		if err != nil {
			return err
		}
		p, ok := packet.(*mqtt.Publish)
		if ok && strings.HasPrefix(p.Topic, fmt.Sprintf("$iothub/twin/res/204/?$rid=%d&", n)) {
			return nil
		}
		if ok && strings.Contains(p.Topic, fmt.Sprintf("?$rid=%d", n)) {
			return fmt.Errorf("patch %d: %s %s", n, p.Topic, p.Payload)
		}
	}
}

// check holds the logs and the twin against what was acknowledged, and in
// which order. What was not acknowledged may be there all the same, and late.
func (h *hand) check(t *testing.T, in *installation) {
	t.Helper()
	acked, seen := map[int]bool{}, map[int]bool{}
	for _, n := range h.acked {
		acked[n] = true
	}
	for _, s := range in.ready.Stamps {
		last := 0
		for _, n := range h.logged(t, in, s.Name) {
			seen[n] = true
			if !acked[n] {
				continue
			}
			if n < last {
				t.Errorf("%s: message %d comes after %d on %s", h.id, n, last, s.Name)
			}
			last = n
		}
	}
	for _, n := range h.acked {
		if !seen[n] {
			t.Errorf("%s: message %d was acknowledged and is nowhere", h.id, n)
		}
	}
	if _, err := in.register(h.id); err != nil {
		t.Fatalf("%s: %v", h.id, err)
	}
	var twin struct {
		Properties struct{ Reported struct{ N int } }
	}
	if err := json.Unmarshal(show(t, in, h.id).Twin, &twin); err != nil || twin.Properties.Reported.N < h.patched {
		t.Errorf("%s: patch %d was acknowledged, the twin says %d, %v", h.id, h.patched, twin.Properties.Reported.N, err)
	}
}

func (h *hand) logged(t *testing.T, in *installation, stamp string) (numbers []int) {
	t.Helper()
	o := client.LogOptions{Stamp: stamp, Limit: 1000}
	for {
		page, err := in.api.Log(t.Context(), h.id, client.Messages, o)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range page.Items {
			var body struct{ N int }
			if err := json.Unmarshal(r.Body, &body); err != nil {
				t.Fatal(err)
			}
			numbers = append(numbers, body.N)
		}
		if page.NextAfter == 0 {
			return numbers
		}
		o.After = page.NextAfter
	}
}

// everyDeviceInOnePlace asks every stamp, by trying to connect.
func everyDeviceInOnePlace(t *testing.T, in *installation, hands []*hand) {
	t.Helper()
	for _, h := range hands {
		valid := 0
		for _, s := range in.ready.Stamps {
			conn, err := in.hub(h.id, s, true)
			if err == nil {
				valid++
				conn.Close()
			} else if r, ok := err.(refused); !ok || mqtt.ConnackCode(r) != mqtt.NotAuthorized {
				t.Errorf("%s at %s: %v", h.id, s.Name, err)
			}
		}
		if valid != 1 {
			t.Errorf("%s is valid on %d stamps", h.id, valid)
		}
	}
}

// persistent is a device that subscribed once, long ago.
type persistent struct{ id string }

func persistentListener(t *testing.T, in *installation) persistent {
	t.Helper()
	p := persistent{"listener"}
	if _, err := in.register(p.id); err != nil {
		t.Fatal(err)
	}
	conn, err := in.hub(p.id, in.stamp("test-1"), false)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.Write(&mqtt.Subscribe{PacketID: 1, Filters: []mqtt.Filter{{Topic: "devices/" + p.id + "/messages/devicebound/#", QoS: 1}, {Topic: "$iothub/methods/POST/#"}}}); err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Next(); err != nil {
		t.Fatal(err)
	}
	return p
}

// stillHears connects without subscribing again.
func (p persistent) stillHears(t *testing.T, in *installation) {
	t.Helper()
	if _, err := in.api.SendCommand(t.Context(), p.id, client.Command{BodyBase64: []byte("still there?")}); err != nil {
		t.Fatal(err)
	}
	conn, err := in.hub(p.id, in.stamp("test-1"), false)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	packet, err := conn.Next()
	if err != nil {
		t.Fatal(err)
	}
	message, ok := packet.(*mqtt.Publish)
	if !ok || string(message.Payload) != "still there?" {
		t.Errorf("got %+v", packet)
	}
	answered := make(chan link.MethodResult, 1)
	go func() {
		result, err := in.api.InvokeMethod(t.Context(), p.id, "ping", client.Method{})
		if err != nil {
			t.Error(err)
		}
		answered <- result
	}()
	packet, err = conn.Next()
	if err != nil {
		t.Fatal(err)
	}
	call, ok := packet.(*mqtt.Publish)
	if !ok || !strings.HasPrefix(call.Topic, "$iothub/methods/POST/ping/?$rid=") {
		t.Fatalf("got %+v", packet)
	}
	_, rid, _ := strings.Cut(call.Topic, "$rid=")
	if err := conn.Write(&mqtt.Publish{Topic: "$iothub/methods/res/204/?$rid=" + rid}); err != nil {
		t.Fatal(err)
	}
	if result := <-answered; result.Status != 204 {
		t.Errorf("the method answered %+v", result)
	}
}

// TestBulkMoveSurvivesAKill moves ten thousand devices and kills the server in
// the middle.
func TestBulkMoveSurvivesAKill(t *testing.T) {
	const devices = 10_000
	in := start(t)
	in.enrol()
	var registering sync.WaitGroup
	ids := make(chan string)
	for range 32 {
		registering.Go(func() {
			for id := range ids {
				if err := in.beginRegistration(id); err != nil {
					t.Errorf("%s: %v", id, err)
				}
			}
		})
	}
	for i := range devices {
		ids <- fmt.Sprintf("bulk-%05d", i)
	}
	close(ids)
	registering.Wait()
	eventually(t, "all devices are assigned", time.Minute, func() bool { return in.assigned(t, "test-1") == devices })

	m, err := in.api.StartMove(t.Context(), "bulk", client.MoveRequest{To: "production", Where: "tags.batch = '7'"})
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "the move is under way", time.Minute, func() bool {
		m, err = in.api.Move(t.Context(), m.ID)
		return err == nil && m.Census.Waiting > devices/10
	})
	in.kill(syscall.SIGKILL)
	t.Logf("killed at %+v", m.Census)
	in.launch()
	eventually(t, "the move is complete", 2*time.Minute, func() bool {
		m, err = in.api.Move(t.Context(), m.ID)
		return err == nil && m.State == link.MoveComplete
	})
	out := in.must("move", "show", m.ID)
	if m.Census != (link.Census{Total: devices, Waiting: devices}) {
		t.Fatalf("%s %+v", m.State, m.Census)
	}
	if !strings.Contains(out, strconv.Itoa(devices)) || !strings.Contains(out, "waiting") {
		t.Errorf("the census reads\n%s", out)
	}
	if n := in.assigned(t, "test-1"); n != 0 {
		t.Errorf("%d devices still count as on test-1", n)
	}
	for _, id := range []string{"bulk-00000", "bulk-04711", "bulk-09999"} {
		if _, err := in.hub(id, in.stamp("test-1"), true); err != refused(mqtt.NotAuthorized) {
			t.Errorf("%s at Test: %v", id, err)
		}
		if host, err := in.register(id); err != nil || !strings.HasPrefix(host, "127.0.1.") {
			t.Errorf("%s: %s, %v", id, host, err)
		}
		if d := show(t, in, id); d.Environment != "production" || d.Epoch != 2 {
			t.Errorf("%s: %+v", id, d.Device)
		}
	}
}

func (in *installation) assigned(t *testing.T, stamp string) int {
	t.Helper()
	levels, err := in.api.Overview(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range levels {
		for _, s := range l.Stamps {
			if s.Metadata.Name == stamp {
				return s.Status.Assigned
			}
		}
	}
	return -1
}
