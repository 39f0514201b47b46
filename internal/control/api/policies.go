package api

import (
	"context"

	"github.com/slipway/slipway/internal/control/fleet"
)

// StampRef is a stamp named in the path.
type StampRef struct {
	Stamp string `path:"name" maxLength:"63"`
}

type rotatePolicy struct {
	StampRef
	Policy string `path:"policy" maxLength:"64"`
	Body   struct {
		Key string `json:"key" enum:"primary,secondary,swap" doc:"Which key is made anew; swap lets the two change places"`
	}
}

type rotateServicePolicy struct {
	Policy string `path:"policy" maxLength:"64"`
	Body   struct {
		Key string `json:"key" enum:"primary,secondary,swap"`
	}
}

// policies registers the shared access policies of stamps.
func (a *api) policies() {
	route(a, "GET", "/api/v1/stamps/{name}/policies", "listPolicies", "Shared access policies with their keys and connection strings; reading them is recorded", func(ctx context.Context, in *StampRef) (*body[list[fleet.Policy]], error) {
		all, err := a.Fleet.Policies(ctx, actorOf(ctx), in.Stamp)
		return listOf(all, ""), err
	})
	route(a, "POST", "/api/v1/stamps/{name}/policies/{policy}/rotate", "rotatePolicy", "Make a key of a policy anew", func(ctx context.Context, in *rotatePolicy) (*body[fleet.Policy], error) {
		p, err := a.Fleet.RotatePolicy(ctx, actorOf(ctx), in.Stamp, in.Policy, in.Body.Key)
		return &body[fleet.Policy]{p}, err
	})
	route(a, "GET", "/api/v1/provisioning/policies", "listProvisioningPolicies", "Policies of the provisioning service with their keys; reading them is recorded", func(ctx context.Context, _ *nothing) (*body[list[fleet.Policy]], error) {
		all, err := a.Fleet.ServicePolicies(ctx, actorOf(ctx), a.Provisioning)
		return listOf(all, ""), err
	})
	route(a, "POST", "/api/v1/provisioning/policies/{policy}/rotate", "rotateProvisioningPolicy", "Make a key of a policy of the provisioning service anew", func(ctx context.Context, in *rotateServicePolicy) (*body[fleet.Policy], error) {
		p, err := a.Fleet.RotateServicePolicy(ctx, actorOf(ctx), a.Provisioning, in.Policy, in.Body.Key)
		return &body[fleet.Policy]{p}, err
	})
}
