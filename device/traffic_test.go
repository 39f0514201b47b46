package device_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/slipway/slipway/device"
	"github.com/slipway/slipway/internal/mqtt"
)

// answering is a hub that answers twin requests with a status.
func answering(status func() int) func(string, *mqtt.Publish) []mqtt.Packet {
	return func(_ string, p *mqtt.Publish) []mqtt.Packet {
		if !strings.HasPrefix(p.Topic, "$iothub/twin/") {
			return acknowledge(p)
		}
		body := `{"desired":{"$version":1},"reported":{"$version":1}}`
		code := status()
		if code >= 300 {
			body = `{"errorCode":500001,"message":"sorry"}`
		}
		return []mqtt.Packet{&mqtt.Publish{Topic: fmt.Sprintf("$iothub/twin/res/%d/?$rid=%s&$version=5", code, ridOf(p.Topic)), Payload: []byte(body)}}
	}
}

func TestHandlersMayCallTheirDevice(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		w.publish = answering(func() int { return 200 })
		var read, reported int
		d := w.boot(nil, func(c *device.Client) {
			c.OnEvent(func(e device.Event) {
				if e.Kind != device.Connected {
					return
				}
				if text, err := c.Twin(context.Background()); err != nil || !bytes.Contains(text, []byte("desired")) {
					t.Errorf("twin %s, %v", text, err)
				}
				read++
			})
			c.OnDesired(func(version int64, patch []byte) {
				if got, err := c.Report(context.Background(), patch); err != nil || got != 5 || version != 7 {
					t.Errorf("version %d of %d, %v", got, version, err)
				}
				reported++
			})
		})
		defer d.stop()
		pass(time.Second)
		for range 900 { // nearly all that may wait at once
			w.send("alpha.test", &mqtt.Publish{Topic: "$iothub/twin/PATCH/properties/desired/?$version=7", Payload: []byte(`{"a":1}`)})
		}
		pass(time.Second)
		if read != 1 || reported != 900 {
			t.Errorf("read %d twins, reported %d patches", read, reported)
		}
	})
}

func TestSDK3AnOperationHasOneImmediateRetry(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		var at []time.Time
		w.publish = answering(func() int { at = append(at, time.Now()); return 500 })
		d := w.boot(nil, nil)
		defer d.stop()
		var refusal *device.Refusal
		if _, err := d.Twin(t.Context()); !errors.As(err, &refusal) || refusal.Status != 500 || refusal.Message != "sorry" || !refusal.ByHub {
			t.Errorf("%v", err)
		}
		immediate := 0
		for i := 1; i < len(at); i++ {
			if at[i].Equal(at[i-1]) {
				immediate++
			}
		}
		if len(at) != 4 || immediate != 1 {
			t.Errorf("%d tries, %d of them at once: %v", len(at), immediate, at)
		}
		requests := w.sent("$iothub/twin/GET/")
		if requests[0].Topic != requests[3].Topic {
			t.Errorf("one operation, two ids: %s, %s", requests[0].Topic, requests[3].Topic)
		}
	})
}

func TestSDK7TheHubsFinalAnswersAreNotAskedForAgain(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		w.publish = answering(func() int { return 400 })
		d := w.boot(nil, nil)
		defer d.stop()
		var refusal *device.Refusal
		if _, err := d.Report(t.Context(), []byte(`{}`)); !errors.As(err, &refusal) || !refusal.Permanent || len(w.sent("$iothub/twin/PATCH/")) != 1 {
			t.Errorf("%v after %d tries", err, len(w.sent("$iothub/twin/PATCH/")))
		}
	})
}

func TestSDK9RetriesStayWithinTheirBudget(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		w.publish = answering(func() int { return 503 })
		d := w.boot(nil, nil)
		defer d.stop()
		began := time.Now()
		const requests = 300
		for range requests {
			if _, err := d.Twin(t.Context()); err == nil {
				t.Fatal("503 is no answer")
			}
		}
		retries := len(w.sent("$iothub/twin/GET/")) - requests
		if most := 10 + requests/5 + int(time.Since(began).Seconds()/10) + 1; retries > most {
			t.Errorf("%d retries of %d requests, at most %d", retries, requests, most)
		}
	})
}

func TestSDK5ALostConnectionIsMendedByOneLayer(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		silent := true
		w.publish = func(host string, p *mqtt.Publish) []mqtt.Packet {
			if silent {
				return nil
			}
			return answering(func() int { return 200 })(host, p)
		}
		d := w.boot(nil, nil)
		defer d.stop()
		pass(time.Second)
		answered := make(chan error, 1)
		go func() { _, err := d.Twin(context.Background()); answered <- err }()
		pass(time.Second)
		w.set(func() { silent = false })
		w.cut("alpha.test")
		if err := <-answered; err != nil {
			t.Error(err)
		}
		if tries, visits := len(w.sent("$iothub/twin/GET/")), len(w.to("alpha.test")); tries != 2 || visits != 2 {
			t.Errorf("%d tries over %d connections", tries, visits)
		}
	})
}

