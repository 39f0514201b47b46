package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/slipway/slipway/internal/care"
	"github.com/slipway/slipway/internal/client"
	"github.com/slipway/slipway/internal/control/retention"
	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/problem"
)

func (a *app) retention() *cobra.Command {
	return a.group("retention", "How long everything is kept, and what cleaning up removes",
		"Every kind of data is kept for a number of days, and then removed by the plane that has it.\nWhat a legal hold is on stays: `slipway legal-hold`.",
		a.retentionShow(), a.retentionSet(), a.retentionDryRun(), a.retentionRun())
}

func (a *app) retentionShow() *cobra.Command {
	return a.read(&cobra.Command{
		Use: "show", Short: "Show how long each kind of data is kept, and each plane's last and next clean-up", Args: cobra.NoArgs,
		Example: "  slipway retention show\n  slipway retention show --json | jq '.kinds[] | select(.days == 0)'",
		RunE: a.call(func(ctx context.Context, c *client.Client, _ []string) error {
			o, err := c.Retention(ctx)
			if err != nil {
				return err
			}
			if a.asJSON {
				return a.json(o)
			}
			return a.showRetention(o)
		}),
	})
}

func (a *app) showRetention(o retention.RetentionOverview) error {
	rows := make([][]string, len(o.Kinds))
	for i, k := range o.Kinds {
		rows[i] = []string{k.Name, k.Plane, keptFor(k), k.What}
	}
	if err := a.table([]string{"KIND", "PLANE", "KEPT", "WHAT"}, rows); err != nil {
		return err
	}
	if err := a.print("\n"); err != nil {
		return err
	}
	rows = nil
	for _, p := range o.Planes {
		row := []string{p.Plane, "", "", a.when(p.Next), p.Away}
		if p.Last != nil {
			row[1], row[2] = a.when(&p.Last.BegunAt), removedIn(*p.Last)
		}
		rows = append(rows, row)
	}
	if err := a.table([]string{"PLANE", "LAST", "REMOVED", "NEXT", ""}, rows); err != nil {
		return err
	}
	if o.Paused {
		a.note("paused: no plane is cleaned up by itself\n")
	}
	if len(o.Holds) > 0 {
		a.note("%d legal holds are in force; `slipway legal-hold list` shows them\n", len(o.Holds))
	}
	return nil
}

// keptFor says how long a kind is kept.
func keptFor(k care.Kind) string {
	switch {
	case k.Fixed != "":
		return k.Fixed
	case k.Days == 0:
		return "for good"
	}
	return fmt.Sprintf("%d days", k.Days)
}

// removedIn says what a run removed.
func removedIn(run link.CareRun) string {
	parts := make([]string, len(run.Removed))
	for i, f := range run.Removed {
		parts[i] = fmt.Sprintf("%d %s", f.Count, f.Kind)
	}
	switch {
	case run.Problem != "":
		return run.Problem
	case run.EndedAt == nil:
		return "under way: " + strings.Join(parts, ", ")
	case len(parts) == 0:
		return "nothing"
	}
	return strings.Join(parts, ", ")
}

// kindDays reads KIND=DAYS; days may have a d behind them, or be "forever".
func kindDays(texts []string) (map[string]int, error) {
	days := map[string]int{}
	for _, text := range texts {
		kind, n, ok := strings.Cut(text, "=")
		if n == "forever" {
			n = "0"
		}
		number, err := strconv.Atoi(strings.TrimSuffix(n, "d"))
		if !ok || err != nil {
			return nil, usage("how long a kind is kept reads uploads=30d or uploads=forever, not %q", text)
		}
		days[kind] = number
	}
	return days, nil
}

