package configuration

import (
	"context"
	"encoding/json"
	"errors"
	"sync"
	"time"

	"github.com/slipway/slipway/internal/control/drift"
	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/sqldb"
)

// Wanted are the configurations that the stamps of an environment are to have.
func (c *Configurations) Wanted(ctx context.Context, environment string) ([]link.HeldConfiguration, error) {
	standings, err := sqldb.Rows(ctx, c.o.DB, scanStanding, selectStandings+" WHERE environment = ? AND number > 0 ORDER BY name", environment)
	if err != nil {
		return nil, err
	}
	all := make([]link.HeldConfiguration, 0, len(standings))
	for _, s := range standings {
		d, err := readDefinition(ctx, c.o.DB, s.Name)
		if err != nil {
			return nil, err
		}
		v, err := readVersion(ctx, c.o.DB, s.Name, s.Number)
		if err != nil {
			return nil, err
		}
		one, err := v.held(d.Definition)
		if err != nil {
			return nil, err
		}
		all = append(all, one)
	}
	return all, nil
}

// lookEvery is how often everything is looked at without a reason.
const lookEvery = 10 * time.Second

// Run steps changes and tells stamps what they are to have until ctx ends.
func (c *Configurations) Run(ctx context.Context) error {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		if err := errors.Join(c.Step(ctx), c.push(ctx)); err != nil && ctx.Err() == nil {
			c.o.Logger.Warn("configurations not brought about; trying again", "error", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-c.look:
		case <-tick.C:
		}
	}
}

// pushTime is how long stamps may take to hear of their configurations.
const pushTime = 5 * time.Second

// push tells every stamp what it is to have. One that is away hears of it
// later.
func (c *Configurations) push(ctx context.Context) error {
	stamps, err := c.o.Stamps(ctx)
	if err != nil {
		return err
	}
	ctx, done := context.WithTimeout(ctx, pushTime)
	defer done()
	wanted := map[string][]link.HeldConfiguration{}
	var telling sync.WaitGroup
	for _, s := range stamps {
		all, known := wanted[s.Spec.Environment]
		if !known {
			if all, err = c.Wanted(ctx, s.Spec.Environment); err != nil {
				return err
			}
			wanted[s.Spec.Environment] = all
		}
		telling.Go(func() {
			if err := c.o.Put(ctx, s.Metadata.Name, link.WantedConfigurations{Items: all}); err != nil {
				c.o.Logger.Debug("a stamp has not heard of its configurations; told again later", "stamp", s.Metadata.Name, "error", err)
			}
		})
	}
	telling.Wait()
	return nil
}

// Diff are the places in which two versions differ; 0 is nothing at all.
func (c *Configurations) Diff(ctx context.Context, name string, from, to int64) ([]drift.Change, error) {
	var texts [2]json.RawMessage
	for i, number := range []int64{from, to} {
		texts[i] = json.RawMessage("{}")
		if number == 0 {
			continue
		}
		v, err := readVersion(ctx, c.o.DB, name, number)
		if err != nil {
			return nil, err
		}
		texts[i] = v.Content
	}
	return drift.Compare(texts[0], texts[1], nil)
}