func TestMethods(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		ended := make(chan error, 8)
		d := w.boot(nil, func(c *device.Client) {
			c.OnMethod("echo", func(_ context.Context, payload []byte) (int, []byte) { return 201, payload })
			c.OnMethod("hang", func(ctx context.Context, _ []byte) (int, []byte) { <-ctx.Done(); ended <- ctx.Err(); return 200, nil })
		})
		pass(time.Second)
		call := func(name, rid string) {
			w.send("alpha.test", &mqtt.Publish{Topic: "$iothub/methods/POST/" + name + "/?$rid=" + rid, Payload: []byte(`[1]`)})
			synctest.Wait()
		}
		call("echo", "a")
		call("none", "b")
		for range 8 {
			call("hang", "c")
		}
		call("echo", "d")
		for rid, status := range map[string]string{"a": "201", "b": "404", "d": "429"} {
			if got := w.sent("$iothub/methods/res/" + status + "/?$rid=" + rid); len(got) != 1 {
				t.Errorf("%d answers %s to %s", len(got), status, rid)
			}
		}
		if got := w.sent("$iothub/methods/res/201/"); len(got) == 1 && string(got[0].Payload) != `[1]` {
			t.Errorf("echo %s", got[0].Payload)
		}
		d.stop()
		if len(ended) != 8 || !errors.Is(<-ended, context.Canceled) {
			t.Errorf("%d methods ended with their device", len(ended))
		}
	})
}

func TestAMessageIsAcknowledgedWhenItsHandlerIsDone(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		proceed := make(chan struct{})
		var got []device.Message
		d := w.boot(nil, func(c *device.Client) {
			c.OnMessage(func(m device.Message) { <-proceed; got = append(got, m) })
		})
		defer d.stop()
		pass(time.Second)
		w.send("alpha.test", &mqtt.Publish{Topic: "devices/d/messages/devicebound/%24.mid=m1&%24.cid=c&a%20b=%26", Payload: []byte("body"), QoS: 1, PacketID: 9})
		w.send("alpha.test", &mqtt.Publish{Topic: "devices/d/messages/devicebound/%24.mid=%zz", QoS: 1, PacketID: 10})
		pass(time.Second)
		if len(w.acks) != 0 {
			t.Error("acknowledged before it was handled")
		}
		close(proceed)
		pass(time.Second)
		if len(w.acks) != 2 || len(got) != 1 || got[0].ID != "m1" || got[0].CorrelationID != "c" || got[0].Properties["a b"] != "&" || string(got[0].Body) != "body" {
			t.Errorf("acknowledged %v, got %+v", w.acks, got)
		}
	})
}

func TestAMessageNoHubTakesDoesNotHoldUpTheOthers(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		w.publish = func(host string, p *mqtt.Publish) []mqtt.Packet {
			if string(p.Payload) == "poison" {
				conn := w.open[host][len(w.open[host])-1]
				conn.Close()
				return nil
			}
			return acknowledge(p)
		}
		d := w.boot(func(c *device.Config) { c.Policy.Attempts = 3 }, nil)
		defer d.stop()
		results := make(chan error, 2)
		go func() { results <- d.Send(context.Background(), device.Message{Body: []byte("poison")}) }()
		synctest.Wait()
		go func() { results <- d.Send(context.Background(), device.Message{Body: []byte("good")}) }()
		if err := <-results; !errors.Is(err, device.ErrGivenUp) {
			t.Errorf("the first: %v", err)
		}
		if err := <-results; err != nil {
			t.Errorf("the second: %v", err)
		}
		if counters := d.Counters(); counters.Acked != 1 || counters.Dropped != 1 {
			t.Errorf("%+v", counters)
		}
	})
}

func TestSDK14OrderSurvivesOutages(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		d := w.boot(nil, nil)
		defer d.stop()
		for i := range 500 {
			if err := d.Enqueue(device.Message{ID: fmt.Sprint(i), Body: fmt.Append(nil, i)}); err != nil {
				t.Fatal(err)
			}
			if i%100 == 50 {
				pass(10 * time.Millisecond)
				w.cut("alpha.test")
			}
		}
		pass(time.Hour / 2)
		next := 0
		for _, p := range w.sent("devices/d/messages/events/") {
			if string(p.Payload) == fmt.Sprint(next) {
				next++
			} else if n := 0; !known(string(p.Payload), &n) || n > next {
				t.Fatalf("%s before %d", p.Payload, next)
			}
		}
		if next != 500 {
			t.Errorf("%d of 500 arrived", next)
		}
	})
}

