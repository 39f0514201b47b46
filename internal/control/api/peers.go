package api

import (
	"context"
	"crypto/x509"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/slipway/slipway/internal/control/membership"
	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/problem"
)

// joinPath is where processes join: with a join token or their certificate,
// not with a token of the API.
const joinPath = "/api/v1/join"

// joining is a request to join, with the certificate it came by.
type joining struct {
	Body        link.Join
	certificate *x509.Certificate
}

// Resolve takes the certificate out of the connection.
func (j *joining) Resolve(ctx huma.Context) []error {
	if state := ctx.TLS(); state != nil && len(state.PeerCertificates) > 0 {
		j.certificate = state.PeerCertificates[0]
	}
	return nil
}

type newJoinToken struct {
	Peer string `path:"peer" maxLength:"70" doc:"provisioning or stamp.NAME"`
	Body struct {
		ExpiresIn string `json:"expiresIn,omitempty" doc:"How long it may be used, such as 30m; default 1h"`
		Processes int    `json:"processes,omitempty" minimum:"0" maximum:"100" doc:"How many may join by it; default 1"`
	}
}

type serialRef struct {
	Serial string `path:"serial" maxLength:"64"`
}

// peers registers who may be on the link.
func (a *api) peers() {
	route(a, "POST", joinPath, "join", "Join the link as a process of a plane, with a join token or the certificate to renew", func(ctx context.Context, in *joining) (*body[link.Joined], error) {
		if a.Members == nil {
			return nil, problem.New(problem.Unauthenticated, "%w", a.haveLink())
		}
		if in.Body.Token == "" && in.certificate != nil {
			joined, err := a.Members.Renew(ctx, in.certificate, in.Body)
			return &body[link.Joined]{joined}, err
		}
		joined, err := a.Members.Join(ctx, in.Body)
		return &body[link.Joined]{joined}, err
	})
	route(a, "POST", "/api/v1/peers/{peer}/tokens", "newJoinToken", "Make a token by which processes join the link, one unless it says more", func(ctx context.Context, in *newJoinToken) (*body[membership.JoinToken], error) {
		if err := a.haveLink(); err != nil {
			return nil, err
		}
		var life time.Duration
		if in.Body.ExpiresIn != "" {
			var err error
			if life, err = time.ParseDuration(in.Body.ExpiresIn); err != nil {
				return nil, problem.New(problem.Invalid, "a duration reads 30m or 2h, not %q", in.Body.ExpiresIn).At("expiresIn")
			}
		}
		if err := a.knownPeer(ctx, in.Peer); err != nil {
			return nil, err
		}
		token, err := a.Members.NewToken(ctx, actorOf(ctx), in.Peer, in.Body.Processes, life)
		return &body[membership.JoinToken]{token}, err
	})
	route(a, "GET", "/api/v1/peers", "listPeers", "Certificates of the processes that may be on the link", func(ctx context.Context, _ *nothing) (*body[list[membership.PeerCertificate]], error) {
		if a.Members == nil {
			return listOf([]membership.PeerCertificate{}, ""), nil
		}
		all, err := a.Members.List(ctx)
		return listOf(all, ""), err
	})
	route(a, "DELETE", "/api/v1/peers/certificates/{serial}", "revokePeer", "Revoke the certificate of a process", func(ctx context.Context, in *serialRef) (*struct{}, error) {
		if err := a.haveLink(); err != nil {
			return nil, err
		}
		return nil, a.Members.Revoke(ctx, actorOf(ctx), in.Serial)
	})
}

func (a *api) haveLink() error {
	if a.Members == nil {
		return problem.New(problem.Conflict, "this installation runs in one process, which no other joins; slipway serve control starts one that others join")
	}
	return nil
}

// knownPeer refuses tokens for stamps that are not declared.
func (a *api) knownPeer(ctx context.Context, peer string) error {
	name, stamp := link.StampOfPeer(peer)
	if !stamp {
		return nil
	}
	_, err := a.Environments.Stamp(ctx, name)
	return err
}
