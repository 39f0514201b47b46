package cli

import (
	"fmt"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/simscale"
)

func (a *app) simulateScale() *cobra.Command {
	s := simscale.System{Seed: 1}
	cmd := a.read(&cobra.Command{
		Use: "scale", Short: "Work out what placement, moves and rollouts do to a system too large to run", Args: cobra.NoArgs,
		Long: "Work out what placement, moves and rollouts do to a system too large to run, with the code\n" +
			"that does them in one that runs; each device of a sample stands for many. Stamps differ in\n" +
			"size, tenants are many, and three in ten stay in a region. It asks no installation.",
		Example: "  slipway simulate scale --stamps 1000 --devices 100000000\n  slipway simulate scale --stamps 50 --devices 5000000 --policy leastLoaded --fill 0.9 --json",
		RunE: a.run(func(*cobra.Command, []string) error {
			if err := s.Check(); err != nil {
				return usage("--%s: %s", problem.Of(err).Field, problem.Of(err).Message)
			}
			o := simscale.Run(s, a.now)
			if a.asJSON {
				return a.json(o)
			}
			percent := func(share float64) string { return fmt.Sprintf("%.1f %%", share*100) }
			n := func(v int64) string { return strconv.FormatInt(v, 10) }
			return a.table([]string{"SYSTEM", ""}, [][]string{
				{"stamps", strconv.Itoa(o.Stamps)}, {"devices", n(o.Devices)}, {"policy", o.Policy}, {"sample", strconv.Itoa(o.Sample)},
				{"places taken, emptiest stamp", percent(o.PerStamp.Least)}, {"places taken, mean", percent(o.PerStamp.Mean)},
				{"places taken, 99 of 100 at most", percent(o.PerStamp.P99)}, {"places taken, fullest stamp", percent(o.PerStamp.Most)},
				{"devices without a place", n(o.Homeless)},
				{"loss of the fullest stamp", n(o.LostStamp.Devices) + " devices, of which others take " + n(o.LostStamp.Placed)},
				{"they are placed within", time.Duration(o.LostStamp.Takes).String()},
				{"draining an ordinary stamp", displaced(o.Drain)},
				{"moving a tenant to the stamp more", displaced(o.MovedTenant)},
				{"a release", rolledOut(o.Release)}, {"a bad release", rolledOut(o.BadRelease)},
				{"a stamp more takes of new devices", percent(o.NewStampShare)}, {"and moves of those there are", n(o.NewStampMoves)},
				{"placing every device", time.Duration(o.PlacingAll).String()}, {"one choice, measured", time.Duration(o.PerChoice).Round(time.Microsecond).String()},
			})
		}),
	})
	flags := cmd.Flags()
	flags.IntVar(&s.Stamps, "stamps", 1000, "how many stamps")
	flags.Int64Var(&s.Devices, "devices", 100_000_000, "how many devices")
	flags.Float64Var(&s.Fill, "fill", 0.7, "share of all places that they take")
	flags.StringVar(&s.Policy, "policy", link.AllocateWeighted, "weighted, hashed or leastLoaded")
	flags.IntVar(&s.Regions, "regions", 10, "regions the stamps are in")
	flags.IntVar(&s.Tenants, "tenants", 200, "tenants the devices are of")
	flags.IntVar(&s.Sample, "sample", 20_000, "devices that are really placed")
	flags.Uint64Var(&s.Seed, "seed", 1, "of chance")
	flags.IntVar(&s.AtOnce, "at-once", 50, "stamps on which a release moves at a time")
	flags.Float64Var(&s.Failing, "failing", 0.05, "share of devices that fail with a bad release")
	flags.Float64Var(&s.PerSecond, "per-second", 2000, "devices the system places each second")
	return cmd
}

func displaced(d simscale.Displaced) string {
	return fmt.Sprintf("%d of %d devices in %s", d.Placed, d.Devices, time.Duration(d.Takes))
}

func rolledOut(o simscale.RolledOut) string {
	text := fmt.Sprintf("%s after %s, on %d stamps, taken by %d devices", o.State, time.Duration(o.Takes), o.Stamps, o.Devices)
	if o.Failed > 0 {
		text += fmt.Sprintf(", of which %d failed; it was turned back after %s", o.Failed, time.Duration(o.Until))
	}
	return text
}
