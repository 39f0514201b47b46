package fleet

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/slipway/slipway/internal/control/access"
	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/resource"
	"github.com/slipway/slipway/internal/tasks"
)

// growEvery is how often it is looked whether an environment needs a stamp.
const growEvery = 10 * time.Second

// Grow adds stamps where the rules of environments ask for them, until ctx
// ends. A look that fails, as provisioning is away, is made again.
func (f *Fleet) Grow(ctx context.Context, logger *slog.Logger) error {
	return tasks.Every(ctx, growEvery, func() {
		if err := f.grow(ctx, logger); err != nil && ctx.Err() == nil && !problem.Is(err, problem.NotReady) {
			logger.Warn("stamps not added where they are needed; trying again", "error", err)
		}
	})
}

func (f *Fleet) grow(ctx context.Context, logger *slog.Logger) error {
	environments, err := f.environments.List(ctx)
	if err != nil || !slices.ContainsFunc(environments, func(e resource.Environment) bool { return len(e.Spec.Growth) > 0 }) {
		return err
	}
	levels, err := f.Overview(ctx)
	if err != nil {
		return err
	}
	rooms, err := f.Capacity(ctx)
	if err != nil {
		return err
	}
	taken := map[string]bool{}
	for _, level := range levels {
		for _, s := range level.Stamps {
			taken[s.Metadata.Name] = true
		}
	}
	var failed error
	for i, env := range environments {
		for _, rule := range env.Spec.Growth {
			why := wanted(rule, levels[i], rooms[i].PerDay)
			if why == "" {
				continue
			}
			name := freeName(env.Metadata.Name, taken)
			logger.Info("adding a stamp", "environment", env.Metadata.Name, "stamp", name, "because", why)
			if err := f.environments.AddStamp(ctx, access.Actor{Name: "growth of " + env.Metadata.Name}, name, rule.Stamp.Spec(env.Metadata.Name)); err != nil {
				failed = errors.Join(failed, err)
				continue
			}
			taken[name] = true
		}
	}
	return failed
}

// defaultFree is the share of places below which one stamp more is wanted,
// where a rule does not say.
const defaultFree = scarce

// wanted says why a rule asks for one stamp more; empty if it does not. One that
// was asked for and has not joined yet is waited for. perDay is how many devices
// come to the environment each day; those like the rule's stamp take their part.
func wanted(rule resource.Growth, level Level, perDay float64) string {
	stamps, places, used, everywhere := 0, 0, 0, 0
	for _, s := range level.Stamps {
		everywhere += s.Status.Assigned
		if s.Spec.Region != rule.Stamp.Region || !sameTenants(s.Spec.Tenants, rule.Stamp.Tenants) {
			continue
		}
		stamps++
		if s.Status.State == resource.StateJoining {
			return ""
		}
		if s.Spec.State == link.StampOpen {
			places += s.Spec.Capacity
			used += s.Status.Assigned
		}
	}
	left := max(places-used, 0)
	switch {
	case stamps >= rule.Most:
		return ""
	case places == 0:
		return "no stamp of this kind takes devices"
	case float64(left) < cmp.Or(rule.Free, defaultFree)*float64(places):
		return fmt.Sprintf("%d of %d places are free", left, places)
	}
	if part := perDay * float64(used) / float64(max(everywhere, 1)); rule.Days > 0 && part > 0 && float64(left)/part < rule.Days {
		return fmt.Sprintf("full in %.1f days at %.1f new devices a day", float64(left)/part, part)
	}
	return ""
}

func sameTenants(a, b []string) bool {
	a, b = slices.Clone(a), slices.Clone(b)
	slices.Sort(a)
	slices.Sort(b)
	return slices.Equal(a, b)
}

// freeName is the next name of a stamp of an environment that is not taken.
func freeName(environment string, taken map[string]bool) string {
	for n := 1; ; n++ {
		if name := fmt.Sprintf("%.50s-%d", environment, n); !taken[name] {
			return name
		}
	}
}
