package client

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/url"
	"strconv"
	"time"

	"github.com/slipway/slipway/internal/control/access"
	"github.com/slipway/slipway/internal/control/fleet"
	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/resource"
)

// Overview returns the environments with their stamps as they are now.
func (c *Client) Overview(ctx context.Context) ([]fleet.Level, error) {
	page, err := do[Page[fleet.Level]](ctx, c, request{method: "GET", path: path("overview")})
	return page.Items, err
}

// Capacity returns each environment's room.
func (c *Client) Capacity(ctx context.Context) ([]fleet.Capacity, error) {
	page, err := do[Page[fleet.Capacity]](ctx, c, request{method: "GET", path: path("capacity")})
	return page.Items, err
}

// Scope returns the id scope devices register with.
func (c *Client) Scope(ctx context.Context) (link.Scope, error) {
	return do[link.Scope](ctx, c, request{method: "GET", path: path("scope")})
}

// Stored is a resource as the server keeps it, whatever its kind.
type Stored struct {
	resource.Resource
	Status json.RawMessage `json:"status,omitempty"`
}

// Resources returns every resource of a kind. secrets asks for symmetric keys.
func (c *Client) Resources(ctx context.Context, kind string, secrets bool) (all []Stored, err error) {
	query := url.Values{}
	if secrets {
		query.Set("secrets", "true")
	}
	for {
		page, err := do[Page[Stored]](ctx, c, request{method: "GET", path: path(resource.Plural[kind]), query: query})
		if err != nil {
			return nil, err
		}
		if all = append(all, page.Items...); page.Next == "" {
			return all, nil
		}
		query.Set("after", page.Next)
	}
}

// Resource returns one resource.
func (c *Client) Resource(ctx context.Context, kind, name string, secrets bool) (Stored, error) {
	query := url.Values{}
	if secrets {
		query.Set("secrets", "true")
	}
	return do[Stored](ctx, c, request{method: "GET", path: path(resource.Plural[kind], name), query: query})
}

// Put creates or replaces a resource; dryRun only checks it. What comes back
// is what is, or would be, stored.
func (c *Client) Put(ctx context.Context, r resource.Resource, ifMatch string, dryRun bool) (Stored, error) {
	query := url.Values{}
	if dryRun {
		query.Set("dryRun", "true")
	}
	r.Metadata = resource.Metadata{Name: r.Metadata.Name}
	return do[Stored](ctx, c, request{method: "PUT", path: path(resource.Plural[r.Kind], r.Metadata.Name), query: query, body: r, header: map[string]string{"If-Match": ifMatch}})
}

// Delete deletes a resource.
func (c *Client) Delete(ctx context.Context, kind, name string) error {
	_, err := do[struct{}](ctx, c, request{method: "DELETE", path: path(resource.Plural[kind], name)})
	return err
}

// Devices returns a page of devices.
func (c *Client) Devices(ctx context.Context, f fleet.Filter) (fleet.Page, error) {
	query := url.Values{}
	for key, value := range map[string]string{
		"search": f.Search, "where": f.Where, "tenant": f.Tenant, "environment": f.Environment, "stamp": f.Stamp, "phase": string(f.Phase), "after": f.After,
	} {
		if value != "" {
			query.Set(key, value)
		}
	}
	if f.Limit > 0 {
		query.Set("limit", strconv.Itoa(f.Limit))
	}
	return do[fleet.Page](ctx, c, request{method: "GET", path: path("devices"), query: query})
}

// ImportDevices takes over devices that exist already.
func (c *Client) ImportDevices(ctx context.Context, r link.ImportDevices) ([]link.ImportedDevice, error) {
	query := url.Values{}
	if r.DryRun {
		query.Set("dryRun", "true")
	}
	page, err := do[Page[link.ImportedDevice]](ctx, c, request{method: "POST", path: path("environments", r.Environment, "import-devices"), query: query, body: map[string]any{
		"tenant": r.Tenant, "stamp": r.Stamp, "group": r.Group, "devices": r.Devices,
	}})
	return page.Items, err
}

// Device returns everything known of one device.
func (c *Client) Device(ctx context.Context, id string) (fleet.Detail, error) {
	return do[fleet.Detail](ctx, c, request{method: "GET", path: path("devices", id)})
}

// Placement says why a device is where it is.
func (c *Client) Placement(ctx context.Context, id string) (link.Placement, error) {
	return do[link.Placement](ctx, c, request{method: "GET", path: path("devices", id, "placement")})
}

// Twin returns a device's twin.
func (c *Client) Twin(ctx context.Context, id string) (json.RawMessage, error) {
	return do[json.RawMessage](ctx, c, request{method: "GET", path: path("devices", id, "twin")})
}

// PatchTwin merges into a device's tags and desired properties.
func (c *Client) PatchTwin(ctx context.Context, id, ifMatch string, patch json.RawMessage) (json.RawMessage, error) {
	return do[json.RawMessage](ctx, c, request{method: "PATCH", path: path("devices", id, "twin"), body: patch, header: map[string]string{"If-Match": ifMatch}})
}

