package cli

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/slipway/slipway/internal/resource"
	"github.com/slipway/slipway/internal/retrylint"
)

func (a *app) lint() *cobra.Command {
	return a.group("lint", "Judge what your devices do before a fleet does it", "", a.lintRetry())
}

// linted is a plan's judgement.
type linted struct {
	Plan     retrylint.Plan      `json:"plan"`
	Findings []retrylint.Finding `json:"findings"`
	Herd     retrylint.Outcome   `json:"herd"`
}

func (a *app) lintRetry() *cobra.Command {
	h := retrylint.Herd{Seed: 1}
	preset := ""
	cmd := a.read(&cobra.Command{
		Use: "retry [FILE]", Short: "Name what is wrong with a client's retrying, and show what a herd of them does",
		Long: "Name what is wrong with the way a client retries: layers on top of one another, retrying\n" +
			"without end, more than one immediate retry, regular intervals, clients in step. Then follow\n" +
			"a herd of such clients that loses its connections at once, and say how it comes back.\n\n" +
			"Exit code 3: something is wrong. Presets: " + strings.Join(presets(), ", ") + ".",
		Example: "  slipway lint retry client.yaml\n  slipway lint retry --preset azure-iot-device-net --clients 100000 --outage 5m\n\n" +
			"  # client.yaml\n  layers:\n    - { name: sdk, interval: exponential, base: 1s, cap: 5m, jitter: full, attempts: 20, dormant: 15m, retryAfter: true }",
		Args: cobra.MaximumNArgs(1),
		RunE: a.run(func(_ *cobra.Command, args []string) error {
			plan, err := a.planOf(args, preset)
			if err != nil {
				return err
			}
			if h.Clients < 1 || h.Clients > retrylint.MaxClients || h.Admits <= 0 || h.Outage < 0 || h.Outage > 24*time.Hour {
				return usage("a herd has 1 to %d clients, an outage up to 24h, and a server that admits some", retrylint.MaxClients)
			}
			return a.showLint(linted{plan, retrylint.Lint(plan), retrylint.Run(plan, h)})
		}),
	})
	flags := cmd.Flags()
	flags.StringVar(&preset, "preset", "", "a known client, instead of a file")
	flags.IntVar(&h.Clients, "clients", 20_000, "clients in the herd")
	flags.DurationVar(&h.Outage, "outage", 30*time.Second, "how long the server is away")
	flags.Float64Var(&h.Admits, "admits", 1000, "connections the server admits each second")
	return cmd
}

func presets() []string {
	var names []string
	for name := range retrylint.Presets {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// planOf reads the plan that is meant.
func (a *app) planOf(args []string, preset string) (retrylint.Plan, error) {
	if (len(args) == 1) == (preset != "") {
		return retrylint.Plan{}, usage("name a file or a --preset, one of the two")
	}
	if preset != "" {
		return retrylint.Plan{Name: preset, Layers: []retrylint.Layer{{Preset: preset}}}.Check()
	}
	text, err := a.readFile(args[0])
	if err != nil {
		return retrylint.Plan{}, err
	}
	return resource.DecodeOne(args[0], text, retrylint.Plan.Check)
}

func (a *app) showLint(l linted) error {
	wrong := slices.ContainsFunc(l.Findings, func(f retrylint.Finding) bool { return f.Severity == retrylint.Wrong })
	if err := a.printLint(l); err != nil {
		return err
	}
	if wrong {
		return answer(3)
	}
	return nil
}

func (a *app) printLint(l linted) error {
	if a.asJSON {
		return a.json(l)
	}
	for _, f := range l.Findings {
		layer := ""
		if f.Layer != "" {
			layer = " in " + f.Layer
		}
		if err := a.print("%s: %s%s: %s\n  %s\n", f.Severity, f.Rule, layer, f.Says, f.Remedy); err != nil {
			return err
		}
	}
	if len(l.Findings) == 0 {
		if err := a.print("nothing is wrong\n"); err != nil {
			return err
		}
	}
	h := l.Herd
	if err := a.print("\n%d clients cut at once, the server back after %s, admitting %g a second:\n", h.Clients, time.Duration(h.Outage), h.Admits); err != nil {
		return err
	}
	return a.table([]string{"", "HERD"}, [][]string{
		{"attempts of each client", fmt.Sprintf("%.1f", h.Attempts)},
		{"most attempts in a second", strconv.Itoa(h.Peak)},
		{"half are back after", back(h.P50)},
		{"99 % are back after", back(h.P99)},
		{"all are back after", back(h.Last)},
		{"at best, all after", back(h.Ideal)},
		{"not back within hours", strconv.Itoa(h.Away)},
	})
}

// back shows when a part of the herd was back.
func back(d retrylint.Duration) string {
	if d < 0 {
		return "not within hours"
	}
	return time.Duration(d).Round(100 * time.Millisecond).String()
}
