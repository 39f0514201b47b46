package test

import (
	"bufio"
	"context"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/slipway/slipway/internal/flag"
)

const someFlags = `
apiVersion: slipway/v1
kind: Flag
metadata: { name: fast }
spec: { state: ENABLED, variants: { "on": true, "off": false }, defaultVariant: "off", metadata: { owner: ann, devices: true } }
---
apiVersion: slipway/v1
kind: Flag
metadata: { name: headerColor }
spec:
  state: ENABLED
  variants: { red: "#f00", blue: "#00f", green: "#0f0" }
  defaultVariant: red
  targeting: { fractional: [[red, 50], [blue, 20], [green, 30]] }
---
apiVersion: slipway/v1
kind: Flag
metadata: { name: limit }
spec: { state: ENABLED, variants: { few: 10, many: 100, huge: 1000 }, defaultVariant: few, targeting: { if: [{ "==": [{ var: tier }, gold] }, many] } }
---
apiVersion: slipway/v1
kind: Flag
metadata: { name: layout }
spec: { state: ENABLED, variants: { wide: { columns: 3 } }, defaultVariant: wide }
---
apiVersion: slipway/v1
kind: Flag
metadata: { name: dormant }
spec: { state: DISABLED, variants: { "on": true, "off": false }, defaultVariant: "off" }
---
apiVersion: slipway/v1
kind: Flag
metadata: { name: broken }
spec: { state: ENABLED, variants: { "on": true, "off": false }, defaultVariant: "off", targeting: { cat: [no, pe] } }
`

// OpenFeature's SDKs evaluate an environment's flags, hear of changes, and come
// back to a server that was killed. A device has its flags in its twin.
func TestUnmodifiedSDKsEvaluateFlags(t *testing.T) {
	t.Parallel()
	in := start(t)
	in.enrol()
	in.apply(someFlags)
	eventually(t, "a device is assigned", time.Minute, func() bool {
		host, err := in.register("flagged-1")
		return err == nil && host != ""
	})
	in.hasFlag("flagged-1", `{"fast":false}`)
	config := map[string]any{"url": in.ready.API + "/api/v1/environments/test", "token": in.ready.AdminToken}
	in.driveWith(t, "flags.js", in.stamp("test-1"), config, func(line string) string {
		switch line {
		case "switch":
			in.must("flag", "set", "fast", "--environment", "test", "--default", "on", "--reason", "try it")
		case "kill":
			in.must("flag", "kill", "fast", "--environment", "test", "--reason", "it loses orders")
		case "restart":
			in.kill(syscall.SIGKILL)
			in.launch()
			in.must("flag", "set", "limit", "--environment", "test", "--targeting", `{}`, "--default", "huge", "--reason", "all of it")
		default:
			return ""
		}
		return "done\n"
	})
	in.hasFlag("flagged-1", `{"fast":false}`)
	in.must("flag", "revive", "fast", "--environment", "test", "--reason", "mended")
	in.hasFlag("flagged-1", `{"fast":true}`)
	in.must("flag", "kill", "fast", "--environment", "test", "--reason", "it loses orders again")
	if got := in.must("flag", "list"); !strings.Contains(got, "killed: off") {
		t.Errorf("%s", got)
	}
}

// hasFlag waits until a device's twin holds the values of flags.
func (in *installation) hasFlag(id, want string) {
	in.t.Helper()
	eventually(in.t, id+" has "+want, time.Minute, func() bool {
		text, err := in.api.Twin(context.Background(), id)
		return err == nil && strings.Contains(string(text), `"slipwayFlags":`+want)
	})
}

// A kill switch reaches every client that listens.
func TestAKillSwitchReachesEveryClient(t *testing.T) {
	t.Parallel()
	clients := 500
	if text := os.Getenv("SLIPWAY_FLAG_CLIENTS"); text != "" {
		var err error
		if clients, err = strconv.Atoi(text); err != nil {
			t.Fatal(err)
		}
	}
	in := start(t)
	in.apply(someFlags)
	base := in.ready.Console + "/api/v1/environments/test/ofrep/v1/"
	transport := &http.Transport{MaxIdleConnsPerHost: 10}
	defer transport.CloseIdleConnections()
	heard := make(chan time.Time, clients)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var listening, all sync.WaitGroup
	listening.Add(clients)
	stream := in.flagStream(t, base)
	for range clients {
		all.Go(func() { listen(ctx, t, transport, stream, &listening, heard) })
	}
	listening.Wait()
	killed := time.Now()
	if _, err := in.api.KillFlag(t.Context(), "test", "fast", "", "it loses orders"); err != nil {
		t.Fatal(err)
	}
	answered := time.Since(killed)
	var took []time.Duration
	for range clients {
		select {
		case at := <-heard:
			took = append(took, at.Sub(killed))
		case <-time.After(time.Minute):
			t.Fatalf("%d of %d clients have heard of it", len(took), clients)
		}
	}
	slices.Sort(took)
	t.Logf("%d clients heard of a kill switch: half of them after %s, 99 of 100 after %s, the last after %s; the command was answered after %s",
		clients, took[clients/2].Round(time.Millisecond), took[clients*99/100].Round(time.Millisecond), took[clients-1].Round(time.Millisecond), answered.Round(time.Millisecond))
	stop()
	all.Wait()
	r, err := in.api.EvaluateFlag(t.Context(), "test", "", "fast", nil)
	if err != nil || r.Variant != "off" || r.Metadata[flag.MetaKilled] != true {
		t.Errorf("%+v, %v", r, err)
	}
}

// flagStream is the address of a stream, as the answer about all flags has it.
func (in *installation) flagStream(t *testing.T, base string) string {
	t.Helper()
	status, text := in.request(t, "POST", strings.TrimPrefix(base, in.ready.Console)+"evaluate/flags", in.ready.AdminToken, `{"context":{}}`)
	_, rest, found := strings.Cut(text, `"requestUri":"`)
	if status != http.StatusOK || !found {
		t.Fatalf("%d %s", status, text)
	}
	path, _, _ := strings.Cut(rest, `"`)
	return in.ready.Console + path
}

// listen hears one stream: its first event says to look, the next that
// something has changed.
func listen(ctx context.Context, t *testing.T, transport *http.Transport, url string, listening *sync.WaitGroup, heard chan<- time.Time) {
	req, err := http.NewRequestWithContext(ctx, "GET", url, nil)
	if err != nil {
		t.Error(err)
		return
	}
	resp, err := transport.RoundTrip(req)
	if err != nil {
		t.Errorf("a stream: %v", err)
		listening.Done()
		return
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		t.Errorf("a stream: %s", resp.Status)
	}
	events := 0
	for lines := bufio.NewScanner(resp.Body); lines.Scan(); {
		if !strings.HasPrefix(lines.Text(), "data: ") {
			continue
		}
		if events++; events == 1 {
			listening.Done()
			continue
		}
		heard <- time.Now()
		return
	}
	if ctx.Err() == nil {
		t.Error(fmt.Errorf("a stream ended after %d events", events))
	}
}
