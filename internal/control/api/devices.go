package api

import (
	"context"
	"encoding/json"
	"time"

	"github.com/slipway/slipway/internal/control/fleet"
	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/problem"
)

// DeviceRef is a device named in the path.
type DeviceRef struct {
	ID string `path:"id" maxLength:"128" doc:"Device id, percent-encoded"`
}

type listDevices struct {
	Search      string `query:"search" maxLength:"128" doc:"Part of a device id"`
	Where       string `query:"where" maxLength:"8192" doc:"Condition over tags, twin and state, such as tags.batch = '7'"`
	Environment string `query:"environment"`
	Tenant      string `query:"tenant"`
	Stamp       string `query:"stamp"`
	Phase       string `query:"phase" enum:"creating,assigned,removing,waiting"`
	After       string `query:"after"`
	Limit       int    `query:"limit" minimum:"1" maximum:"1000"`
}

// changeTwin takes the patch as it is, so that null and numbers stay what
// they were.
type changeTwin struct {
	DeviceRef
	IfMatch string          `header:"If-Match" doc:"ETag the twin must have"`
	Body    json.RawMessage `doc:"{\"tags\":{…},\"properties\":{\"desired\":{…}}}"`
}

type invoke struct {
	DeviceRef
	Method string `path:"method" maxLength:"100"`
	Body   struct {
		Payload                json.RawMessage `json:"payload,omitempty"`
		ResponseTimeoutSeconds int             `json:"responseTimeoutSeconds,omitempty" minimum:"0" maximum:"300"`
		ConnectTimeoutSeconds  int             `json:"connectTimeoutSeconds,omitempty" minimum:"0" maximum:"300"`
	}
}

type sendMessage struct {
	DeviceRef
	Body struct {
		Body          json.RawMessage   `json:"body,omitempty" doc:"JSON, sent as it is; a JSON string is sent as its text"`
		BodyBase64    []byte            `json:"bodyBase64,omitempty" doc:"Any bytes, instead of body"`
		MessageID     string            `json:"messageId,omitempty"`
		CorrelationID string            `json:"correlationId,omitempty"`
		ContentType   string            `json:"contentType,omitempty"`
		Properties    map[string]string `json:"properties,omitempty"`
		TTLSeconds    int               `json:"ttlSeconds,omitempty" minimum:"0"`
	}
}

