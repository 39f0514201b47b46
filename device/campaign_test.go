package device_test

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/slipway/slipway/device"
	"github.com/slipway/slipway/device/retry"
	"github.com/slipway/slipway/internal/mqtt"
)

func TestSDK4AnUnreachableHubIsTriedInBoundedCampaigns(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		w.down["alpha.test"] = true
		d := w.boot(nil, nil)
		defer d.stop()
		pass(24 * time.Hour)
		dormant := len(d.told(device.Dormant))
		if dormant < 20 {
			t.Errorf("%d campaigns ended within a day", dormant)
		}
		visits, campaign, campaigns := w.to("alpha.test"), 1, 1
		for i := 1; i < len(visits); i++ {
			gap := visits[i].at.Sub(visits[i-1].at)
			campaign++
			if gap >= 15*time.Minute {
				campaign, campaigns = 1, campaigns+1
			} else if gap > retry.Default.Cap || campaign > retry.Default.Attempts {
				t.Fatalf("attempt %d of a campaign, %s after the one before", campaign, gap)
			}
		}
		if asked := len(w.to("dps.test")); asked != campaigns {
			t.Errorf("provisioning was asked %d times in %d campaigns", asked, campaigns)
		}
		w.set(func() { w.register = assign("beta.test") })
		pass(3 * time.Hour)
		if connected := d.told(device.Connected); len(connected) == 0 || connected[0].Assignment.Hub != "beta.test" {
			t.Errorf("a device whose hub was replaced: %v", connected)
		}
	})
}

func TestAHubIsTriedThoughProvisioningIsGone(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		d := w.boot(nil, nil)
		defer d.stop()
		pass(time.Hour / 2)
		w.set(func() { w.down["alpha.test"], w.down["dps.test"] = true, true })
		w.cut("alpha.test")
		pass(6 * time.Hour)
		w.set(func() { w.down["alpha.test"] = false })
		pass(time.Hour)
		if connected := d.told(device.Connected); len(connected) < 2 {
			t.Errorf("connected %d times", len(connected))
		}
	})
}

func TestSDK6ProvisioningSaysWhenToComeBack(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		busy := 2
		w.register = func(rid, topic string) []answers {
			if busy--; busy >= 0 {
				return []answers{{"429/?$rid=" + rid + "&retry-after=40", `{"errorCode":429001,"message":"later"}`}}
			}
			return assign("alpha.test")(rid, topic)
		}
		d := w.boot(nil, nil)
		defer d.stop()
		pass(5 * time.Minute)
		visits := w.to("dps.test")
		if len(visits) != 3 || len(d.told(device.Connected)) != 1 {
			t.Fatalf("%d visits", len(visits))
		}
		for i := 1; i < 3; i++ {
			if gap := visits[i].at.Sub(visits[i-1].at); gap < 40*time.Second || gap > 51*time.Second {
				t.Errorf("asked for 40s, came after %s", gap)
			}
		}
		var refusal *device.Refusal
		if refused := d.told(device.Refused); len(refused) != 2 || !errors.As(refused[0].Err, &refusal) || refusal.Status != 429 || refusal.Permanent || refusal.Message != "later" {
			t.Errorf("refused: %+v", refused)
		}
	})
}

func TestSDK6TheHubSaysWhenToComeBack(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		w.codes["alpha.test"], w.later["alpha.test"] = mqtt.ServerUnavailable, 100
		d := w.boot(nil, nil)
		defer d.stop()
		pass(90 * time.Second)
		w.set(func() { delete(w.codes, "alpha.test") })
		pass(2 * time.Minute)
		visits := w.to("alpha.test")
		if len(visits) != 2 || len(d.told(device.Connected)) != 1 {
			t.Fatalf("%d visits to a hub that asked for one", len(visits))
		}
		if gap := visits[1].at.Sub(visits[0].at); gap < 100*time.Second || gap > 130*time.Second {
			t.Errorf("told to come back after 100 s, it came after %s", gap)
		}
	})
}

// TestSRV7ADeviceThatIsSentAwayComesBackAtItsTime: an announced end is no
// failure, and nothing that was sent is lost over it.
func TestSRV7ADeviceThatIsSentAwayComesBackAtItsTime(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		d := w.boot(nil, nil)
		defer d.stop()
		pass(5 * time.Minute)
		w.send("alpha.test", &mqtt.Publish{Topic: "$slipway/retry-after/40"})
		sent := time.Now()
		pass(10 * time.Second)
		if err := d.Enqueue(device.Message{Body: []byte("1")}); err != nil {
			t.Fatal(err)
		}
		pass(5 * time.Minute)
		visits := w.to("alpha.test")
		if len(visits) != 2 {
			t.Fatalf("%d visits", len(visits))
		}
		if gap := visits[1].at.Sub(sent); gap < 40*time.Second || gap > 42*time.Second {
			t.Errorf("sent away for 40 s, it came back after %s", gap)
		}
		if waits := d.told(device.Waiting); len(waits) != 1 || waits[0].Err != nil {
			t.Errorf("it waited %d times: %v", len(waits), waits)
		}
		if len(w.sent("devices/d/messages/events/")) != 1 {
			t.Error("what was queued meanwhile was not sent")
		}
		for i := range 5 { // a hub that does it again and again is a fault like others
			w.send("alpha.test", &mqtt.Publish{Topic: "$slipway/retry-after/0"})
			pass(time.Duration(i+1) * 10 * time.Second)
		}
		if waits := d.told(device.Waiting); waits[len(waits)-1].Delay > 5*time.Minute {
			t.Errorf("%v", waits)
		}
	})
}

