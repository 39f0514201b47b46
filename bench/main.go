// Command bench measures the hot paths of a server process from a load
// generator on the same machine, and named peers in the same run, and prints a
// table. Ratios travel between machines; the figures themselves do not.
package main

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/slipway/slipway/internal/up"
)

func main() {
	seconds := flag.Int("seconds", 5, "how long each load runs")
	peer := flag.String("peer", "", "run as this peer (mochi); used by the benchmark itself")
	dir := flag.String("dir", "", "directory with the peer's certificate")
	grown := flag.String("growth", "", "measure what things cost as a fleet grows, and write the figures to this file")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	var err error
	if *peer == "mochi" {
		err = runMochi(ctx, *dir)
	} else {
		err = run(ctx, time.Duration(*seconds)*time.Second, *grown)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// groupKey is the key of the devices that make the load.
var groupKey = []byte("0123456789abcdef0123456789abcdef")

const enrolment = `apiVersion: slipway/v1
kind: EnrollmentGroup
metadata: { name: bench }
spec:
  environment: test
  attestation: { symmetricKey: { primaryKey: %s } }
  initialTwin: { tags: { batch: "7" } }
`

func run(ctx context.Context, long time.Duration, grown string) error {
	dir, err := os.MkdirTemp("", "slipway-bench")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	binary := filepath.Join(dir, "slipway")
	if out, err := exec.CommandContext(ctx, "go", "build", "-o", binary, "./cmd/slipway").CombinedOutput(); err != nil {
		return fmt.Errorf("build: %w: %s", err, out)
	}
	if grown != "" {
		all, err := measureGrowth(ctx, binary, long)
		if err != nil {
			return err
		}
		return writeGrowth(all, grown)
	}
	server, ready, err := startSlipway(ctx, dir, binary)
	if err != nil {
		return err
	}
	defer server.stop()
	report := newReport()
	if err := measureSlipway(report, server, ready, long); err != nil {
		return err
	}
	server.stop()
	if err := measurePeers(ctx, report, dir, long); err != nil {
		return err
	}
	report.print(os.Stdout)
	return nil
}

// process is a server under load.
type process struct {
	command *exec.Cmd
	ended   bool
}

func (p *process) stop() {
	if p.ended {
		return
	}
	p.ended = true
	if p.command.Process.Signal(syscall.SIGTERM) == nil {
		// Its exit code is of no interest: the figures are taken.
		if err := p.command.Wait(); err != nil {
			fmt.Fprintln(os.Stderr, "bench: server ended with", err)
		}
	}
}

// startSlipway starts a server with what is declared, or with what it has
// when nothing is.
func startSlipway(ctx context.Context, dir, binary string, declared ...string) (*process, up.Ready, error) {
	var ready up.Ready
	resources, file := filepath.Join(dir, "bench.yaml"), filepath.Join(dir, "ready.json")
	text := fmt.Sprintf(enrolment, base64.StdEncoding.EncodeToString(groupKey))
	if err := os.WriteFile(resources, []byte(text), 0o600); err != nil {
		return nil, ready, err
	}
	args := []string{"up", "--data", filepath.Join(dir, "data"), "--ready-file", file, "--http", ":0", "--https", ":0", "--mqtts", ":0", "--probes", "0"}
	if len(declared) > 0 {
		site := filepath.Join(dir, "site.yaml")
		if err := os.WriteFile(site, []byte(strings.Join(declared, "---\n")), 0o600); err != nil {
			return nil, ready, err
		}
		args = append(args, "--file", site)
	}
	command := exec.CommandContext(ctx, binary, args...)
	command.Stderr = os.Stderr
	if err := command.Start(); err != nil {
		return nil, ready, err
	}
	p := &process{command: command}
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if text, err := os.ReadFile(file); err == nil && json.Unmarshal(text, &ready) == nil {
			apply := exec.CommandContext(ctx, binary, "apply", "-f", resources)
			apply.Env = append(os.Environ(), "SLIPWAY_URL="+ready.API, "SLIPWAY_TOKEN="+ready.AdminToken, "SLIPWAY_CA="+ready.CA)
			if out, err := apply.CombinedOutput(); err != nil {
				return p, ready, fmt.Errorf("enrol: %w: %s", err, out)
			}
			return p, ready, nil
		}
	}
	p.stop()
	return nil, ready, fmt.Errorf("the server did not become ready")
}

const (
	connections = 100
	idle        = 2000
)

func measureSlipway(report *report, server *process, ready up.Ready, long time.Duration) error {
	target, err := newTarget(server.command.Process.Pid, ready)
	if err != nil {
		return err
	}
	registrations, err := target.register(idle + connections)
	if err != nil {
		return err
	}
	report.add("registrations over MQTT with TLS, durable", "≥ 2,000/s (engine)", "slipway", registrations)
	before := target.memory()
	conns, connects, err := target.connectAll(connections, idle)
	if err != nil {
		return err
	}
	report.add("TLS 1.3 handshake + authentication", "≥ 1,800/s", "slipway", connects)
	report.add("memory per idle TLS connection", "≤ 25 KB", "slipway", result{text: fmt.Sprintf("%.0f KB", float64(target.memory()-before)/idle/1024)})
	closeAll(conns)
	for _, inFlight := range []int{1, 32} {
		conns, _, err := target.connectAll(0, connections)
		if err != nil {
			return err
		}
		r, err := load(target.pid, conns, telemetryLoad, inFlight, long)
		closeAll(conns)
		if err != nil {
			return err
		}
		report.add(ingestName(inFlight), ingestGoal(inFlight), "slipway", r)
	}
	conns, _, err = target.connectAll(0, connections)
	if err != nil {
		return err
	}
	defer closeAll(conns)
	r, err := load(target.pid, conns, twinLoad, 4, long)
	report.add("twin patches, durable (100 connections, 4 in flight)", "≥ 15,000/s", "slipway", r)
	return err
}

func ingestName(inFlight int) string {
	return fmt.Sprintf("QoS 1 ingest over TLS, 100 connections × 128 B, %d in flight", inFlight)
}

func ingestGoal(inFlight int) string {
	if inFlight == 1 {
		return "≥ 60,000/s, ≤ 18 µs"
	}
	return "≥ 120,000/s, ≤ 10 µs"
}
