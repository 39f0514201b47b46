package test

import (
	"cmp"
	"context"
	"encoding/base64"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/slipway/slipway/device/retry"
	"github.com/slipway/slipway/internal/client"
	"github.com/slipway/slipway/internal/control/access"
	"github.com/slipway/slipway/internal/control/promotion"
	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/serve"
	"github.com/slipway/slipway/internal/simfleet"
)

// pipeline is an installation with four environments, the last of them of three
// stamps in rings, and simulated devices in each.
type pipeline struct {
	*planes
	live   int // devices of the last environment
	orders orders
}

var pipelineStamps = []string{"dev-1", "qa-1", "staging-1", "live-1", "live-2", "live-3"}

// policies are what the environments demand, but for how long a wave lasts that
// compares devices. Shares are as people have them.
const policies = `
apiVersion: slipway/v1
kind: Environment
metadata: { name: dev }
spec: {}
---
apiVersion: slipway/v1
kind: Environment
metadata: { name: qa }
spec: { promotesFrom: dev, promotion: { gates: [{ name: tests, key: true, tests: { suites: [unit] } }] } }
---
apiVersion: slipway/v1
kind: Environment
metadata: { name: staging }
spec: { promotesFrom: qa, promotion: { rollout: { waves: [{ share: 1 }] } } }
---
apiVersion: slipway/v1
kind: Environment
metadata: { name: live }
spec:
  promotesFrom: staging
  promotion:
    gates:
      - { name: agreed, key: true, approvals: { count: 1 } }
      - { name: healthy, key: true, devices: { environment: staging, must: "properties.reported.slipway.phase = 'confirmed'", atLeast: 1, share: 1 } }
    rollout:
      waves:
        - { name: canary, share: 0.01 }
        - { name: some, share: 0.2, soak: SOAK }
        - { name: all, share: 1 }
      attempts: 1
      deadline: 10m
      health: { maxFailures: 0.05, minDevices: 10, minPerHardware: 3, compare: { reconnects: 1, alpha: 0.001, minDeviceSeconds: 50, onNoData: pass-with-reason } }
---
apiVersion: slipway/v1
kind: Stamp
metadata: { name: live-1 }
spec: { environment: live, region: here, ring: 0 }
---
apiVersion: slipway/v1
kind: Stamp
metadata: { name: live-2 }
spec: { environment: live, region: here, ring: 1 }
---
apiVersion: slipway/v1
kind: Stamp
metadata: { name: live-3 }
spec: { environment: live, region: here, ring: 2 }
---
`

// liveDevices is how many devices the last environment has; SLIPWAY_FLEET asks
// for another number.
func liveDevices(t *testing.T) int {
	t.Helper()
	n, err := strconv.Atoi(cmp.Or(os.Getenv("SLIPWAY_FLEET"), "300"))
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// large reports whether there are as many devices as it takes to see that they
// reconnect by a third more often.
func (p *pipeline) large() bool { return p.live >= 3000 }

// soak has the wave that compares devices last so long at least. Good releases
// need not wait for long; bad ones are to be caught before it is over.
func (p *pipeline) soak(long time.Duration) {
	p.t.Helper()
	file := filepath.Join(p.t.TempDir(), "policies.yaml")
	if err := os.WriteFile(file, []byte(strings.TrimSuffix(strings.Replace(policies, "SOAK", long.String(), 1), "---\n")), 0o600); err != nil {
		p.t.Fatal(err)
	}
	p.persist("apply", "-f", file)
}

func startPipeline(t *testing.T) *pipeline {
	t.Helper()
	p := &pipeline{planes: startPlanes(t, "", pipelineStamps...), live: liveDevices(t)}
	eventually(t, "the stamps are in the directory", patient, func() bool {
		return strings.Count(p.must("stamp", "list"), "127.77.") == len(pipelineStamps)
	})
	p.soak(3 * time.Second)
	reconnect := 30 * time.Second
	if p.large() {
		reconnect = time.Minute
	}
	groups := ""
	p.keys = map[string][]byte{}
	for i, environment := range []string{"dev", "qa", "staging", "live"} {
		p.keys[environment] = []byte(fmt.Sprintf("0123456789abcdef0123456789abcd%02d", i))
		groups += "apiVersion: slipway/v1\nkind: EnrollmentGroup\nmetadata: { name: " + environment + " }\nspec:\n  environment: " + environment +
			"\n  attestation: { symmetricKey: { primaryKey: " + base64.StdEncoding.EncodeToString(p.keys[environment]) + " } }\n  allocation: { policy: leastLoaded }\n---\n"
	}
	p.apply(strings.TrimSuffix(groups, "---\n"))
	ctx, stop := context.WithCancel(context.Background())
	var running sync.WaitGroup
	t.Cleanup(func() { stop(); running.Wait() })
	for environment, devices := range map[string]int{"dev": 2, "qa": 2, "staging": 10, "live": p.live} {
		fleet, err := simfleet.New(simfleet.Options{
			Devices: devices, Pattern: environment + "-%05d", Provisioning: p.provisioningAddress(), IDScope: p.ready.Provisioning.IDScope, GroupKey: p.keys[environment],
			CA: p.pool, StartRate: 100, ReportEvery: time.Hour, UpdateTime: 2 * time.Second, ReconnectEvery: reconnect,
			Policy:  retry.Policy{Base: 100 * time.Millisecond, Cap: time.Second, Stable: time.Millisecond}, // breaks are no failures here
			Ordered: p.orders.note,
		})
		if err != nil {
			t.Fatal(err)
		}
		running.Go(func() {
			if err := fleet.Run(ctx); err != nil && ctx.Err() == nil {
				t.Error(err)
			}
		})
		eventually(t, "devices of "+environment+" are connected", patient, func() bool { return fleet.Stats().Provisioned >= int64(devices) })
	}
	return p
}

// release makes a release of a firmware that behaves as its metadata says.
func (p *pipeline) release(name, metadata string) {
	p.t.Helper()
	dir := p.t.TempDir()
	for file, text := range map[string]string{
		"firmware.bin": "firmware " + name,
		"unit.xml":     `<testsuite name="unit" tests="2"><testcase name="a"/><testcase name="b"/></testsuite>`,
		"release.yaml": "apiVersion: slipway/v1\nkind: Release\nmetadata: { name: " + name + " }\nspec:\n  software:\n    - { name: firmware, version: " + name +
			", hardware: [gw-100, gw-200], artifacts: [{ path: firmware.bin }], metadata: {" + metadata + "} }\n  configuration: { cadence: " + strconv.Itoa(len(name)) + " }\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, file), []byte(text), 0o600); err != nil {
			p.t.Fatal(err)
		}
	}
	p.persist("release", "create", "-f", filepath.Join(dir, "release.yaml"))
	p.persist("test-results", "upload", name, filepath.Join(dir, "unit.xml"), "--suite", "unit", "--environment", "dev")
}

