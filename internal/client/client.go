// Package client is the control API as Go methods, for the CLI and for tests.
package client

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/slipway/slipway/internal/problem"
)

// Options say which installation to speak to.
type Options struct {
	URL     string // of the API, such as https://127.0.0.1:8443
	Token   string
	CAFile  string        // PEM of the authority to trust besides the system's
	TLS     *tls.Config   // instead of CAFile, for processes that join
	Timeout time.Duration // of a request; default 60 s; streams have none
}

// Client speaks to one installation.
type Client struct {
	base    *url.URL
	token   string
	http    *http.Client
	timeout time.Duration
}

// New returns a client. It opens no connection.
func New(o Options) (*Client, error) {
	base, err := url.Parse(strings.TrimSuffix(o.URL, "/"))
	if err != nil || base.Host == "" || base.Scheme != "https" && base.Scheme != "http" {
		return nil, problem.New(problem.Invalid, "the installation's URL reads https://host:port, not %q", o.URL).At("url")
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	if o.CAFile != "" {
		pem, err := os.ReadFile(o.CAFile)
		if err != nil {
			return nil, fmt.Errorf("read the CA file: %w", err)
		}
		pool, err := x509.SystemCertPool()
		if err != nil {
			pool = x509.NewCertPool()
		}
		if !pool.AppendCertsFromPEM(pem) {
			return nil, problem.New(problem.Invalid, "%s holds no PEM certificate", o.CAFile).At("ca")
		}
		transport.TLSClientConfig = &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}
	}
	if o.TLS != nil {
		transport.TLSClientConfig = o.TLS
	}
	if o.Timeout == 0 {
		o.Timeout = 60 * time.Second
	}
	return &Client{base, o.Token, &http.Client{Transport: transport}, o.Timeout}, nil
}

// request is one call.
type request struct {
	method string
	path   string // with the segments escaped
	query  url.Values
	header map[string]string
	body   any // JSON; json.RawMessage goes as it is
}

// path joins escaped segments under the API's root.
func path(segments ...string) string {
	escaped := make([]string, len(segments))
	for i, s := range segments {
		escaped[i] = url.PathEscape(s)
	}
	return "/api/v1/" + strings.Join(escaped, "/")
}

func (c *Client) send(ctx context.Context, r request) (*http.Response, error) {
	var content io.Reader
	if r.body != nil {
		var text bytes.Buffer
		encoder := json.NewEncoder(&text)
		encoder.SetEscapeHTML(false) // a file that is XML would grow sixfold
		if err := encoder.Encode(r.body); err != nil {
			return nil, err
		}
		content = &text
	}
	target := c.base.String() + r.path
	if len(r.query) > 0 {
		target += "?" + r.query.Encode()
	}
	req, err := http.NewRequestWithContext(ctx, r.method, target, content)
	if err != nil {
		return nil, err
	}
	if content != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	for key, value := range r.header {
		if value != "" {
			req.Header.Set(key, value)
		}
	}
	return c.request(req)
}

// request sends a request that is made, with the token.
func (c *Client) request(req *http.Request) (*http.Response, error) {
	req.Header.Set("Authorization", "Bearer "+c.token)
	req.Header.Set("Accept", "application/json")
	resp, err := c.http.Do(req)
	if err != nil {
		if req.Context().Err() != nil {
			return nil, req.Context().Err()
		}
		return nil, problem.New(problem.NotReady, "the installation at %s cannot be reached: %w", c.base, unwrapURL(err))
	}
	if resp.StatusCode >= 300 {
		return nil, errors.Join(problemOf(resp), resp.Body.Close())
	}
	return resp, nil
}

// unwrapURL drops the repetition of method and URL.
func unwrapURL(err error) error {
	var inner *url.Error
	if errors.As(err, &inner) {
		return inner.Err
	}
	return err
}

// maxProblem bounds what is read of a failure.
const maxProblem = 64 << 10

// kinds are the kinds of failure by HTTP status.
var kinds = map[int]problem.Kind{
	400: problem.Invalid, 401: problem.Unauthenticated, 403: problem.Denied, 404: problem.NotFound, 409: problem.Conflict,
	412: problem.Stale, 413: problem.TooLarge, 422: problem.Invalid, 429: problem.Busy, 503: problem.NotReady, 504: problem.TimedOut,
}

// problemOf reads a problem+json answer back.
func problemOf(resp *http.Response) error {
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxProblem))
	if err != nil {
		return err
	}
	var told struct{ Detail, Field, Instance, Error string } // Prometheus says error
	kind, known := kinds[resp.StatusCode]
	if !known {
		kind = problem.Internal
	}
	if json.Unmarshal(text, &told) != nil || told.Detail+told.Error == "" {
		told.Detail = fmt.Sprintf("the server answered %s", resp.Status)
	}
	p := problem.New(kind, "%s", cmp.Or(told.Detail, told.Error))
	p.Field = told.Field
	if seconds, err := strconv.Atoi(resp.Header.Get("Retry-After")); err == nil {
		p.RetryAfter = time.Duration(seconds) * time.Second
	}
	return p
}

// do makes a call and reads its answer.
func do[T any](ctx context.Context, c *Client, r request) (answer T, err error) {
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	resp, err := c.send(ctx, r)
	if err != nil {
		return answer, err
	}
	return decoded[T](resp)
}

// answered makes a call with a request that is made, and reads its answer.
func answered[T any](c *Client, req *http.Request) (answer T, err error) {
	resp, err := c.request(req)
	if err != nil {
		return answer, err
	}
	return decoded[T](resp)
}

func decoded[T any](resp *http.Response) (answer T, err error) {
	defer func() { err = errors.Join(err, resp.Body.Close()) }()
	text, err := io.ReadAll(resp.Body)
	if err != nil || len(text) == 0 {
		return answer, err
	}
	return answer, json.Unmarshal(text, &answer)
}

// maxLine bounds one record of a stream: the largest message as base64.
const maxLine = 2 << 20

// stream calls each for every line of an endless answer, until ctx ends.
func (c *Client) stream(ctx context.Context, r request, each func(line []byte) error) (err error) {
	resp, err := c.send(ctx, r)
	if err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return err
	}
	defer func() { err = errors.Join(err, resp.Body.Close()) }()
	lines := bufio.NewScanner(resp.Body)
	lines.Buffer(make([]byte, 64<<10), maxLine)
	for lines.Scan() {
		if len(bytes.TrimSpace(lines.Bytes())) == 0 {
			continue
		}
		if err := each(lines.Bytes()); err != nil {
			return err
		}
	}
	if ctx.Err() != nil {
		return nil
	}
	return lines.Err()
}

// Page is a page of a list; Next is the After of the following one.
type Page[T any] struct {
	Items []T    `json:"items"`
	Next  string `json:"next,omitempty"`
}