func known(text string, n *int) bool {
	_, err := fmt.Sscan(text, n)
	return err == nil
}

func TestMessagesAHubWouldNotTakeAreRefusedHere(t *testing.T) {
	client, err := device.New(device.Config{Provisioning: "dps.test", IDScope: "s", RegistrationID: "d", Key: []byte("key")})
	if err != nil {
		t.Fatal(err)
	}
	many := map[string]string{}
	for i := range 300 {
		many[fmt.Sprint(i)] = ""
	}
	for name, c := range map[string]struct {
		message device.Message
		want    error
	}{
		"body":       {device.Message{Body: make([]byte, 262145)}, device.ErrTooLarge},
		"whole":      {device.Message{Body: make([]byte, 262144), Properties: map[string]string{"a": ""}}, device.ErrTooLarge},
		"topic":      {device.Message{Properties: map[string]string{"a": strings.Repeat("é", 20000)}}, device.ErrTooLarge},
		"count":      {device.Message{Properties: many}, device.ErrTooLarge},
		"id":         {device.Message{ID: strings.Repeat("i", 129)}, device.ErrTooLarge},
		"no name":    {device.Message{Properties: map[string]string{"": "a"}}, device.ErrInvalid},
		"our name":   {device.Message{Properties: map[string]string{"$.mid": "a"}}, device.ErrInvalid},
		"just right": {device.Message{ID: "i", Body: make([]byte, 262143)}, nil},
	} {
		if err := client.Enqueue(c.message); !errors.Is(err, c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := client.Report(t.Context(), []byte(`{`)); !errors.Is(err, device.ErrInvalid) {
		t.Errorf("a patch that is no JSON: %v", err)
	}
}

func TestSDK12PeriodicWorkHasAPhase(t *testing.T) {
	in(t, func(t *testing.T, _ *world) {
		const devices, period = 200, 20 * time.Second
		ctx, cancel := context.WithTimeout(t.Context(), 10*period)
		defer cancel()
		var histogram [10]int
		calls := make(chan time.Duration, devices*11)
		for i := range devices {
			client, err := device.New(device.Config{Provisioning: "p", IDScope: "s", RegistrationID: fmt.Sprint("d", i), Key: []byte("key")})
			if err != nil {
				t.Fatal(err)
			}
			began := time.Now()
			go client.Periodic(ctx, func() time.Duration { return period }, func(context.Context) { calls <- time.Since(began) % period })
		}
		<-ctx.Done()
		synctest.Wait()
		close(calls)
		for at := range calls {
			histogram[at*10/period]++
		}
		chi := 0.0
		for _, n := range histogram {
			chi += math.Pow(float64(n)/10-devices/10, 2) / (devices / 10)
		}
		if chi > 27.9 { // the 0.1 % point with 9 degrees of freedom
			t.Errorf("devices work in step: %v", histogram)
		}
	})
}

func TestNothingWaitsForADeviceThatHasEnded(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		w.down["dps.test"] = true
		d := w.boot(nil, nil)
		asked, sent := make(chan error, 1), make(chan error, 1)
		go func() { _, err := d.Twin(context.Background()); asked <- err }()
		go func() { sent <- d.Send(context.Background(), device.Message{}) }()
		pass(time.Minute)
		d.stop()
		for _, ch := range []chan error{asked, sent} {
			if err := <-ch; !errors.Is(err, device.ErrClosed) {
				t.Error(err)
			}
		}
		if err := d.Run(t.Context()); !errors.Is(err, device.ErrClosed) {
			t.Errorf("a second run: %v", err)
		}
	})
}

func TestAHandlerThatHangsCostsTheConnectionAndNoMore(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		proceed := make(chan struct{})
		d := w.boot(nil, func(c *device.Client) { c.OnDesired(func(int64, []byte) { <-proceed }) })
		defer d.stop()
		defer close(proceed)
		pass(time.Second)
		for range 1100 {
			w.send("alpha.test", &mqtt.Publish{Topic: "$iothub/twin/PATCH/properties/desired/?$version=7", Payload: []byte(`{"a":1}`)})
		}
		pass(time.Minute)
		if err := d.Send(t.Context(), device.Message{}); err != nil || len(w.to("alpha.test")) != 2 {
			t.Errorf("%v after %d connections", err, len(w.to("alpha.test")))
		}
	})
}
