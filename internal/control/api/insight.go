package api

import (
	"context"

	"github.com/slipway/slipway/internal/control/insight"
)

type readInsight struct {
	Environment string `query:"environment" maxLength:"63"`
	Days        int    `query:"days" minimum:"1" maximum:"366" default:"90"`
}

// insight registers how well releases reach environments and stamps.
func (a *api) insight() {
	route(a, "GET", "/api/v1/insight", "getInsight", "How often and how well releases reach environments and stamps", func(ctx context.Context, in *readInsight) (*body[list[insight.Figures]], error) {
		all, err := a.Insight.Look(ctx, in.Environment, in.Days)
		return listOf(all, ""), err
	})
}
