package client

import (
	"context"
	"net/url"
	"strconv"
	"strings"

	"github.com/slipway/slipway/internal/control/retention"
	"github.com/slipway/slipway/internal/link"
)

// Retention tells how long everything is kept, and how each plane stands.
func (c *Client) Retention(ctx context.Context) (retention.RetentionOverview, error) {
	return do[retention.RetentionOverview](ctx, c, request{method: "GET", path: path("retention")})
}

// SetRetention changes how long things are kept.
func (c *Client) SetRetention(ctx context.Context, s retention.Settings) (retention.Settings, error) {
	return do[retention.Settings](ctx, c, request{method: "PUT", path: path("retention"), body: s})
}

// TryRetention counts what would be removed now, were some kinds kept for other
// numbers of days.
func (c *Client) TryRetention(ctx context.Context, planes []string, days map[string]int) ([]retention.Trial, error) {
	query := url.Values{}
	if len(planes) > 0 {
		query.Set("planes", strings.Join(planes, ","))
	}
	var kept []string
	for kind, n := range days {
		kept = append(kept, kind+":"+strconv.Itoa(n))
	}
	if len(kept) > 0 {
		query.Set("days", strings.Join(kept, ","))
	}
	page, err := do[Page[retention.Trial]](ctx, c, request{method: "GET", path: path("retention", "dry-run"), query: query})
	return page.Items, err
}

// RunRetention has planes cleaned up now: those named, or all.
func (c *Client) RunRetention(ctx context.Context, planes []string) ([]string, error) {
	body := map[string]any{}
	if len(planes) > 0 {
		body["planes"] = planes
	}
	page, err := do[Page[string]](ctx, c, request{method: "POST", path: path("retention", "run"), body: body})
	return page.Items, err
}

// LegalHolds returns the legal holds in force, or all there ever were.
func (c *Client) LegalHolds(ctx context.Context, all bool) ([]retention.LegalHold, error) {
	query := url.Values{}
	if all {
		query.Set("all", "true")
	}
	page, err := do[Page[retention.LegalHold]](ctx, c, request{method: "GET", path: path("legal-holds"), query: query})
	return page.Items, err
}

// PlaceLegalHold keeps what is known of a device or a tenant.
func (c *Client) PlaceLegalHold(ctx context.Context, on link.CareHold, reason string) (retention.LegalHold, error) {
	body := map[string]string{"reason": reason}
	if on.Device != "" {
		body["device"] = on.Device
	}
	if on.Tenant != "" {
		body["tenant"] = on.Tenant
	}
	return do[retention.LegalHold](ctx, c, request{method: "POST", path: path("legal-holds"), body: body})
}

// LiftLegalHold ends a legal hold.
func (c *Client) LiftLegalHold(ctx context.Context, id, reason string) (retention.LegalHold, error) {
	return do[retention.LegalHold](ctx, c, request{method: "POST", path: path("legal-holds", id, "lift"), body: map[string]string{"reason": reason}})
}
