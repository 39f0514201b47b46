package hubhttp

import (
	"net/http"

	"github.com/slipway/slipway/internal/problem"
)

func (e *Edge) receiveFeedback(c *call) (answer, error) {
	batch, lock, err := e.Hub.Queues.ReceiveFeedback(c.ctx, e.Now())
	if err != nil || lock == "" {
		return answer{status: http.StatusNoContent}, err
	}
	return answer{body: batch, etag: lock}, nil
}

func (e *Edge) completeFeedback(c *call) (answer, error) {
	return answer{}, lockLost(e.Hub.Queues.CompleteFeedback(c.ctx, c.args[0], e.Now()))
}

func (e *Edge) abandonFeedback(c *call) (answer, error) {
	return answer{}, lockLost(e.Hub.Queues.AbandonFeedback(c.ctx, c.args[0], e.Now()))
}

func lockLost(err error) error {
	if !problem.Is(err, problem.Stale) {
		return err
	}
	return coded{err, "DeviceMessageLockLost", 412002}
}