func TestSDK6ARunningRegistrationIsPolledWhenTheServerSays(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		var asked []time.Time
		var topics []string
		w.register = func(rid, topic string) []answers {
			asked, topics = append(asked, time.Now()), append(topics, topic)
			if len(asked) < 3 {
				// An answer to another request comes first, as redelivery may have it.
				return []answers{{"200/?$rid=other", `{"status":"failed"}`}, {"202/?$rid=" + rid + "&retry-after=7", `{"operationId":"o p","status":"assigning"}`}}
			}
			return assign("alpha.test")(rid, topic)
		}
		d := w.boot(nil, nil)
		defer d.stop()
		pass(time.Minute)
		if len(d.told(device.Connected)) != 1 || len(w.to("dps.test")) != 1 {
			t.Fatalf("not connected after one conversation: %+v, topics %q", d.events, topics)
		}
		for i := 1; i < 3; i++ {
			if gap := asked[i].Sub(asked[i-1]); gap < 7*time.Second || gap > 9*time.Second {
				t.Errorf("polled after %s", gap)
			}
		}
		if topics[1] != "$dps/registrations/GET/iotdps-get-operationstatus/?$rid=2&operationId=o%20p" {
			t.Errorf("polled on %s", topics[1])
		}
	})
}

func TestSDK7ProvisioningsAnswersAreFinalOrNot(t *testing.T) {
	for name, c := range map[string]struct {
		topic, body string
		final       bool
	}{
		"unauthorized":        {"401/?$rid=", `{"errorCode":401002,"message":"no"}`, true},
		"unknown":             {"404/?$rid=", `{"errorCode":404201,"message":"no"}`, true},
		"disabled":            {"200/?$rid=", `{"operationId":"o","status":"disabled"}`, true},
		"failed for good":     {"200/?$rid=", `{"status":"failed","registrationState":{"errorCode":400209,"errorMessage":"no"}}`, true},
		"failed for now":      {"200/?$rid=", `{"status":"failed","registrationState":{"errorCode":503001,"errorMessage":"full"}}`, false},
		"broken":              {"500/?$rid=", ``, false},
		"assigned to nothing": {"200/?$rid=", `{"status":"assigned","registrationState":{"deviceId":"d"}}`, false},
		"nonsense":            {"200/?$rid=", `nonsense`, false},
	} {
		t.Run(name, func(t *testing.T) {
			in(t, func(t *testing.T, w *world) {
				w.register = func(rid, _ string) []answers { return []answers{{c.topic + rid, c.body}} }
				d := w.boot(nil, nil)
				defer d.stop()
				pass(10 * time.Minute)
				if visits := len(w.to("dps.test")); (visits == 1) != c.final {
					t.Errorf("asked %d times", visits)
				}
				if dormant := len(d.told(device.Dormant)); (dormant == 1) != c.final {
					t.Errorf("%d campaigns given up", dormant)
				}
			})
		})
	}
}

func TestSDK8OnlyAConnectionThatHeldResetsTheBackOff(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		d := w.boot(nil, nil)
		defer d.stop()
		flap := func(up time.Duration, times int) (last time.Duration) {
			for range times {
				before := len(d.told(device.Connected))
				synctest.Wait()
				pass(up)
				w.cut("alpha.test")
				synctest.Wait()
				waits := d.told(device.Waiting)
				last = waits[len(waits)-1].Delay
				for len(d.told(device.Connected)) == before {
					pass(time.Second)
				}
			}
			return last
		}
		pass(time.Second)
		longest := time.Duration(0)
		for range 8 {
			longest = max(longest, flap(20*time.Second, 1))
		}
		if longest <= 2*retry.Default.Base {
			t.Errorf("eight flaps, and still no wait longer than %s", longest)
		}
		if after := flap(61*time.Second, 1); after > retry.Default.Base {
			t.Errorf("after a connection that held: %s", after)
		}
	})
}

// crash is what a loss of power leaves: a store as it is at this moment.
func crash(t *testing.T, store device.Store) device.Store {
	t.Helper()
	text, err := store.Load()
	if err != nil {
		t.Fatal(err)
	}
	left := &device.MemoryStore{}
	if err := left.Save(text); err != nil {
		t.Fatal(err)
	}
	return left
}

