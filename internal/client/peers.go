package client

import (
	"context"
	"time"

	"github.com/slipway/slipway/internal/control/membership"
	"github.com/slipway/slipway/internal/link"
)

// Join asks for a place on the link.
func (c *Client) Join(ctx context.Context, req link.Join) (link.Joined, error) {
	return do[link.Joined](ctx, c, request{method: "POST", path: path("join"), body: req})
}

// NewJoinToken makes a token by which so many processes join as a peer. A life
// of 0 is the usual one.
func (c *Client) NewJoinToken(ctx context.Context, peer string, processes int, life time.Duration) (membership.JoinToken, error) {
	var body struct {
		ExpiresIn string `json:"expiresIn,omitempty"`
		Processes int    `json:"processes,omitempty"`
	}
	if processes > 1 { // what an older server does not know is said only where it matters
		body.Processes = processes
	}
	if life != 0 {
		body.ExpiresIn = life.String()
	}
	return do[membership.JoinToken](ctx, c, request{method: "POST", path: path("peers", peer, "tokens"), body: body})
}

// Peers returns the certificates of the processes that may be on the link.
func (c *Client) Peers(ctx context.Context) ([]membership.PeerCertificate, error) {
	page, err := do[Page[membership.PeerCertificate]](ctx, c, request{method: "GET", path: path("peers")})
	return page.Items, err
}

// RevokePeer revokes the certificate of a process.
func (c *Client) RevokePeer(ctx context.Context, serial string) error {
	_, err := do[struct{}](ctx, c, request{method: "DELETE", path: path("peers", "certificates", serial)})
	return err
}
