package device

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"time"

	"github.com/slipway/slipway/device/retry"
)

// Twin returns {"desired":{…},"reported":{…}}.
func (c *Client) Twin(ctx context.Context) ([]byte, error) {
	r, err := c.operate(ctx, "$iothub/twin/GET/?$rid=", nil)
	return r.body, err
}

// Report merges a patch into the reported properties and returns their new
// version.
func (c *Client) Report(ctx context.Context, patch []byte) (version int64, err error) {
	if len(patch) > maxMessage {
		return 0, fmt.Errorf("%w: the patch has %d bytes, at most %d are allowed", ErrTooLarge, len(patch), maxMessage)
	}
	if !json.Valid(patch) {
		return 0, fmt.Errorf("%w: the patch is not JSON", ErrInvalid)
	}
	r, err := c.operate(ctx, "$iothub/twin/PATCH/properties/reported/?$rid=", patch)
	return r.version, err
}

// operate asks the hub, and asks again as the policy allows. All tries bear
// one id, and every request here may be repeated without harm.
func (c *Client) operate(ctx context.Context, topic string, body []byte) (reply, error) {
	rid := rand.Text()
	op := c.config.Policy.Operate(time.Now(), c.budget)
	for {
		s, err := c.connected(ctx)
		if err != nil {
			return reply{}, err
		}
		r, err := s.request(ctx, topic+rid, rid, body)
		if err == nil || ctx.Err() != nil {
			return r, err
		}
		failure := retry.Failure{Lost: err == errLost}
		if failure.Lost {
			<-s.gone
		}
		if refusal := asRefusal(err); refusal != nil {
			failure.Status, failure.RetryAfter = refusal.Status, refusal.RetryAfter
		}
		next, delay, again := c.config.Policy.Again(op, failure, time.Now(), c.budget, s.client.chance)
		if !again {
			return reply{}, err
		}
		op = next
		if !sleep(ctx, delay) {
			return reply{}, ctx.Err()
		}
	}
}
