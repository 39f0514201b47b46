package client

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/slipway/slipway/internal/control/artifact"
	"github.com/slipway/slipway/internal/control/gate"
	"github.com/slipway/slipway/internal/control/release"
	"github.com/slipway/slipway/internal/control/signing"
	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/resource"
)

// Artifacts returns every file that releases are made of.
func (c *Client) Artifacts(ctx context.Context) ([]artifact.File, error) {
	return pages[artifact.File](ctx, c, path("artifacts"))
}

// pages reads a list to its end.
func pages[T any](ctx context.Context, c *Client, at string) (all []T, err error) {
	query := url.Values{"limit": {"1000"}}
	for {
		page, err := do[Page[T]](ctx, c, request{method: "GET", path: at, query: query})
		if err != nil {
			return nil, err
		}
		if all = append(all, page.Items...); page.Next == "" {
			return all, nil
		}
		query.Set("after", page.Next)
	}
}

// Artifact returns what is known of a file, and how much of it has arrived.
func (c *Client) Artifact(ctx context.Context, sha256 string) (artifact.File, error) {
	return do[artifact.File](ctx, c, request{method: "GET", path: path("artifacts", sha256)})
}

// PruneArtifacts removes files that no release names; dryRun only tells which.
func (c *Client) PruneArtifacts(ctx context.Context, unused time.Duration, dryRun bool) ([]artifact.File, error) {
	page, err := do[Page[artifact.File]](ctx, c, request{method: "POST", path: path("artifacts", "prune"), body: struct {
		UnusedSeconds int64 `json:"unusedSeconds,omitempty"`
		DryRun        bool  `json:"dryRun,omitempty"`
	}{int64(unused / time.Second), dryRun}})
	return page.Items, err
}

// How a part is sent that did not get through, and how long the last one may
// take, after which the server reads the whole file.
const (
	partAttempts = 6
	partPause    = 500 * time.Millisecond
	finishWait   = 10 * time.Minute
)

// PutArtifact sends a file, or what is missing of it there, and tells how far
// it is. A server that goes away and comes back is gone on with.
func (c *Client) PutArtifact(ctx context.Context, name string, content io.ReadSeeker, progress func(artifact.File)) (f artifact.File, err error) {
	sum := sha256.New()
	size, err := io.Copy(sum, content)
	if err != nil {
		return f, err
	}
	id := hex.EncodeToString(sum.Sum(nil))
	failures := 0
	for {
		if f, err = c.Artifact(ctx, id); problem.Is(err, problem.NotFound) {
			f, err = artifact.File{SHA256: id, File: name, Size: size}, nil
		}
		for err == nil && f.State != artifact.Here {
			if f, err = c.putPart(ctx, f, name, content); err == nil {
				failures = 0
				progress(f)
			}
		}
		if err == nil {
			return f, nil
		}
		if failures++; failures >= partAttempts || !passing(err) {
			return f, err
		}
		pause := time.NewTimer(max(problem.Of(err).RetryAfter, partPause<<failures))
		select {
		case <-ctx.Done():
			pause.Stop()
			return f, ctx.Err()
		case <-pause.C:
		}
	}
}

// passing reports whether what failed may go well the next time, from where
// the server says it is. An error without a kind is a connection that broke.
func passing(err error) bool {
	var known *problem.Error
	if !errors.As(err, &known) {
		return !errors.Is(err, context.Canceled)
	}
	for _, kind := range []problem.Kind{problem.NotReady, problem.Busy, problem.TimedOut, problem.Conflict} {
		if problem.Is(err, kind) {
			return true
		}
	}
	return false
}

// putPart sends what comes next of a file.
func (c *Client) putPart(ctx context.Context, f artifact.File, name string, content io.ReadSeeker) (after artifact.File, err error) {
	ctx, cancel := context.WithTimeout(ctx, finishWait)
	defer cancel()
	if _, err := content.Seek(f.Received, io.SeekStart); err != nil {
		return f, err
	}
	length := min(artifact.MaxPart, f.Size-f.Received)
	said := fmt.Sprintf("bytes %d-%d/%d", f.Received, f.Received+length-1, f.Size)
	if length == 0 {
		said = fmt.Sprintf("bytes */%d", f.Size)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPut, c.base.String()+path("artifacts", f.SHA256, "content")+"?"+url.Values{"file": {name}}.Encode(), io.LimitReader(content, length))
	if err != nil {
		return f, err
	}
	if req.ContentLength = length; length == 0 {
		req.Body = http.NoBody
	}
	req.Header.Set("Content-Range", said)
	req.Header.Set("Content-Type", "application/octet-stream")
	return answered[artifact.File](c, req)
}