func (a *app) retentionSet() *cobra.Command {
	var every time.Duration
	var paused bool
	cmd := a.read(&cobra.Command{
		Use: "set [KIND=DAYS…]", Short: "Change how long kinds of data are kept, and how often planes are cleaned up",
		Long:    "Change how long kinds of data are kept, and how often planes are cleaned up. What becomes\ntoo old by that goes with the next clean-up: `slipway retention dry-run --set KIND=DAYS` says\nfirst what that is. The most a stamp's own configuration keeps of telemetry holds as well.",
		Example: "  slipway retention set uploads=30d events=14d\n  slipway retention set recordings=forever --every 12h\n  slipway retention set --pause",
	})
	cmd.RunE = a.call(func(ctx context.Context, c *client.Client, args []string) error {
		days, err := kindDays(args)
		if err != nil {
			return err
		}
		o, err := c.Retention(ctx)
		if err != nil {
			return err
		}
		s := retention.Settings{EveryHours: o.EveryHours, Paused: o.Paused, Days: days}
		if cmd.Flags().Changed("every") {
			if every <= 0 || every%time.Hour != 0 {
				return usage("--every is a number of hours, such as 12h, not %s", every)
			}
			s.EveryHours = int(every / time.Hour)
		}
		if cmd.Flags().Changed("pause") {
			s.Paused = paused
		}
		if s, err = c.SetRetention(ctx, s); err != nil {
			return err
		}
		if a.asJSON {
			return a.json(s)
		}
		a.note("set\n")
		return nil
	})
	cmd.Flags().DurationVar(&every, "every", 24*time.Hour, "how often each plane is cleaned up, in hours")
	cmd.Flags().BoolVar(&paused, "pause", false, "clean nothing up by itself; --pause=false goes on")
	return cmd
}

func (a *app) retentionDryRun() *cobra.Command {
	var set []string
	cmd := a.read(&cobra.Command{
		Use: "dry-run [PLANE…]", Short: "Count what would be removed now; nothing is",
		Example: "  slipway retention dry-run\n  slipway retention dry-run eu-production-1 --set uploads=10d --json",
		RunE: a.call(func(ctx context.Context, c *client.Client, args []string) error {
			days, err := kindDays(set)
			if err != nil {
				return err
			}
			all, err := c.TryRetention(ctx, args, days)
			if err != nil {
				return err
			}
			return a.showTrials(all)
		}),
	})
	cmd.Flags().StringSliceVar(&set, "set", nil, "as if a kind were kept so long, such as uploads=10d; several with commas")
	return cmd
}

func (a *app) showTrials(all []retention.Trial) error {
	if a.asJSON {
		return jsonList(a, all, "")
	}
	var rows [][]string
	for _, t := range all {
		for _, f := range t.Items {
			rows = append(rows, []string{t.Plane, f.Kind, strconv.FormatInt(f.Count, 10), a.when(f.Oldest), bytesOf(f.Bytes)})
		}
	}
	if err := a.table([]string{"PLANE", "KIND", "WOULD GO", "OLDEST", "BYTES"}, rows); err != nil {
		return err
	}
	for _, t := range all {
		if t.Away != "" {
			return problem.New(problem.NotReady, "%s was not asked: %s", t.Plane, t.Away)
		}
	}
	return nil
}

func (a *app) retentionRun() *cobra.Command {
	var wait bool
	var timeout time.Duration
	cmd := a.read(&cobra.Command{
		Use: "run [PLANE…]", Short: "Clean planes up now: control, provisioning, stamps by name; all where none is named",
		Example: "  slipway retention run --wait\n  slipway retention run eu-production-1",
		RunE: a.call(func(ctx context.Context, c *client.Client, args []string) error {
			before, err := c.Retention(ctx)
			if err != nil {
				return err
			}
			asked, err := c.RunRetention(ctx, args)
			if err != nil || !wait {
				return errors.Join(err, a.told(asked))
			}
			limited, cancel := context.WithTimeout(ctx, timeout)
			defer cancel()
			o, err := awaitRuns(limited, c, asked, before)
			if err != nil {
				return err
			}
			if a.asJSON {
				return a.json(o)
			}
			return a.showRetention(o)
		}),
	})
	cmd.Flags().BoolVar(&wait, "wait", false, "wait until all have ended; exit code 8 where that takes longer than --timeout")
	cmd.Flags().DurationVar(&timeout, "timeout", 10*time.Minute, "how long to wait")
	return cmd
}

func (a *app) told(asked []string) error {
	if a.asJSON {
		return jsonList(a, asked, "")
	}
	a.note("asked %s\n", strings.Join(asked, ", "))
	return nil
}

