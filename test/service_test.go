package test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"

	"github.com/slipway/slipway/internal/control/fleet"
	"github.com/slipway/slipway/internal/up"
)

// policy is a stamp's shared access policy.
func (in *installation) policy(stamp, name string) fleet.Policy {
	in.t.Helper()
	all, err := in.api.Policies(in.t.Context(), stamp)
	if err != nil {
		in.t.Fatal(err)
	}
	for _, p := range all {
		if p.Name == name {
			return p
		}
	}
	in.t.Fatalf("stamp %s has no policy %s", stamp, name)
	return fleet.Policy{}
}

// callResult is a line of a driver: one call of one client, and its result.
// drive runs a driver under test/sdk with its configuration and fails the test
// for every call that did not end well. The results are those of
// docs/compatibility.md.
func (in *installation) drive(t *testing.T, script string, s up.ReadyStamp, config map[string]any) {
	t.Helper()
	in.driveWith(t, script, s, config, func(string) string { return "" })
}

// driveWith also hands over the lines that are no results, as they come, and
// writes what other says to the driver's standard input.
func (in *installation) driveWith(t *testing.T, script string, s up.ReadyStamp, config map[string]any, other func(line string) (reply string)) {
	t.Helper()
	text, err := json.Marshal(config)
	if err != nil {
		t.Fatal(err)
	}
	command := exec.Command("node", "--require", "./ports.js", script, string(text))
	command.Dir = "sdk"
	command.Env = append(os.Environ(), "NODE_EXTRA_CA_CERTS="+in.ready.CA, "AZURE_LOG_LEVEL=warning", // shown where it fails
		fmt.Sprintf(`SLIPWAY_PORTS={"443":%d,"8883":%d,"5671":%d}`, s.HTTPS, s.MQTTS, s.AMQPS))
	var trouble bytes.Buffer
	command.Stderr = &trouble
	out, err := command.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	input, err := command.StdinPipe()
	if err == nil {
		err = command.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	seen := 0
	lines := bufio.NewScanner(out)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var r callResult
		if json.Unmarshal(lines.Bytes(), &r) != nil || r.Client == "" {
			if reply := other(lines.Text()); reply != "" {
				if _, err := io.WriteString(input, reply); err != nil {
					t.Error(err)
				}
			}
			continue
		}
		seen++
		if r.Result != "ok" {
			t.Errorf("%s: %s: %s", r.Client, r.Call, r.Result)
		}
		keep(r)
	}
	if err := command.Wait(); err != nil || seen == 0 {
		t.Errorf("%s ended with %v after %d calls\n%s", script, err, seen, trouble.String())
	}
}

func TestTheServiceSDKWorksUnmodified(t *testing.T) {
	t.Parallel()
	in := start(t, "--allow-network", "127.0.0.0/8") // where the driver keeps its storage
	s := in.stamp("test-1")
	in.drive(t, "service.js", s, map[string]any{
		"service": in.policy("test-1", "iothubowner").PrimaryConnectionString, "registryRead": in.policy("test-1", "registryRead").PrimaryConnectionString,
		"hub": s.Host + ":" + strconv.Itoa(s.MQTTS),
	})
}

func TestPolicyKeysRotateOneAtATime(t *testing.T) {
	t.Parallel()
	in := start(t)
	before := in.policy("test-1", "service")
	out := in.must("stamp", "policy", "rotate", "test-1", "service", "primary")
	after := in.policy("test-1", "service")
	if after.PrimaryKey == before.PrimaryKey || after.SecondaryKey != before.SecondaryKey || !strings.Contains(out, after.PrimaryConnectionString) {
		t.Errorf("from %+v to %+v: %s", before, after, out)
	}
	if out := in.must("audit", "list"); !strings.Contains(out, "policy.rotate") || strings.Contains(out, after.PrimaryKey) {
		t.Errorf("the audit log says %s", out)
	}
}