// ReplaceTwin replaces a device's tags and desired properties.
func (c *Client) ReplaceTwin(ctx context.Context, id, ifMatch string, document json.RawMessage) (json.RawMessage, error) {
	return do[json.RawMessage](ctx, c, request{method: "PUT", path: path("devices", id, "twin"), body: document, header: map[string]string{"If-Match": ifMatch}})
}

// Method is a direct method call.
type Method struct {
	Payload                json.RawMessage `json:"payload,omitempty"`
	ResponseTimeoutSeconds int             `json:"responseTimeoutSeconds,omitempty"`
	ConnectTimeoutSeconds  int             `json:"connectTimeoutSeconds,omitempty"`
}

// InvokeMethod runs a direct method on a device and waits for its answer.
func (c *Client) InvokeMethod(ctx context.Context, id, method string, m Method) (link.MethodResult, error) {
	patient := *c
	patient.timeout += time.Duration(m.ResponseTimeoutSeconds+m.ConnectTimeoutSeconds) * time.Second
	return do[link.MethodResult](ctx, &patient, request{method: "POST", path: path("devices", id, "methods", method), body: m})
}

// Command is a cloud-to-device message to send.
type Command struct {
	BodyBase64    []byte            `json:"bodyBase64,omitempty"`
	MessageID     string            `json:"messageId,omitempty"`
	CorrelationID string            `json:"correlationId,omitempty"`
	ContentType   string            `json:"contentType,omitempty"`
	Properties    map[string]string `json:"properties,omitempty"`
	TTLSeconds    int               `json:"ttlSeconds,omitempty"`
}

// SendCommand queues a cloud-to-device message.
func (c *Client) SendCommand(ctx context.Context, id string, command Command) (link.QueuedMessage, error) {
	return do[link.QueuedMessage](ctx, c, request{method: "POST", path: path("devices", id, "commands"), body: command})
}

// Commands lists the cloud-to-device messages that wait for a device.
func (c *Client) Commands(ctx context.Context, id string) ([]link.QueuedMessage, error) {
	page, err := do[Page[link.QueuedMessage]](ctx, c, request{method: "GET", path: path("devices", id, "commands")})
	return page.Items, err
}

// PurgeCommands drops them.
func (c *Client) PurgeCommands(ctx context.Context, id string) (link.Purged, error) {
	return do[link.Purged](ctx, c, request{method: "DELETE", path: path("devices", id, "commands")})
}

// The logs of a device.
const (
	Messages = "messages"
	Events   = "events"
)

// LogOptions select records of a log.
type LogOptions struct {
	After uint64
	Last  bool
	Limit int
	Stamp string // another stamp than the one the device is on
}

func (o LogOptions) query() url.Values {
	query := url.Values{}
	if o.After > 0 {
		query.Set("after", strconv.FormatUint(o.After, 10))
	}
	if o.Last {
		query.Set("last", "true")
	}
	if o.Limit > 0 {
		query.Set("limit", strconv.Itoa(o.Limit))
	}
	if o.Stamp != "" {
		query.Set("stamp", o.Stamp)
	}
	return query
}

// LogPage is a page of records; NextAfter is the After of the following one.
type LogPage struct {
	Items     []link.LogRecord `json:"items"`
	NextAfter uint64           `json:"nextAfter,omitempty"`
}

// Log reads a page of a device's messages or events; without a device those of
// the stamp named in o.
func (c *Client) Log(ctx context.Context, device, log string, o LogOptions) (LogPage, error) {
	return do[LogPage](ctx, c, request{method: "GET", path: logPath(device, log, &o), query: o.query()})
}

// FollowLog calls each for records as they come until ctx ends.
func (c *Client) FollowLog(ctx context.Context, device, log string, o LogOptions, each func(link.LogRecord) error) error {
	target := logPath(device, log, &o)
	query := o.query()
	query.Set("follow", "true")
	return c.stream(ctx, request{method: "GET", path: target, query: query}, func(line []byte) error {
		var told struct {
			link.LogRecord
			Status int
			Detail string
		}
		if err := json.Unmarshal(line, &told); err != nil {
			return err
		}
		if told.Status != 0 {
			return problem.New(kinds[told.Status], "%s", told.Detail)
		}
		return each(told.LogRecord)
	})
}

func logPath(device, log string, o *LogOptions) string {
	if device != "" {
		return path("devices", device, log)
	}
	stamp := o.Stamp
	o.Stamp = ""
	return path("stamps", stamp, log)
}

// MoveRequest says which devices go where.
type MoveRequest struct {
	To      string   `json:"to"`
	Devices []string `json:"devices,omitempty"`
	Where   string   `json:"where,omitempty"`
	Reason  string   `json:"reason,omitempty"`
	// From is a stamp that devices leave, Stamp one that they go to.
	From      string  `json:"from,omitempty"`
	Stamp     string  `json:"stamp,omitempty"`
	PerSecond float64 `json:"perSecond,omitempty"`
}

