package api

import (
	"context"
	"strconv"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"github.com/slipway/slipway/internal/control/gate"
	"github.com/slipway/slipway/internal/control/release"
	"github.com/slipway/slipway/internal/control/signing"
	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/resource"
)

type listReleases struct {
	After string `query:"after" maxLength:"20"`
	Limit int    `query:"limit" minimum:"1" maximum:"1000"`
}

type createRelease struct {
	Body struct {
		APIVersion string             `json:"apiVersion,omitempty" enum:"slipway/v1"`
		Kind       string             `json:"kind,omitempty" enum:"Release"`
		Metadata   *resource.Metadata `json:"metadata"`
		Spec       link.ReleaseSpec   `json:"spec"`
	}
}

type diffReleases struct {
	Named
	From string `query:"from" required:"true" maxLength:"63" doc:"The release it is compared with"`
}

// releases registers releases.
func (a *api) releases() {
	route(a, "GET", "/api/v1/releases", "listReleases", "Releases, newest first", func(ctx context.Context, in *listReleases) (*body[list[link.Release]], error) {
		before, err := sequence("after", in.After)
		if err != nil {
			return nil, err
		}
		limit := pageOf(in.Limit)
		all, err := a.Releases.List(ctx, before, limit)
		next := ""
		if len(all) == limit {
			next = strconv.FormatInt(all[limit-1].Counter, 10)
		}
		return listOf(all, next), err
	})
	route(a, "POST", "/api/v1/releases", "createRelease", "Make a release of artifacts that are here; made again with the same content it is the same", func(ctx context.Context, in *createRelease) (*tagged[link.Release], error) {
		if in.Body.Metadata == nil {
			return nil, problem.New(problem.Invalid, "name the release").At("metadata.name")
		}
		r, err := a.Releases.Create(ctx, actorOf(ctx), in.Body.Metadata.Name, in.Body.Spec)
		return &tagged[link.Release]{quote(r.Digest), r}, err
	})
	route(a, "GET", "/api/v1/releases/{name}", "getRelease", "One release", func(ctx context.Context, in *Named) (*tagged[link.Release], error) {
		r, err := a.Releases.Get(ctx, in.Name)
		return &tagged[link.Release]{quote(r.Digest), r}, err
	})
	route(a, "DELETE", "/api/v1/releases/{name}", "deleteRelease", "Delete a release that was never let into an environment", func(ctx context.Context, in *Named) (*nothing, error) {
		return &nothing{}, a.Releases.Delete(ctx, actorOf(ctx), in.Name)
	})
	route(a, "GET", "/api/v1/releases/{name}/components", "listComponents", "What its software is made of, as its bills of materials list it", func(ctx context.Context, in *Named) (*body[list[release.Component]], error) {
		all, err := a.Releases.Components(ctx, in.Name)
		return listOf(all, ""), err
	})
	route(a, "GET", "/api/v1/releases/{name}/vulnerabilities", "listFindings", "In which of its components vulnerabilities are known, the worst first", func(ctx context.Context, in *Named) (*body[list[gate.Finding]], error) {
		all, err := a.Gates.Vulnerable(ctx, in.Name)
		return listOf(all, ""), err
	})
	route(a, "GET", "/api/v1/releases/{name}/diff", "diffReleases", "How a release differs from another, in sentences", func(ctx context.Context, in *diffReleases) (*body[list[release.Change]], error) {
		all, err := a.Releases.Diff(ctx, in.From, in.Name)
		return listOf(all, ""), err
	})
}

type signProposal struct {
	Named
	Body signing.Signature
}

type metadataRef struct {
	File string `path:"file" maxLength:"128" doc:"Such as timestamp.json or 3.targets.json"`
}

// signing registers the signed metadata by which devices know what they may run.
func (a *api) signing() {
	route(a, "GET", "/api/v1/signing", "listSigningRoles", "The roles of the signed metadata", func(ctx context.Context, _ *nothing) (*body[list[signing.Role]], error) {
		all, err := a.Signing.Roles(ctx)
		return listOf(all, ""), err
	})
	route(a, "GET", "/api/v1/signing/root", "getSigningRoot", "The root of trust to give devices when they are made", func(ctx context.Context, _ *nothing) (*huma.StreamResponse, error) {
		text, err := a.Signing.Root(ctx)
		return signedFile(text), err
	})
	route(a, "GET", "/api/v1/signing/metadata/{file}", "getSigningMetadata", "A file of signed metadata, as devices get it", func(ctx context.Context, in *metadataRef) (*huma.StreamResponse, error) {
		text, err := a.Signing.File(ctx, in.File)
		return signedFile(text), err
	})
	route(a, "POST", "/api/v1/signing/{name}/rotate", "rotateSigningKey", "Give a role a new key; devices follow by themselves", func(ctx context.Context, in *Named) (*nothing, error) {
		return &nothing{}, a.Signing.Rotate(ctx, actorOf(ctx), in.Name)
	})
	route(a, "GET", "/api/v1/environments/{name}/proposal", "getProposal", "What waits for signatures in an environment", func(ctx context.Context, in *Named) (*body[signing.Proposal], error) {
		p, err := a.Signing.Proposal(ctx, in.Name)
		return &body[signing.Proposal]{p}, err
	})
	route(a, "POST", "/api/v1/environments/{name}/proposal/signatures", "signProposal", "Add a signature to what waits in an environment", func(ctx context.Context, in *signProposal) (*body[signing.Proposal], error) {
		p, err := a.Signing.Sign(ctx, actorOf(ctx), in.Name, in.Body)
		return &body[signing.Proposal]{p}, err
	})
}

// signedFile answers with a file as it is, as signatures are over its bytes.
func signedFile(text []byte) *huma.StreamResponse {
	return &huma.StreamResponse{Body: func(hctx huma.Context) {
		r, w := humago.Unwrap(hctx)
		w.Header().Set("Content-Type", "application/json")
		reply(w, r, string(text))
	}}
}
