package gate

import (
	"context"
	"net/http"
)

// Sign signs a request that tells somebody outside of something, as webhook
// gates are signed.
func (g *Gates) Sign(ctx context.Context, req *http.Request, id string, body []byte) error {
	key, err := g.key(ctx)
	if err != nil {
		return err
	}
	sign(req, key, id, g.Now(), body)
	return nil
}