// devices registers what can be done with one device.
func (a *api) devices() {
	route(a, "GET", "/api/v1/overview", "getOverview", "Environments with their stamps as they are now", func(ctx context.Context, _ *nothing) (*body[list[fleet.Level]], error) {
		levels, err := a.Fleet.Overview(ctx)
		return listOf(levels, ""), err
	})
	route(a, "GET", "/api/v1/capacity", "getCapacity", "Each environment's room, how long it lasts, and what to do", func(ctx context.Context, _ *nothing) (*body[list[fleet.Capacity]], error) {
		all, err := a.Fleet.Capacity(ctx)
		return listOf(all, ""), err
	})
	route(a, "GET", "/api/v1/devices", "listDevices", "Devices in order of id", func(ctx context.Context, in *listDevices) (*body[fleet.Page], error) {
		if own := actorOf(ctx).Tenant; own != "" {
			in.Tenant = own
		}
		page, err := a.Fleet.List(ctx, fleet.Filter{
			Tenant: in.Tenant,
			Search: in.Search, Where: in.Where, Environment: in.Environment, Stamp: in.Stamp, Phase: link.Phase(in.Phase), After: in.After, Limit: in.Limit,
		})
		return &body[fleet.Page]{page}, err
	})
	route(a, "GET", "/api/v1/devices/{id}", "getDevice", "One device with its history and twin", func(ctx context.Context, in *DeviceRef) (*body[fleet.Detail], error) {
		d, err := a.Fleet.Show(ctx, in.ID)
		return &body[fleet.Detail]{d}, err
	})
	route(a, "GET", "/api/v1/devices/{id}/placement", "getPlacement", "Why a device is where it is, and what speaks for or against each stamp", func(ctx context.Context, in *DeviceRef) (*body[link.Placement], error) {
		p, err := a.Fleet.Placement(ctx, in.ID)
		return &body[link.Placement]{p}, err
	})
	route(a, "GET", "/api/v1/devices/{id}/twin", "getTwin", "A device's twin", func(ctx context.Context, in *DeviceRef) (*tagged[json.RawMessage], error) {
		t, err := a.Fleet.Twin(ctx, in.ID)
		return &tagged[json.RawMessage]{quote(t.ETag), t.Document}, err
	})
	route(a, "PATCH", "/api/v1/devices/{id}/twin", "patchTwin", "Merge into tags and desired properties", func(ctx context.Context, in *changeTwin) (*tagged[json.RawMessage], error) {
		t, err := a.Fleet.PatchTwin(ctx, actorOf(ctx), in.ID, in.IfMatch, in.Body)
		return &tagged[json.RawMessage]{quote(t.ETag), t.Document}, err
	})
	route(a, "PUT", "/api/v1/devices/{id}/twin", "replaceTwin", "Replace tags and desired properties", func(ctx context.Context, in *changeTwin) (*tagged[json.RawMessage], error) {
		t, err := a.Fleet.ReplaceTwin(ctx, actorOf(ctx), in.ID, in.IfMatch, in.Body)
		return &tagged[json.RawMessage]{quote(t.ETag), t.Document}, err
	})
	route(a, "POST", "/api/v1/devices/{id}/methods/{method}", "invokeMethod", "Run a direct method and wait for the answer", func(ctx context.Context, in *invoke) (*body[link.MethodResult], error) {
		result, err := a.Fleet.InvokeMethod(ctx, actorOf(ctx), link.InvokeMethod{
			DeviceID: in.ID, Method: in.Method, Payload: in.Body.Payload,
			ResponseTimeout: time.Duration(in.Body.ResponseTimeoutSeconds) * time.Second, ConnectTimeout: time.Duration(in.Body.ConnectTimeoutSeconds) * time.Second,
		})
		return &body[link.MethodResult]{result}, err
	})
	a.commands()
}

// commands registers the queue of cloud-to-device messages.
func (a *api) commands() {
	const path = "/api/v1/devices/{id}/commands"
	route(a, "GET", path, "listCommands", "Cloud-to-device messages that wait", func(ctx context.Context, in *DeviceRef) (*body[list[link.QueuedMessage]], error) {
		queued, err := a.Fleet.Queued(ctx, in.ID)
		return listOf(queued.Items, ""), err
	})
	route(a, "POST", path, "sendCommand", "Queue a cloud-to-device message", func(ctx context.Context, in *sendMessage) (*body[link.QueuedMessage], error) {
		m := link.SendMessage{
			DeviceID: in.ID, MessageID: in.Body.MessageID, CorrelationID: in.Body.CorrelationID, ContentType: in.Body.ContentType,
			Properties: in.Body.Properties, TTL: time.Duration(in.Body.TTLSeconds) * time.Second, Body: in.Body.BodyBase64,
		}
		if len(in.Body.Body) > 0 {
			if len(m.Body) > 0 {
				return nil, problem.New(problem.Invalid, "send body or bodyBase64, not both").At("bodyBase64")
			}
			m.Body = textOf(in.Body.Body)
		}
		queued, err := a.Fleet.SendMessage(ctx, actorOf(ctx), m)
		return &body[link.QueuedMessage]{queued}, err
	})
	route(a, "DELETE", path, "purgeCommands", "Drop the messages that wait", func(ctx context.Context, in *DeviceRef) (*body[link.Purged], error) {
		purged, err := a.Fleet.PurgeMessages(ctx, actorOf(ctx), in.ID)
		return &body[link.Purged]{purged}, err
	})
}

// textOf is a JSON string's text, and any other JSON as it is.
func textOf(value json.RawMessage) []byte {
	var text string
	if json.Unmarshal(value, &text) == nil {
		return []byte(text)
	}
	return value
}
