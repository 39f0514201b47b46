package configuration

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/problem"
)

// Settle brings the configurations that control decides to what it wants. New
// ones come before old ones go, so that devices fall from one to the next.
func (e *Engine) Settle(ctx context.Context, want []link.HeldConfiguration, now time.Time) error {
	have, err := e.List(ctx, Max)
	if err != nil {
		return err
	}
	var failed error
	for _, w := range want {
		i := slices.IndexFunc(have, func(c Configuration) bool { return c.ID == w.ID })
		d := Document{ID: w.ID, SchemaVersion: "1.0", Content: Content{Device: w.Content}, TargetCondition: w.Target, Priority: w.Priority}
		switch {
		case i < 0:
			_, err = e.Create(ctx, d, now)
		case have[i].TargetCondition != w.Target || have[i].Priority != w.Priority:
			d.Content = Content{}
			_, err = e.Change(ctx, d, "*", now)
		default:
			err = nil
		}
		failed = errors.Join(failed, err)
	}
	if failed != nil {
		return failed
	}
	for _, c := range have {
		ours := strings.HasPrefix(c.ID, link.ConfigurationPrefix)
		if ours && !slices.ContainsFunc(want, func(w link.HeldConfiguration) bool { return w.ID == c.ID }) {
			if err := e.Delete(ctx, c.ID, "*"); err != nil && !problem.Is(err, problem.NotFound) {
				failed = errors.Join(failed, err)
			}
		}
	}
	return failed
}