// persist runs a command until control, which may be killed meanwhile, takes it.
func (p *pipeline) persist(args ...string) (out string) {
	p.t.Helper()
	eventually(p.t, "slipway "+strings.Join(args, " "), patient, func() bool {
		var err error
		out, err = p.run(args...)
		return err == nil
	})
	return out
}

// patient is how long something may take on a machine with much else to do. It
// decides nothing but when a test has failed.
const patient = 10 * time.Minute

// promote asks for a release and follows the promotion to its end.
func (p *pipeline) promote(release, environment string) (shown promotion.Dossier) {
	p.t.Helper()
	var id string
	eventually(p.t, "a promotion of "+release+" to "+environment, patient, func() bool {
		started, err := p.api.StartPromotion(p.t.Context(), environment, release, "the test asks")
		id = started.ID
		return err == nil
	})
	if environment == "live" {
		other := p.person("colleague")
		eventually(p.t, "somebody agrees", patient, func() bool {
			_, err := other.SayOfPromotion(p.t.Context(), id, "approve", "looks good")
			return err == nil
		})
	}
	for limit := time.Now().Add(patient); time.Now().Before(limit); <-time.After(200 * time.Millisecond) {
		if now, err := p.api.Promotion(p.t.Context(), id); err == nil {
			if shown = now; shown.State.Over() {
				return shown
			}
		}
	}
	p.t.Fatalf("%s to %s is still %s\n%s", release, environment, shown.State, p.persist("promotion", "show", id))
	return shown
}

// person is the API as somebody else.
func (p *pipeline) person(name string) *client.Client {
	p.t.Helper()
	var secret string
	eventually(p.t, "a token for "+name, patient, func() bool {
		token, err := p.api.CreateToken(p.t.Context(), access.NewToken{Name: name, Life: time.Hour})
		secret = token.Secret
		return err == nil
	})
	c, err := client.New(client.Options{URL: p.ready.API, Token: secret, CAFile: p.ready.CA})
	if err != nil {
		p.t.Fatal(err)
	}
	return c
}

// census is every device of the last environment by id.
func (p *pipeline) census() map[string]link.Update {
	p.t.Helper()
	all := map[string]link.Update{}
	for _, stamp := range []string{"live-1", "live-2", "live-3"} {
		for after := ""; ; {
			page, err := p.api.Updates(p.t.Context(), stamp, "", after)
			if err != nil {
				return nil
			}
			for _, u := range page.Items {
				all[u.DeviceID] = u
			}
			if after = page.Next; after == "" {
				break
			}
		}
	}
	return all
}

// everyoneRuns waits until the census has every device, and each runs a release.
func (p *pipeline) everyoneRuns(release string) {
	p.t.Helper()
	var strays []string
	eventually(p.t, "every device runs "+release, patient, func() bool {
		all := p.census()
		strays = nil
		for id, u := range all {
			if u.State != link.UpdateDone || u.Running["firmware"] != release {
				strays = append(strays, fmt.Sprintf("%s %s %s %v", id, u.State, u.Reason, u.Running))
			}
		}
		return len(all) == p.live && len(strays) == 0
	})
}

