package client

import (
	"context"
	"encoding/json"
	"io"
	"net/url"
	"strconv"
	"time"

	"github.com/slipway/slipway/internal/control/gateway"
	"github.com/slipway/slipway/internal/control/grant"
)

// GrantRequest is what is asked for.
type GrantRequest struct {
	Environment string       `json:"environment,omitempty"`
	Person      string       `json:"person,omitempty"`
	Draft       bool         `json:"draft,omitempty"`
	Purpose     string       `json:"purpose"`
	Reason      string       `json:"reason"`
	Ticket      string       `json:"ticket,omitempty"`
	Scope       grant.Extent `json:"scope"`
	Seconds     int64        `json:"seconds"`
	StartsAt    *time.Time   `json:"startsAt,omitempty"`
}

// RequestGrant asks for a grant.
func (c *Client) RequestGrant(ctx context.Context, r GrantRequest) (grant.Grant, error) {
	return do[grant.Grant](ctx, c, request{method: "POST", path: path("grants"), body: r})
}

// BreakGlass gives whoever asks a grant at once.
func (c *Client) BreakGlass(ctx context.Context, r GrantRequest) (grant.Grant, error) {
	return do[grant.Grant](ctx, c, request{method: "POST", path: path("grants", "break-glass"), body: r})
}

// ChangeGrant asks for something else.
func (c *Client) ChangeGrant(ctx context.Context, id string, r GrantRequest) (grant.Grant, error) {
	return do[grant.Grant](ctx, c, request{method: "PUT", path: path("grants", id, "request"), body: r})
}

// SayOfGrant submits, approves, denies, withdraws, revokes, ends or reviews a
// grant.
func (c *Client) SayOfGrant(ctx context.Context, id string, verb grant.Verb, reason string) (grant.Grant, error) {
	return do[grant.Grant](ctx, c, request{method: "POST", path: path("grants", id, string(verb)), body: map[string]string{"reason": reason}})
}

// Grants returns a page of grants, newest first.
func (c *Client) Grants(ctx context.Context, environment, person, state, after string) (Page[grant.Grant], error) {
	query := url.Values{}
	for key, value := range map[string]string{"environment": environment, "person": person, "state": state, "after": after} {
		if value != "" {
			query.Set(key, value)
		}
	}
	return do[Page[grant.Grant]](ctx, c, request{method: "GET", path: path("grants"), query: query})
}

// Grant returns a grant with everything that happened to it.
func (c *Client) Grant(ctx context.Context, id string) (grant.Grant, error) {
	return do[grant.Grant](ctx, c, request{method: "GET", path: path("grants", id)})
}

// GrantUses returns how often each permission of a grant was used.
func (c *Client) GrantUses(ctx context.Context, id string) ([]grant.Used, error) {
	page, err := do[Page[grant.Used]](ctx, c, request{method: "GET", path: path("grants", id, "uses")})
	return page.Items, err
}

// OpenAccessReview begins to look at who may do what in an environment.
func (c *Client) OpenAccessReview(ctx context.Context, environment string) (grant.AccessReview, error) {
	return do[grant.AccessReview](ctx, c, request{method: "POST", path: path("access-reviews"), body: map[string]string{"environment": environment}})
}

// AccessReviews returns access reviews, newest first.
func (c *Client) AccessReviews(ctx context.Context, environment string) ([]grant.AccessReview, error) {
	page, err := do[Page[grant.AccessReview]](ctx, c, request{method: "GET", path: path("access-reviews"), query: named("environment", environment)})
	return page.Items, err
}

// AccessReview returns an access review with its rights.
func (c *Client) AccessReview(ctx context.Context, id string) (grant.AccessReview, error) {
	return do[grant.AccessReview](ctx, c, request{method: "GET", path: path("access-reviews", id)})
}

