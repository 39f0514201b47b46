package client

import (
	"context"
	"errors"
	"io"
	"net/url"
	"strconv"

	"github.com/slipway/slipway/internal/control/readiness"
)

// ReadinessReport returns a signed report of how ready an environment is, on one
// framework or on all.
func (c *Client) ReadinessReport(ctx context.Context, environment, framework string) (readiness.Signed, error) {
	return do[readiness.Signed](ctx, c, request{method: "GET", path: path("environments", environment, "readiness", "report"), query: onFramework(framework)})
}

// ReadinessPage writes the same as a page.
func (c *Client) ReadinessPage(ctx context.Context, environment, framework string, to io.Writer) error {
	return c.copied(ctx, request{method: "GET", path: path("environments", environment, "readiness", "report.html"), query: onFramework(framework)}, to)
}

func onFramework(framework string) url.Values {
	if framework == "" {
		return nil
	}
	return url.Values{"framework": {framework}}
}

// copied makes a call and writes its answer as it comes.
func (c *Client) copied(ctx context.Context, r request, to io.Writer) (err error) {
	resp, err := c.send(ctx, r)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, resp.Body.Close()) }()
	_, err = io.Copy(to, resp.Body)
	return err
}

// Frameworks are the frameworks that are mapped to checks.
func (c *Client) Frameworks(ctx context.Context) ([]readiness.Framework, error) {
	page, err := do[Page[readiness.Framework]](ctx, c, request{method: "GET", path: path("frameworks")})
	return page.Items, err
}

// AssessFramework tells how an environment stands with what a framework asks for.
func (c *Client) AssessFramework(ctx context.Context, environment, framework string) (readiness.Assessment, error) {
	return do[readiness.Assessment](ctx, c, request{method: "GET", path: path("environments", environment, "readiness", "frameworks", framework)})
}

// CalendarFeed writes the calendar as iCalendar.
func (c *Client) CalendarFeed(ctx context.Context, environment string, days int, to io.Writer) error {
	query := url.Values{"days": {strconv.Itoa(days)}}
	if environment != "" {
		query.Set("environment", environment)
	}
	return c.copied(ctx, request{method: "GET", path: path("calendar.ics"), query: query}, to)
}