// StartMove moves devices to another environment or stamp. The same key makes a
// repeated request the same move.
func (c *Client) StartMove(ctx context.Context, key string, m MoveRequest) (link.Move, error) {
	return do[link.Move](ctx, c, request{method: "POST", path: path("moves"), body: m, header: map[string]string{"Idempotency-Key": key}})
}

// Move returns a move with its census.
func (c *Client) Move(ctx context.Context, id string) (link.Move, error) {
	return do[link.Move](ctx, c, request{method: "GET", path: path("moves", id)})
}

// Moves returns the newest moves.
func (c *Client) Moves(ctx context.Context) ([]link.Move, error) {
	page, err := do[Page[link.Move]](ctx, c, request{method: "GET", path: path("moves")})
	return page.Items, err
}

// MoveDevices returns a page of a move's devices, of one state if named.
func (c *Client) MoveDevices(ctx context.Context, id, state, after string) (Page[link.MovedDevice], error) {
	query := url.Values{"limit": {"1000"}}
	if state != "" {
		query.Set("state", state)
	}
	if after != "" {
		query.Set("after", after)
	}
	return do[Page[link.MovedDevice]](ctx, c, request{method: "GET", path: path("moves", id, "devices"), query: query})
}

// NewToken is a token with its secret, which is shown once.
type NewToken struct {
	access.Token
	Secret string `json:"token"`
}

// CreateToken makes an API token.
func (c *Client) CreateToken(ctx context.Context, want access.NewToken) (NewToken, error) {
	return do[NewToken](ctx, c, request{method: "POST", path: path("tokens"), body: tokenBody(want)})
}

// Tokens lists the API tokens.
func (c *Client) Tokens(ctx context.Context) ([]access.Token, error) {
	page, err := do[Page[access.Token]](ctx, c, request{method: "GET", path: path("tokens")})
	return page.Items, err
}

// RevokeToken revokes a token.
func (c *Client) RevokeToken(ctx context.Context, id string) error {
	_, err := do[struct{}](ctx, c, request{method: "DELETE", path: path("tokens", id)})
	return err
}

// Policies returns the shared access policies of a stamp, keys and all; the
// audit log records that they were read.
func (c *Client) Policies(ctx context.Context, stamp string) ([]fleet.Policy, error) {
	page, err := do[Page[fleet.Policy]](ctx, c, request{method: "GET", path: path("stamps", stamp, "policies")})
	return page.Items, err
}

// RotatePolicy makes a key of a policy anew: "primary" or "secondary", or
// "swap" to let the two change places.
func (c *Client) RotatePolicy(ctx context.Context, stamp, policy, key string) (fleet.Policy, error) {
	return do[fleet.Policy](ctx, c, request{method: "POST", path: path("stamps", stamp, "policies", policy, "rotate"), body: map[string]string{"key": key}})
}

// UpdateClient returns what a device's update client is set up with; the audit
// log records that it was read.
func (c *Client) UpdateClient(ctx context.Context, device string) (fleet.UpdateClient, error) {
	return do[fleet.UpdateClient](ctx, c, request{method: "GET", path: path("devices", device, "update-token")})
}

// SetUpdateGateway gives the update clients of a tenant on a stamp one token for
// all its devices, or takes it away.
func (c *Client) SetUpdateGateway(ctx context.Context, stamp, tenant string, on bool) (link.UpdateGateway, error) {
	return do[link.UpdateGateway](ctx, c, request{method: "POST", path: path("stamps", stamp, "update-gateway"), body: link.SetUpdateGateway{Tenant: tenant, On: on}})
}

// Uploads returns the newest files that devices of a stamp have sent.
func (c *Client) Uploads(ctx context.Context, stamp, device string, limit int) ([]link.Upload, error) {
	query := url.Values{}
	if device != "" {
		query.Set("device", device)
	}
	if limit > 0 {
		query.Set("limit", strconv.Itoa(limit))
	}
	page, err := do[Page[link.Upload]](ctx, c, request{method: "GET", path: path("stamps", stamp, "uploads"), query: query})
	return page.Items, err
}

// ReadUpload writes the content of a file that a device has sent.
func (c *Client) ReadUpload(ctx context.Context, stamp, blob string, to io.Writer) (err error) {
	resp, err := c.send(ctx, request{method: "GET", path: path("stamps", stamp, "uploads", "content"), query: url.Values{"blob": {blob}}})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, resp.Body.Close()) }()
	_, err = io.Copy(to, resp.Body)
	return err
}

// ServicePolicies returns the policies of the provisioning service.
func (c *Client) ServicePolicies(ctx context.Context) ([]fleet.Policy, error) {
	page, err := do[Page[fleet.Policy]](ctx, c, request{method: "GET", path: path("provisioning", "policies")})
	return page.Items, err
}

// RotateServicePolicy makes a key of one of them anew, or swaps the two.
func (c *Client) RotateServicePolicy(ctx context.Context, policy, key string) (fleet.Policy, error) {
	return do[fleet.Policy](ctx, c, request{method: "POST", path: path("provisioning", "policies", policy, "rotate"), body: map[string]string{"key": key}})
}
