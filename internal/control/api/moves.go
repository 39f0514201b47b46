package api

import (
	"context"

	"github.com/slipway/slipway/internal/link"
)

type startMove struct {
	Key  string `header:"Idempotency-Key" maxLength:"100" doc:"The same key makes a repeated request the same move"`
	Body struct {
		To        string   `json:"to,omitempty" doc:"Target environment; may be left out where stamp or from imply it"`
		Devices   []string `json:"devices,omitempty" maxItems:"10000"`
		Where     string   `json:"where,omitempty" maxLength:"8192" doc:"Condition that selects devices, instead of a list"`
		From      string   `json:"from,omitempty" doc:"Stamp whose devices leave it: all, unless they are named or selected"`
		Stamp     string   `json:"stamp,omitempty" doc:"Stamp they go to, as long as it takes them"`
		PerSecond float64  `json:"perSecond,omitempty" doc:"Devices that begin to move each second at most; 0 is no limit"`
		Reason    string   `json:"reason,omitempty" maxLength:"500"`
	}
}

type importDevices struct {
	Named
	DryRun bool `query:"dryRun" doc:"Check and answer what would become of each, store nothing"`
	Body   struct {
		Tenant  string              `json:"tenant,omitempty" maxLength:"63" doc:"Whose they are; a device may name another"`
		Stamp   string              `json:"stamp,omitempty" maxLength:"63" doc:"Where they go; a device may name another; default any that has room"`
		Group   string              `json:"group,omitempty" maxLength:"128" doc:"Enrolment group of devices without a key or thumbprint of their own"`
		Devices []link.ImportDevice `json:"devices" minItems:"1" maxItems:"200"`
	}
}

// MoveRef is a move, or a token, named in the path.
type MoveRef struct {
	ID string `path:"id"`
}

// PageQuery asks for a page.
type PageQuery struct {
	After string `query:"after"`
	Limit int    `query:"limit" minimum:"1" maximum:"1000"`
}

type listMoveDevices struct {
	MoveRef
	PageQuery
	State string `query:"state" enum:"pending,removing,waiting,arrived,already,failed"`
}

// moves registers moves between environments.
func (a *api) moves() {
	route(a, "POST", "/api/v1/moves", "startMove", "Move devices to another environment or stamp", func(ctx context.Context, in *startMove) (*body[link.Move], error) {
		b := in.Body
		m, err := a.Fleet.StartMove(ctx, actorOf(ctx), link.StartMove{
			Key: in.Key, To: b.To, Devices: b.Devices, Where: b.Where, Reason: b.Reason, From: b.From, Stamp: b.Stamp, PerSecond: b.PerSecond,
		})
		return &body[link.Move]{m}, err
	})
	route(a, "POST", "/api/v1/environments/{name}/import-devices", "importDevices", "Take over devices that exist already, with the credentials and twins they have", func(ctx context.Context, in *importDevices) (*body[list[link.ImportedDevice]], error) {
		result, err := a.Fleet.ImportDevices(ctx, actorOf(ctx), link.ImportDevices{
			Environment: in.Name, Tenant: in.Body.Tenant, Stamp: in.Body.Stamp, Group: in.Body.Group, DryRun: in.DryRun, Devices: in.Body.Devices,
		})
		return listOf(result.Items, ""), err
	})
	route(a, "GET", "/api/v1/moves", "listMoves", "The newest moves", func(ctx context.Context, in *struct {
		Limit int `query:"limit" minimum:"1" maximum:"1000"`
	}) (*body[list[link.Move]], error) {
		moves, err := a.Fleet.Moves(ctx, in.Limit)
		return listOf(moves.Items, ""), err
	})
	route(a, "GET", "/api/v1/moves/{id}", "getMove", "A move with its census", func(ctx context.Context, in *MoveRef) (*body[link.Move], error) {
		m, err := a.Fleet.Move(ctx, in.ID)
		return &body[link.Move]{m}, err
	})
	route(a, "GET", "/api/v1/moves/{id}/devices", "listMoveDevices", "A move's devices in order of id", func(ctx context.Context, in *listMoveDevices) (*body[list[link.MovedDevice]], error) {
		page, err := a.Fleet.MoveDevices(ctx, link.ListMoveDevices{ID: in.ID, State: in.State, After: in.After, Limit: in.Limit})
		next := ""
		if page.More && len(page.Items) > 0 {
			next = page.Items[len(page.Items)-1].DeviceID
		}
		return listOf(page.Items, next), err
	})
}

// admin registers the id scope.
func (a *api) admin() {
	route(a, "GET", "/api/v1/scope", "getScope", "The id scope devices register with", func(ctx context.Context, _ *nothing) (*body[link.Scope], error) {
		scope, err := a.Fleet.Scope(ctx)
		scope.Provisioning = a.Registering
		return &body[link.Scope]{scope}, err
	})
}