// watch notes which devices have tried a release, until it is told to end.
func (p *pipeline) watch(release string) (end func() int) {
	exposed := map[string]bool{}
	stop, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		for {
			for id, u := range p.census() {
				failed := u.Release == release && (u.State == link.UpdateFailed || u.State == link.UpdateRolledBack)
				if failed || u.Running["firmware"] == release {
					exposed[id] = true
				}
			}
			select {
			case <-stop:
				return
			case <-time.After(500 * time.Millisecond):
			}
		}
	}()
	return func() int {
		close(stop)
		<-ended
		return len(exposed)
	}
}

// good promotes a release to every device, and returns how it came onto the last.
func (p *pipeline) good(name string) (live promotion.Dossier) {
	p.t.Helper()
	p.release(name, "")
	for _, environment := range []string{"dev", "qa", "staging", "live"} {
		begin := time.Now()
		live = p.waved(name, environment)
		p.t.Logf("%s is in %s after %s", name, environment, time.Since(begin).Round(100*time.Millisecond))
	}
	p.everyoneRuns(name)
	return live
}

// bad promotes a release that is to be caught, and returns how many devices
// tried it.
func (p *pipeline) bad(name, metadata string) (exposed int) {
	p.t.Helper()
	p.release(name, metadata)
	for _, environment := range []string{"dev", "qa", "staging"} {
		p.waved(name, environment)
	}
	end := p.watch(name)
	begin := time.Now()
	if ended := p.promote(name, "live"); ended.State != promotion.RolledBack {
		p.t.Errorf("%s, which is bad, ended as %s", name, ended.State)
	}
	exposed = end()
	p.t.Logf("%s was caught and taken back within %s; %d of %d devices tried it", name, time.Since(begin).Round(time.Second), exposed, p.live)
	p.everyoneRuns("v2")
	return exposed
}

// waved brings a release into an environment whose few devices do not show what
// is wrong with it, or that is good.
func (p *pipeline) waved(name, environment string) promotion.Dossier {
	p.t.Helper()
	ended := p.promote(name, environment)
	if ended.State != promotion.Succeeded {
		p.t.Fatalf("%s to %s ended as %s\n%s", name, environment, ended.State, p.persist("promotion", "show", ended.ID))
	}
	return ended
}

// TestAReleaseTravelsToTheLastDevice promotes releases from the first
// environment to the last, over three stamps in rings, while control is killed
// now and again. Bad ones are caught by what devices report and taken back;
// nobody is forgotten.
func TestAReleaseTravelsToTheLastDevice(t *testing.T) {
	t.Parallel()
	p := startPipeline(t)
	p.pace(p.good("v1").View.Log, "v1")
	quiet := p.killControlNowAndThen()
	defer quiet()
	p.good("v2")
	p.soak(patient)
	if exposed := p.bad("v3", ` simulate: fail-self-test, simulateEnvironment: live `); exposed > max(3, p.live*12/1000) {
		t.Errorf("%d of %d devices tried a release that fails everywhere", exposed, p.live)
	}
	more := "reconnects+400%" // of which few devices show enough in a short time
	if p.large() {
		more = "reconnects+30%"
	}
	const fifth = "%d of %d devices tried what a wave of a fifth of one stamp's shows"
	if exposed := p.bad("v4", ` simulate: "`+more+`", simulateEnvironment: live `); exposed > p.live/10 {
		t.Errorf(fifth, exposed, p.live)
	}
	if exposed := p.bad("v5", ` simulate: fail-self-test, simulateHardware: gw-200, simulateEnvironment: live `); exposed > p.live/10 {
		t.Errorf(fifth, exposed, p.live)
	}
	quiet()
	p.backAfterSuccess("v1")
}

// backAfterSuccess takes the last environment back from the release that it
// runs well, and kills control as soon as that is said.
func (p *pipeline) backAfterSuccess(to string) {
	p.t.Helper()
	begin := time.Now()
	if _, err := p.api.Rollback(p.t.Context(), "live", "", "orders are lost", false); err != nil {
		p.t.Fatal(err)
	}
	p.end(serve.Control, syscall.SIGKILL)
	p.again(serve.Control)
	up := time.Since(begin)
	p.everyoneRuns(to)
	first, last, n := p.orders.of(to, "", begin, time.Now())
	p.t.Logf("taken back after it had succeeded, with control killed and there again after %s: the first of %d devices was told after %s, the last after %s", up.Round(time.Millisecond), n, first, last)
	if n < p.live || first > up+slow {
		p.t.Errorf("%d devices were told to go back, the first after %s", n, first)
	}
}

// slow is how late a first device may be told on a machine with much else to
// do; by itself it takes a second.
const slow = 30 * time.Second

// killControlNowAndThen kills control at random moments and starts it again,
// until it is told to end.
func (p *pipeline) killControlNowAndThen() (end func()) {
	stop, ended := make(chan struct{}), make(chan struct{})
	kills := 0
	go func() {
		defer close(ended)
		for {
			select {
			case <-stop:
				p.t.Logf("control was killed %d times", kills)
				return
			case <-time.After(time.Duration(5+rand.IntN(15)) * time.Second):
			}
			p.end(serve.Control, syscall.SIGKILL)
			p.again(serve.Control)
			kills++
		}
	}()
	return sync.OnceFunc(func() { close(stop); <-ended })
}
