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
	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/serve"
	"github.com/slipway/slipway/internal/simfleet"
)

// pipeline is an installation with four environments, the last of them of three
// stamps in rings, and simulated devices in each.
type pipeline struct {
	*planes
	live int // devices of the last environment
}

var pipelineStamps = []string{"dev-1", "qa-1", "staging-1", "live-1", "live-2", "live-3"}

// policies are what the environments demand. Times are short, as the test's
// are; shares are as people have them.
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
        - { name: some, share: 0.2, soak: %s }
        - { name: all, share: 1 }
      attempts: 1
      deadline: 2m
      health: { maxFailures: 0.05, minDevices: 10, minPerHardware: 3, compare: { reconnects: 1, alpha: 0.01, minDeviceSeconds: 50, onNoData: pass-with-reason } }
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

func startPipeline(t *testing.T) *pipeline {
	t.Helper()
	p := &pipeline{planes: startPlanes(t, "", pipelineStamps...), live: liveDevices(t)}
	eventually(t, "the stamps are in the directory", 60*time.Second, func() bool {
		return strings.Count(p.must("stamp", "list"), "127.77.") == len(pipelineStamps)
	})
	soak := "12s"
	if p.live >= 3000 {
		soak = "60s"
	}
	groups := fmt.Sprintf(policies, soak)
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
			CA: p.pool, StartRate: 100, ReportEvery: time.Hour, UpdateTime: 2 * time.Second, ReconnectEvery: time.Duration(max(8, min(60, p.live/60))) * time.Second,
			Policy: retry.Policy{Base: 100 * time.Millisecond, Cap: time.Second, Stable: time.Millisecond}, // breaks are no failures here
		})
		if err != nil {
			t.Fatal(err)
		}
		running.Go(func() {
			if err := fleet.Run(ctx); err != nil && ctx.Err() == nil {
				t.Error(err)
			}
		})
		eventually(t, "devices of "+environment+" are connected", 5*time.Minute, func() bool { return fleet.Stats().Provisioned >= int64(devices) })
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
	eventually(p.t, "slipway "+strings.Join(args, " "), time.Minute, func() bool {
		var err error
		out, err = p.run(args...)
		return err == nil
	})
	return out
}

// promote asks for a release and follows the promotion to its end.
func (p *pipeline) promote(release, environment string) (state string) {
	p.t.Helper()
	var id string
	eventually(p.t, "a promotion of "+release+" to "+environment, time.Minute, func() bool {
		started, err := p.api.StartPromotion(p.t.Context(), environment, release, "the test asks")
		id = started.ID
		return err == nil
	})
	if environment == "live" {
		other := p.person("colleague")
		eventually(p.t, "somebody agrees", time.Minute, func() bool {
			_, err := other.SayOfPromotion(p.t.Context(), id, "approve", "looks good")
			return err == nil
		})
	}
	var reasons []string
	limit := time.Now().Add(4 * time.Minute)
	for time.Now().Before(limit) {
		shown, err := p.api.Promotion(p.t.Context(), id)
		if err == nil {
			state, reasons = string(shown.State), nil
			for _, b := range shown.Blocks {
				reasons = append(reasons, b.Reason)
			}
			if shown.State.Over() {
				return state
			}
		}
		<-time.After(100 * time.Millisecond)
	}
	p.t.Fatalf("%s to %s is still %s: %s\n%s", release, environment, state, strings.Join(reasons, "; "), p.persist("promotion", "show", id))
	return state
}

// person is the API as somebody else.
func (p *pipeline) person(name string) *client.Client {
	p.t.Helper()
	var secret string
	eventually(p.t, "a token for "+name, time.Minute, func() bool {
		token, err := p.api.CreateToken(p.t.Context(), name, "", time.Hour)
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
	eventually(p.t, "every device runs "+release, 3*time.Minute, func() bool {
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
			case <-time.After(200 * time.Millisecond):
			}
		}
	}()
	return func() int {
		close(stop)
		<-ended
		return len(exposed)
	}
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
	if state := p.promote(name, "live"); state != "rolledBack" {
		p.t.Errorf("%s, which is bad, ended as %s", name, state)
	}
	exposed = end()
	p.t.Logf("%s was caught and taken back within %s; %d of %d devices tried it", name, time.Since(begin).Round(time.Second), exposed, p.live)
	p.everyoneRuns("v2")
	return exposed
}

// waved brings a release into an environment whose few devices do not show what
// is wrong with it.
func (p *pipeline) waved(name, environment string) {
	p.t.Helper()
	if state := p.promote(name, environment); state != "succeeded" {
		p.t.Fatalf("%s to %s ended as %s", name, environment, state)
	}
}

// TestAReleaseTravelsToTheLastDevice promotes releases from the first
// environment to the last, over three stamps in rings, while control is killed
// now and again. Bad ones are caught by what devices report and taken back;
// nobody is forgotten.
func TestAReleaseTravelsToTheLastDevice(t *testing.T) {
	t.Parallel()
	p := startPipeline(t)
	for _, release := range []string{"v1", "v2"} {
		p.release(release, "")
		for _, environment := range []string{"dev", "qa", "staging", "live"} {
			begin := time.Now()
			p.waved(release, environment)
			t.Logf("%s is in %s after %s", release, environment, time.Since(begin).Round(100*time.Millisecond))
		}
		p.everyoneRuns(release)
	}
	quiet := p.killControlNowAndThen()
	defer quiet()
	if exposed := p.bad("v3", ` simulate: fail-self-test, simulateEnvironment: live `); exposed > max(3, p.live*12/1000) {
		t.Errorf("%d of %d devices tried a release that fails everywhere", exposed, p.live)
	}
	more := "reconnects+400%" // of which few devices show enough in a short time
	if p.live >= 3000 {
		more = "reconnects+30%"
	}
	p.bad("v4", ` simulate: "`+more+`", simulateEnvironment: live `)
	p.bad("v5", ` simulate: fail-self-test, simulateHardware: gw-200, simulateEnvironment: live `)
}

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
			case <-time.After(time.Duration(10+rand.IntN(20)) * time.Second):
			}
			p.end(serve.Control, syscall.SIGKILL)
			p.again(serve.Control)
			kills++
		}
	}()
	return func() { close(stop); <-ended }
}