func TestSDK13ABootLoopBacksOffAndALongLifeDoesNot(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		var store device.Store = &device.MemoryStore{}
		boot := func() *twin { return w.boot(func(c *device.Config) { c.Store = store }, nil) }
		reboot := func(d *twin) *twin {
			left := crash(t, store)
			d.stop()
			store = left
			return boot()
		}
		d := boot()
		pass(100 * time.Hour)
		w.set(func() { w.down["alpha.test"] = true })
		d = reboot(d)
		pass(time.Second)
		w.set(func() { w.down["alpha.test"] = false })
		pass(10 * time.Second)
		if len(d.told(device.Dormant)) != 0 || len(d.told(device.Connected)) != 1 {
			t.Error("a device that lost power after days, and found no network for a second, gave up")
		}
		if asked := len(w.to("dps.test")); asked != 1 {
			t.Errorf("registered %d times", asked)
		}
		before := len(w.to("alpha.test"))
		for range 60 { // a crash two seconds after each boot
			d = reboot(d)
			pass(2 * time.Second)
		}
		if visits := len(w.to("alpha.test")) - before; visits > 20 {
			t.Errorf("%d connections by a boot loop of 60", visits)
		}
		d.stop()
	})
}

func TestSDK2DevicesWithoutAStoreDifferAtEachBoot(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		w.down["dps.test"] = true
		delays := map[time.Duration]bool{}
		for range 20 {
			d := w.boot(nil, nil)
			pass(time.Millisecond)
			delays[d.told(device.Waiting)[0].Delay] = true
			d.stop()
		}
		if len(delays) != 20 {
			t.Errorf("%d different delays at 20 boots", len(delays))
		}
	})
}

func TestTokensAreRenewedWithinTheirHour(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		d := w.boot(nil, nil)
		defer d.stop()
		pass(7 * time.Hour)
		visits := w.to("alpha.test")
		if len(visits) != 9 || len(d.told(device.Waiting)) != 0 {
			t.Errorf("%d connections, %d waits", len(visits), len(d.told(device.Waiting)))
		}
		first := visits[0].connect
		if first.CleanSession || first.ClientID != "d" || !strings.HasPrefix(first.Username, "alpha.test/d/?api-version=2021-04-12&DeviceClientType=slipway-go%2F") {
			t.Errorf("CONNECT %+v", first)
		}
		if !strings.Contains(string(first.Password), "sr=alpha.test%2Fdevices%2Fd&") || string(first.Password) == string(visits[1].connect.Password) {
			t.Errorf("token %s", first.Password)
		}
		if dps := w.to("dps.test")[0].connect; !strings.Contains(string(dps.Password), "sr=0ne1%2Fregistrations%2Fd&") || !strings.HasSuffix(string(dps.Password), "&skn=registration") || !dps.CleanSession {
			t.Errorf("CONNECT to provisioning %+v", dps)
		}
	})
}

func TestADeviceWithACertificateNeedsNoToken(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		d := w.boot(func(c *device.Config) { c.Key, c.Certificate = nil, &authority }, nil)
		defer d.stop()
		pass(7 * time.Hour)
		visits := append(w.to("dps.test"), w.to("alpha.test")...)
		if len(visits) != 2 {
			t.Fatalf("%d connections in seven hours", len(visits))
		}
		for _, v := range visits {
			if v.proofs != 1 || v.connect.HasPassword {
				t.Errorf("%s got %d certificates, a password: %v", v.host, v.proofs, v.connect.HasPassword)
			}
		}
	})
}

// broken is a store on a disk that has failed.
type broken struct{}

func (broken) Load() ([]byte, error) { return nil, errors.New("no disk") }
func (broken) Save([]byte) error     { return errors.New("no disk") }

func TestABrokenStoreStrandsNoDevice(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		d := w.boot(func(c *device.Config) { c.Store = broken{} }, nil)
		defer d.stop()
		pass(time.Minute)
		if len(d.told(device.Connected)) != 1 || len(d.told(device.Unsaved)) == 0 {
			t.Errorf("events %+v", d.events)
		}
	})
}

func TestADamagedStoreRegistersAnew(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		store := &device.MemoryStore{}
		if err := store.Save([]byte(`{"assignment":{"hub":7`)); err != nil {
			t.Fatal(err)
		}
		d := w.boot(func(c *device.Config) { c.Store = store }, nil)
		defer d.stop()
		pass(time.Minute)
		if len(d.told(device.Connected)) != 1 || len(d.told(device.Unsaved)) != 1 {
			t.Errorf("events %+v", d.events)
		}
	})
}

func TestAHubThatFallsSilentIsLeft(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		d := w.boot(nil, nil)
		defer d.stop()
		pass(time.Second)
		w.set(func() { w.publish = func(string, *mqtt.Publish) []mqtt.Packet { return nil } })
		if err := d.Enqueue(device.Message{Body: []byte("1")}); err != nil {
			t.Fatal(err)
		}
		pass(2 * time.Minute)
		w.set(func() { w.publish = func(_ string, p *mqtt.Publish) []mqtt.Packet { return acknowledge(p) } })
		pass(5 * time.Minute)
		if counters := d.Counters(); counters.Acked != 1 || counters.Queued != 0 {
			t.Errorf("%+v after %d connections", counters, len(d.told(device.Connected)))
		}
	})
}