// DecideAccessReview confirms a right, or takes it away.
func (c *Client) DecideAccessReview(ctx context.Context, id, right, decision, reason string) (grant.AccessReview, error) {
	return do[grant.AccessReview](ctx, c, request{method: "POST", path: path("access-reviews", id, "decisions"), body: map[string]string{"right": right, "decision": decision, "reason": reason}})
}

// SessionOpening is how somebody wants a shell.
type SessionOpening struct {
	Environment string `json:"environment"`
	Stamp       string `json:"stamp,omitempty"`
	Device      string `json:"device,omitempty"`
	Reason      string `json:"reason,omitempty"`
}

// OpenSession opens a recorded shell.
func (c *Client) OpenSession(ctx context.Context, o SessionOpening) (gateway.Session, error) {
	return do[gateway.Session](ctx, c, request{method: "POST", path: path("recordings"), body: o})
}

// lineWait is how long a command of a session may take.
const lineWait = 5*time.Minute + 10*time.Second

// TypeLine runs a command in a shell.
func (c *Client) TypeLine(ctx context.Context, id, line string) (gateway.Reply, error) {
	patient := *c
	patient.timeout = lineWait
	return do[gateway.Reply](ctx, &patient, request{method: "POST", path: path("recordings", id, "lines"), body: map[string]string{"line": line}})
}

// CloseSession closes a session.
func (c *Client) CloseSession(ctx context.Context, id string) (gateway.Session, error) {
	return do[gateway.Session](ctx, c, request{method: "DELETE", path: path("recordings", id)})
}

// Sessions returns a page of sessions, newest first.
func (c *Client) Sessions(ctx context.Context, environment, person, grant string, open bool, after string) (Page[gateway.Session], error) {
	query := url.Values{}
	for key, value := range map[string]string{"environment": environment, "person": person, "grant": grant, "after": after} {
		if value != "" {
			query.Set(key, value)
		}
	}
	if open {
		query.Set("open", "true")
	}
	return do[Page[gateway.Session]](ctx, c, request{method: "GET", path: path("recordings"), query: query})
}

// Session returns a session.
func (c *Client) Session(ctx context.Context, id string) (gateway.Session, error) {
	return do[gateway.Session](ctx, c, request{method: "GET", path: path("recordings", id)})
}

// Verification is whether a record is still what it was when it was closed.
type Verification struct {
	Same   bool   `json:"same"`
	Digest string `json:"digest,omitempty"`
}

// VerifySession reads the record of a session anew.
func (c *Client) VerifySession(ctx context.Context, id string) (Verification, error) {
	return do[Verification](ctx, c, request{method: "GET", path: path("recordings", id, "verification")})
}

// SessionLines returns a page of what a session did, and what came back.
func (c *Client) SessionLines(ctx context.Context, id string, after int) ([]gateway.Line, error) {
	page, err := do[Page[gateway.Line]](ctx, c, request{method: "GET", path: path("recordings", id, "lines"), query: url.Values{"after": {strconv.Itoa(after)}, "limit": {"500"}}})
	return page.Items, err
}

// FollowSession calls each for the lines of a session as they are recorded, and
// returns the session once it is closed.
func (c *Client) FollowSession(ctx context.Context, id string, after int, each func(gateway.Line) error) (closed *gateway.Session, err error) {
	err = c.stream(ctx, request{method: "GET", path: path("recordings", id, "lines"), query: url.Values{"after": {strconv.Itoa(after)}, "follow": {"true"}}}, func(text []byte) error {
		var one struct {
			Line   *gateway.Line    `json:"line"`
			Closed *gateway.Session `json:"closed"`
		}
		if err := json.Unmarshal(text, &one); err != nil {
			return err
		}
		if one.Line != nil {
			return each(*one.Line)
		}
		closed = one.Closed
		return nil
	})
	return closed, err
}

// SessionRecord writes the record of a session as an asciicast.
func (c *Client) SessionRecord(ctx context.Context, id string, out io.Writer) error {
	resp, err := c.send(ctx, request{method: "GET", path: path("recordings", id, "record")})
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	_, err = io.Copy(out, resp.Body)
	return err
}