// awaitRuns waits until planes have ended a run that they had not begun before.
func awaitRuns(ctx context.Context, c *client.Client, asked []string, before retention.RetentionOverview) (retention.RetentionOverview, error) {
	numbers := map[string]int64{}
	for _, p := range before.Planes {
		if p.Last != nil {
			numbers[p.Plane] = p.Last.Number
		}
	}
	for {
		o, err := c.Retention(ctx)
		left := slices.ContainsFunc(o.Planes, func(p retention.PlaneCleaning) bool {
			return slices.Contains(asked, p.Plane) && (p.Last == nil || p.Last.Number <= numbers[p.Plane] || p.Last.EndedAt == nil)
		})
		if ctx.Err() == nil && err != nil || err == nil && !left {
			return o, err
		}
		select {
		case <-ctx.Done():
			return o, problem.New(problem.TimedOut, "not all planes have ended; `slipway retention show` tells how they stand")
		case <-time.After(followEvery):
		}
	}
}

func (a *app) legalHold() *cobra.Command {
	group := a.group("legal-hold", "Keep everything known of a device or a tenant, whatever its age",
		"While a legal hold is on a device or a tenant, nothing of it is cleaned up, and it can be\nneither erased nor decommissioned. What speaks of many at once, such as recordings of\nsessions and names in the audit log, is kept whole while any hold is on.",
		a.legalHoldList(), a.legalHoldPlace(), a.legalHoldLift())
	group.Aliases = []string{"legal-holds"}
	return group
}

func (a *app) showLegalHolds(all []retention.LegalHold) error {
	rows := make([][]string, len(all))
	for i, h := range all {
		on := "device " + h.On.Device
		if h.On.Tenant != "" {
			on = "tenant " + h.On.Tenant
		}
		rows[i] = []string{h.ID, on, h.PlacedBy, a.when(&h.PlacedAt), a.when(h.LiftedAt), h.Reason}
	}
	return a.table([]string{"HOLD", "ON", "BY", "PLACED", "LIFTED", "REASON"}, rows)
}

func (a *app) legalHoldList() *cobra.Command {
	var ever bool
	cmd := a.read(&cobra.Command{
		Use: "list", Short: "List legal holds in force", Args: cobra.NoArgs, Example: "  slipway legal-hold list --all --json",
		RunE: a.call(func(ctx context.Context, c *client.Client, _ []string) error {
			all, err := c.LegalHolds(ctx, ever)
			if err != nil {
				return err
			}
			if a.asJSON {
				return jsonList(a, all, "")
			}
			return a.showLegalHolds(all)
		}),
	})
	cmd.Flags().BoolVar(&ever, "all", false, "those that were lifted, too")
	return cmd
}

func (a *app) legalHoldPlace() *cobra.Command {
	var on link.CareHold
	var reason string
	cmd := a.read(&cobra.Command{
		Use: "place --device DEVICE | --tenant TENANT", Short: "Place a legal hold", Args: cobra.NoArgs,
		Example: "  slipway legal-hold place --device sensor-1 --reason \"case 2026-17\"\n  slipway legal-hold place --tenant acme --reason \"audit of the authority\"",
		RunE: a.call(func(ctx context.Context, c *client.Client, _ []string) error {
			h, err := c.PlaceLegalHold(ctx, on, reason)
			if err != nil {
				return err
			}
			if a.asJSON {
				return a.json(h)
			}
			return a.showLegalHolds([]retention.LegalHold{h})
		}),
	})
	cmd.Flags().StringVar(&on.Device, "device", "", "whose data is kept")
	cmd.Flags().StringVar(&on.Tenant, "tenant", "", "whose devices' data is kept")
	cmd.MarkFlagsOneRequired("device", "tenant")
	cmd.MarkFlagsMutuallyExclusive("device", "tenant")
	because(cmd, &reason)
	return cmd
}

func (a *app) legalHoldLift() *cobra.Command {
	var reason string
	cmd := a.read(&cobra.Command{
		Use: "lift HOLD", Short: "Lift a legal hold; what is too old by then goes with the next clean-up", Args: cobra.ExactArgs(1),
		Example: "  slipway legal-hold lift legal-hold-1 --reason \"the case is closed\"",
		RunE: a.call(func(ctx context.Context, c *client.Client, args []string) error {
			h, err := c.LiftLegalHold(ctx, args[0], reason)
			if err != nil {
				return err
			}
			if a.asJSON {
				return a.json(h)
			}
			return a.showLegalHolds([]retention.LegalHold{h})
		}),
	})
	because(cmd, &reason)
	return cmd
}
