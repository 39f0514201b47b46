package client

import (
	"context"
	"net/url"
	"strconv"
	"time"

	"github.com/slipway/slipway/internal/link"
)

// TryRoute asks what a route would make of a message.
func (c *Client) TryRoute(ctx context.Context, name string, m link.LogRecord) (link.RouteTrial, error) {
	if m.Properties == nil {
		m.Properties = map[string]string{}
	}
	if m.SystemProperties == nil {
		m.SystemProperties = map[string]string{}
	}
	return do[link.RouteTrial](ctx, c, request{method: "POST", path: path("routes", name, "try"), body: m})
}

// DeadLetters returns a page of the messages a route could not deliver.
func (c *Client) DeadLetters(ctx context.Context, route, stamp, after string, limit int) (Page[link.DeadLetter], error) {
	query := url.Values{"stamp": {stamp}}
	if after != "" {
		query.Set("after", after)
	}
	if limit > 0 {
		query.Set("limit", strconv.Itoa(limit))
	}
	return do[Page[link.DeadLetter]](ctx, c, request{method: "GET", path: path("routes", route, "dead-letters"), query: query})
}

// deadLetters are those of a stamp, or some of them.
type deadLetters struct {
	Stamp string  `json:"stamp"`
	IDs   []int64 `json:"ids,omitempty"`
}

// ReplayDeadLetters has them offered once more; no ids mean all.
func (c *Client) ReplayDeadLetters(ctx context.Context, route, stamp string, ids []int64) (link.Purged, error) {
	return do[link.Purged](ctx, c, request{method: "POST", path: path("routes", route, "dead-letters", "replay"), body: deadLetters{stamp, ids}})
}

// PurgeDeadLetters drops them; no ids mean all.
func (c *Client) PurgeDeadLetters(ctx context.Context, route, stamp string, ids []int64) (link.Purged, error) {
	return do[link.Purged](ctx, c, request{method: "POST", path: path("routes", route, "dead-letters", "purge"), body: deadLetters{stamp, ids}})
}

// Consumers lists the groups that read a stamp.
func (c *Client) Consumers(ctx context.Context, stamp string) ([]link.Consumer, error) {
	page, err := do[Page[link.Consumer]](ctx, c, request{method: "GET", path: path("stamps", stamp, "consumers")})
	return page.Items, err
}

// ReadConsumer returns what comes next for a group.
func (c *Client) ReadConsumer(ctx context.Context, stamp string, req link.ReadConsumer) (link.ConsumerPage, error) {
	query := url.Values{}
	for key, value := range map[string]string{"source": req.Source, "from": req.From} {
		if value != "" {
			query.Set(key, value)
		}
	}
	if req.Partition != nil {
		query.Set("partition", strconv.Itoa(*req.Partition))
	}
	if req.After > 0 {
		query.Set("after", strconv.FormatUint(req.After, 10))
	}
	if req.Limit > 0 {
		query.Set("limit", strconv.Itoa(req.Limit))
	}
	if req.Wait > 0 {
		query.Set("waitSeconds", strconv.Itoa(int(req.Wait/time.Second)))
	}
	return do[link.ConsumerPage](ctx, c, request{method: "GET", path: path("stamps", stamp, "consumers", req.Group, "messages"), query: query})
}

// AckConsumer says that everything up to a position is worked off.
func (c *Client) AckConsumer(ctx context.Context, stamp string, req link.AckConsumer) (link.Consumer, error) {
	return do[link.Consumer](ctx, c, request{method: "POST", path: path("stamps", stamp, "consumers", req.Group, "ack"), body: struct {
		Source    string `json:"source,omitempty"`
		Partition *int   `json:"partition,omitempty"`
		Position  uint64 `json:"position"`
	}{req.Source, req.Partition, req.Position}})
}

// SeekConsumer sets where a group goes on.
func (c *Client) SeekConsumer(ctx context.Context, stamp string, req link.SeekConsumer) (link.Consumer, error) {
	return do[link.Consumer](ctx, c, request{method: "POST", path: path("stamps", stamp, "consumers", req.Group, "seek"), body: struct {
		Source    string     `json:"source,omitempty"`
		Partition *int       `json:"partition,omitempty"`
		To        string     `json:"to,omitempty"`
		Sequence  uint64     `json:"sequence,omitempty"`
		Time      *time.Time `json:"time,omitempty"`
	}{req.Source, req.Partition, req.To, req.Sequence, req.Time}})
}

// DeleteConsumer forgets a group.
func (c *Client) DeleteConsumer(ctx context.Context, stamp, group string) error {
	_, err := do[struct{}](ctx, c, request{method: "DELETE", path: path("stamps", stamp, "consumers", group)})
	return err
}

// Certificates returns the newest operational certificates, of one device if
// named.
func (c *Client) Certificates(ctx context.Context, device string, limit int) ([]link.IssuedCertificate, error) {
	query := url.Values{}
	if device != "" {
		query.Set("device", device)
	}
	if limit > 0 {
		query.Set("limit", strconv.Itoa(limit))
	}
	page, err := do[Page[link.IssuedCertificate]](ctx, c, request{method: "GET", path: path("provisioning", "certificates"), query: query})
	return page.Items, err
}

// RevokeCertificate makes a certificate void.
func (c *Client) RevokeCertificate(ctx context.Context, serial string) (link.IssuedCertificate, error) {
	return do[link.IssuedCertificate](ctx, c, request{method: "POST", path: path("provisioning", "certificates", serial, "revoke")})
}

// Authorities returns the certificate authorities that enrolments may name.
func (c *Client) Authorities(ctx context.Context) ([]link.Authority, error) {
	page, err := do[Page[link.Authority]](ctx, c, request{method: "GET", path: path("provisioning", "authorities")})
	return page.Items, err
}

type certificateBody struct {
	Certificate string `json:"certificate"`
}

// AddAuthority keeps an authority by its certificate in PEM.
func (c *Client) AddAuthority(ctx context.Context, name, certificate string) (link.Authority, error) {
	return do[link.Authority](ctx, c, request{method: "PUT", path: path("provisioning", "authorities", name), body: certificateBody{certificate}})
}

// VerifyAuthority proves an authority by a certificate in PEM that it signed.
func (c *Client) VerifyAuthority(ctx context.Context, name, certificate string) (link.Authority, error) {
	return do[link.Authority](ctx, c, request{method: "POST", path: path("provisioning", "authorities", name, "verify"), body: certificateBody{certificate}})
}

// DeleteAuthority forgets an authority.
func (c *Client) DeleteAuthority(ctx context.Context, name string) error {
	_, err := do[struct{}](ctx, c, request{method: "DELETE", path: path("provisioning", "authorities", name)})
	return err
}