// ReadArtifact writes a file, from an offset on.
func (c *Client) ReadArtifact(ctx context.Context, sha256 string, offset int64, w io.Writer) (err error) {
	r := request{method: "GET", path: path("artifacts", sha256, "content")}
	if offset > 0 {
		r.header = map[string]string{"Range": "bytes=" + strconv.FormatInt(offset, 10) + "-"}
	}
	resp, err := c.send(ctx, r)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, resp.Body.Close()) }()
	_, err = io.Copy(w, resp.Body)
	return err
}

// Releases returns every release, newest first.
func (c *Client) Releases(ctx context.Context) ([]link.Release, error) {
	return pages[link.Release](ctx, c, path("releases"))
}

// Release returns one release.
func (c *Client) Release(ctx context.Context, name string) (link.Release, error) {
	return do[link.Release](ctx, c, request{method: "GET", path: path("releases", name)})
}

// CreateRelease makes a release of artifacts that are there.
func (c *Client) CreateRelease(ctx context.Context, name string, spec link.ReleaseSpec) (link.Release, error) {
	return do[link.Release](ctx, c, request{method: "POST", path: path("releases"), body: struct {
		Metadata resource.Metadata `json:"metadata"`
		Spec     link.ReleaseSpec  `json:"spec"`
	}{resource.Metadata{Name: name}, spec}})
}

// DeleteRelease deletes a release that was never let into an environment.
func (c *Client) DeleteRelease(ctx context.Context, name string) error {
	_, err := do[struct{}](ctx, c, request{method: "DELETE", path: path("releases", name)})
	return err
}

// Components returns what a release's bills of materials list.
func (c *Client) Components(ctx context.Context, name string) ([]release.Component, error) {
	page, err := do[Page[release.Component]](ctx, c, request{method: "GET", path: path("releases", name, "components")})
	return page.Items, err
}

// ReleaseVulnerabilities returns the components of a release in which
// vulnerabilities are known, the worst first.
func (c *Client) ReleaseVulnerabilities(ctx context.Context, name string) ([]gate.Finding, error) {
	page, err := do[Page[gate.Finding]](ctx, c, request{method: "GET", path: path("releases", name, "vulnerabilities")})
	return page.Items, err
}

// DiffReleases tells how release b differs from release a.
func (c *Client) DiffReleases(ctx context.Context, a, b string) ([]release.Change, error) {
	page, err := do[Page[release.Change]](ctx, c, request{method: "GET", path: path("releases", b, "diff"), query: url.Values{"from": {a}}})
	return page.Items, err
}

// SigningRoles returns the roles of the signed metadata.
func (c *Client) SigningRoles(ctx context.Context) ([]signing.Role, error) {
	page, err := do[Page[signing.Role]](ctx, c, request{method: "GET", path: path("signing")})
	return page.Items, err
}

// SigningRoot writes the root of trust that devices are given, byte by byte.
func (c *Client) SigningRoot(ctx context.Context, w io.Writer) error {
	return c.copy(ctx, path("signing", "root"), w)
}

// SigningMetadata writes a file of signed metadata, byte by byte.
func (c *Client) SigningMetadata(ctx context.Context, file string, w io.Writer) error {
	return c.copy(ctx, path("signing", "metadata", file), w)
}

func (c *Client) copy(ctx context.Context, at string, w io.Writer) (err error) {
	resp, err := c.send(ctx, request{method: "GET", path: at})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, resp.Body.Close()) }()
	_, err = io.Copy(w, resp.Body)
	return err
}

// RotateSigningKey gives a role a new key.
func (c *Client) RotateSigningKey(ctx context.Context, role string) error {
	_, err := do[struct{}](ctx, c, request{method: "POST", path: path("signing", role, "rotate")})
	return err
}

// Proposal returns what waits for signatures in an environment.
func (c *Client) Proposal(ctx context.Context, environment string) (signing.Proposal, error) {
	return do[signing.Proposal](ctx, c, request{method: "GET", path: path("environments", environment, "proposal")})
}

// SignProposal adds a signature to what waits in an environment.
func (c *Client) SignProposal(ctx context.Context, environment string, s signing.Signature) (signing.Proposal, error) {
	return do[signing.Proposal](ctx, c, request{method: "POST", path: path("environments", environment, "proposal", "signatures"), body: s})
}
