package cli

import (
	"context"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/slipway/slipway/internal/client"
	"github.com/slipway/slipway/internal/datadir"
	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/resource"
	"github.com/slipway/slipway/internal/simfleet"
)

// simulation is what `simulate` was asked.
type simulation struct {
	simfleet.Options
	scenario, group, key, report string
	length                       time.Duration
}

// maxSimulated is as many devices as one process plays.
const maxSimulated = 200_000

func (a *app) simulate() *cobra.Command {
	var s simulation
	var about strings.Builder
	for _, one := range simfleet.Scenarios {
		fmt.Fprintf(&about, "  %-12s %s\n", one.Name, one.Says)
	}
	cmd := a.read(&cobra.Command{
		Use: "simulate --group GROUP", Short: "Run a realistic fleet against an installation",
		Long: "Run a fleet of devices, each of which knows no more than a real one: the provisioning\n" +
			"endpoint, the id scope and its key. It registers, connects, sends, and is retried by the\n" +
			"device SDK's policy. Interrupt it to end it early; the report is written all the same.\n\nScenarios:\n" + about.String(),
		Example: "  slipway simulate --group line-7 --devices 1000 --scenario boot-storm --duration 2m\n" +
			"  slipway simulate --scope 0ne12345678 --provisioning dps.example.com --group-key $KEY --devices 50 --report run.json",
		Args: cobra.NoArgs,
		RunE: a.run(func(cmd *cobra.Command, _ []string) error { return a.runSimulation(cmd.Context(), s) }),
	})
	flags := cmd.Flags()
	flags.IntVar(&s.Devices, "devices", 100, "how many devices")
	flags.StringVar(&s.scenario, "scenario", "steady", "what befalls them: "+simfleet.ScenarioNames())
	flags.DurationVar(&s.length, "duration", time.Minute, "for how long")
	flags.DurationVar(&s.ReportEvery, "every", 5*time.Second, "how often each sends")
	flags.Float64Var(&s.StartRate, "start-rate", 50, "devices started each second")
	flags.StringVar(&s.Pattern, "ids", "sim-%06d", "registration ids, by number")
	flags.StringVar(&s.group, "group", "", "enrolment group they are of; its key is read from the installation")
	flags.StringVar(&s.key, "group-key", "", "the group's key in base64, instead of --group")
	flags.StringVar(&s.IDScope, "scope", "", "id scope; the installation's when left out")
	flags.StringVar(&s.Provisioning, "provisioning", "", "where devices register, host or host:port; the installation's when left out")
	flags.StringSliceVar(&s.Hardware, "hardware", []string{"gw-100", "gw-200"}, "kinds of hardware, in equal shares")
	flags.DurationVar(&s.UpdateTime, "update-time", 3*time.Second, "how long each takes to follow an order to run other software, about")
	flags.Float64Var(&s.Download, "download", 0, "share of them that fetch what an order names, 0 to 1; the others imagine it")
	flags.IntVar(&s.HTTPSPort, "https-port", 443, "port of hubs from which they fetch it")
	flags.DurationVar(&s.ReconnectEvery, "reconnect-every", 0, "after how long a connection breaks by itself, on average; 0: as the scenario has it")
	flags.StringVar(&s.report, "report", "", "write the report there as JSON")
	cmd.AddCommand(a.simulateScale())
	return cmd
}

func (s simulation) check() error {
	switch {
	case s.Devices < 1 || s.Devices > maxSimulated:
		return usage("--devices must be 1 to %d, not %d", maxSimulated, s.Devices)
	case s.length < time.Second:
		return usage("--duration must be a second or more")
	case s.ReportEvery < 10*time.Millisecond:
		return usage("--every must be 10ms or more")
	case s.Download < 0 || s.Download > 1:
		return usage("--download is a share, 0 to 1, not %g", s.Download)
	case s.UpdateTime <= 0 || s.ReconnectEvery < 0:
		return usage("--update-time and --reconnect-every are no less than nothing")
	case (s.group == "") == (s.key == ""):
		return usage("name a group with --group, or give its key with --group-key")
	case !strings.Contains(s.Pattern, "%"):
		return usage("--ids must hold a place for the number, such as %%06d")
	}
	return nil
}

