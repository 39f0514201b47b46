package client

import (
	"context"
	"encoding/json"
	"net/url"
	"strconv"

	"github.com/slipway/slipway/internal/control/gate"
)

// UploadTests says what a suite of tests made of a release.
func (c *Client) UploadTests(ctx context.Context, release, environment, suite string, files []gate.Report) (gate.TestResult, error) {
	return do[gate.TestResult](ctx, c, request{method: "POST", path: path("releases", release, "test-results"), body: map[string]any{"environment": environment, "suite": suite, "files": files}})
}

// TestResults returns what suites of tests made of a release, newest first.
func (c *Client) TestResults(ctx context.Context, release string) ([]gate.TestResult, error) {
	page, err := do[Page[gate.TestResult]](ctx, c, request{method: "GET", path: path("releases", release, "test-results")})
	return page.Items, err
}

// UploadVulnerabilities adds vulnerabilities in the OSV format and returns how
// many were read.
func (c *Client) UploadVulnerabilities(ctx context.Context, list json.RawMessage) (int, error) {
	read, err := do[struct{ Read int }](ctx, c, request{method: "POST", path: path("vulnerabilities"), body: list})
	return read.Read, err
}

// Vulnerabilities returns a page of the known vulnerabilities.
func (c *Client) Vulnerabilities(ctx context.Context, after string, limit int) (Page[gate.Vulnerability], error) {
	query := url.Values{}
	if after != "" {
		query.Set("after", after)
	}
	if limit > 0 {
		query.Set("limit", strconv.Itoa(limit))
	}
	return do[Page[gate.Vulnerability]](ctx, c, request{method: "GET", path: path("vulnerabilities"), query: query})
}

// GateKey returns what signatures of webhooks are checked with.
func (c *Client) GateKey(ctx context.Context) (string, error) {
	key, err := do[struct{ PublicKey string }](ctx, c, request{method: "GET", path: path("gate-key")})
	return key.PublicKey, err
}

// Freezes returns when each environment takes releases.
func (c *Client) Freezes(ctx context.Context) ([]gate.Calendar, error) {
	page, err := do[Page[gate.Calendar]](ctx, c, request{method: "GET", path: path("freezes")})
	return page.Items, err
}

// Halts returns what stops releases by hand, with what did so if ended is set.
func (c *Client) Halts(ctx context.Context, ended bool) ([]gate.Halt, error) {
	page, err := do[Page[gate.Halt]](ctx, c, request{method: "GET", path: path("halts"), query: url.Values{"ended": {strconv.FormatBool(ended)}}})
	return page.Items, err
}

// NewHalt is a halt that begins.
type NewHalt struct {
	Environment      string   `json:"environment,omitempty"`
	Reason           string   `json:"reason"`
	Exempt           []string `json:"exempt,omitempty"`
	ExpiresInSeconds int64    `json:"expiresInSeconds,omitempty"`
}

// Halt stops releases at once.
func (c *Client) Halt(ctx context.Context, h NewHalt) (gate.Halt, error) {
	return do[gate.Halt](ctx, c, request{method: "POST", path: path("halts"), body: h})
}

// LiftHalt ends a halt.
func (c *Client) LiftHalt(ctx context.Context, id, reason string) (gate.Halt, error) {
	return do[gate.Halt](ctx, c, request{method: "POST", path: path("halts", id, "lift"), body: map[string]string{"reason": reason}})
}
