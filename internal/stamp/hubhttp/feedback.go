package hubhttp

import (
	"net/http"
	"time"

	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/stamp/command"
)

// feedbackRecord is what became of one message, as back ends read it.
type feedbackRecord struct {
	OriginalMessageID  string          `json:"originalMessageId"`
	EnqueuedTimeUTC    time.Time       `json:"enqueuedTimeUtc"`
	StatusCode         command.Outcome `json:"statusCode"`
	Description        string          `json:"description"`
	DeviceID           string          `json:"deviceId"`
	DeviceGenerationID string          `json:"deviceGenerationId"`
}

func (e *Edge) receiveFeedback(c *call) (answer, error) {
	batch, lock, err := e.Hub.Queues.ReceiveFeedback(c.ctx, e.Now())
	if err != nil || lock == "" {
		return answer{status: http.StatusNoContent}, err
	}
	records := make([]feedbackRecord, 0, len(batch))
	for _, f := range batch {
		records = append(records, feedbackRecord{f.MessageID, f.At, f.Status, f.Description, f.DeviceID, f.Generation})
	}
	return answer{body: records, etag: lock}, nil
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