func (a *app) runSimulation(ctx context.Context, s simulation) error {
	if err := s.check(); err != nil {
		return err
	}
	scenario, err := simfleet.FindScenario(s.scenario)
	if err != nil {
		return usage("%w", err)
	}
	if err := a.aim(ctx, &s); err != nil {
		return err
	}
	s.Logger = slog.New(slog.DiscardHandler)
	view := runView{scenario: s.scenario, devices: s.Devices, length: s.length}
	report, err := simfleet.Simulate(ctx, s.Options, scenario, s.length, func(m simfleet.Moment, all simfleet.Stats) {
		if view.add(m); a.errTTY {
			a.note("%s", view.frame(all))
		}
	})
	if err != nil {
		return err
	}
	if s.report != "" {
		if err := datadir.WriteJSON(s.report, report); err != nil {
			return err
		}
	}
	return a.showSimulation(report)
}

// aim fills in from the installation what the flags leave out.
func (a *app) aim(ctx context.Context, s *simulation) error {
	chosen, err := a.choose()
	if err != nil && (s.group != "" || s.IDScope == "" || s.Provisioning == "") {
		return err
	}
	if chosen.CA != "" {
		text, err := os.ReadFile(chosen.CA)
		if err != nil {
			return err
		}
		s.CA = x509.NewCertPool()
		s.CA.AppendCertsFromPEM(text)
	}
	if s.group != "" || s.IDScope == "" || s.Provisioning == "" {
		c, err := a.client()
		if err != nil {
			return err
		}
		if err := s.ask(ctx, c); err != nil {
			return err
		}
	}
	s.GroupKey, err = base64.StdEncoding.DecodeString(s.key)
	if err != nil || len(s.GroupKey) == 0 {
		return usage("the group's key is not base64")
	}
	return nil
}

// ask asks the installation for what is missing.
func (s *simulation) ask(ctx context.Context, c *client.Client) error {
	scope, err := c.Scope(ctx)
	if err != nil {
		return err
	}
	if s.IDScope == "" {
		s.IDScope = scope.IDScope
	}
	if s.Provisioning == "" {
		s.Provisioning = scope.Provisioning
	}
	if s.Provisioning == "" {
		return usage("the installation does not know where devices register; say so with --provisioning")
	}
	if s.group == "" {
		return nil
	}
	stored, err := c.Resource(ctx, resource.KindEnrollmentGroup, s.group, true)
	if err != nil {
		return err
	}
	var spec link.EnrollmentSpec
	if err := json.Unmarshal(stored.Spec, &spec); err != nil {
		return err
	}
	if spec.Attestation.SymmetricKey == nil {
		return problem.New(problem.Conflict, "the enrolment group %s has no symmetric key", s.group)
	}
	s.key = spec.Attestation.SymmetricKey.PrimaryKey
	return nil
}

func (a *app) showSimulation(r simfleet.Report) error {
	if a.asJSON {
		return a.json(r)
	}
	n := func(v int64) string { return strconv.FormatInt(v, 10) }
	rows := [][]string{
		{"scenario", r.Scenario}, {"devices", strconv.Itoa(r.Devices)}, {"seconds", fmt.Sprintf("%.1f", r.Seconds)},
		{"registrations", n(r.Provisioned)}, {"connected at most", n(r.Most)}, {"connected at the end", n(r.Connected)},
		{"connects", n(r.Connects)}, {"disconnects", n(r.Disconnects)}, {"refusals", n(r.Refusals)},
		{"messages sent", n(r.Sent)}, {"messages acknowledged", n(r.Acked)}, {"messages dropped by devices", n(r.Dropped)}, {"errors", n(r.Errors)},
	}
	if r.ReturnP99 > 0 {
		rows = append(rows, []string{"back after the blackout, half", fmt.Sprintf("%.1f s", r.ReturnP50)}, []string{"back after the blackout, 99 %", fmt.Sprintf("%.1f s", r.ReturnP99)})
	}
	return a.table([]string{"RUN", ""}, rows)
}
