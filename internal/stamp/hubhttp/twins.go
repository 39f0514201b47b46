package hubhttp

import (
	"encoding/json"
	"net/http"
	"strconv"
	"time"

	"github.com/google/uuid"

	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/problem"
)

func (e *Edge) getTwin(c *call) (answer, error) { return e.twin(c, c.id()) }

// twin answers with the whole twin as it is now.
func (e *Edge) twin(c *call, id string) (answer, error) {
	entry, err := e.Hub.Devices.Entry(c.ctx, id)
	if err != nil {
		return answer{}, missing(id, err)
	}
	t, err := e.Hub.Twins.Get(c.ctx, id)
	if err != nil {
		return answer{}, missing(id, err)
	}
	return answer{body: e.Hub.Live(entry).Twin(t), etag: t.ETag()}, nil
}

func (e *Edge) patchTwin(c *call) (answer, error) {
	if _, err := e.Hub.PatchTwin(c.ctx, link.PatchTwin{DeviceID: c.id(), IfMatch: c.ifMatch(), Patch: c.body}); err != nil {
		return answer{}, missing(c.id(), err)
	}
	return e.twin(c, c.id())
}

func (e *Edge) replaceTwin(c *call) (answer, error) {
	if _, err := e.Hub.ReplaceTwin(c.ctx, link.PatchTwin{DeviceID: c.id(), IfMatch: c.ifMatch(), Patch: c.body}); err != nil {
		return answer{}, missing(c.id(), err)
	}
	return e.twin(c, c.id())
}

// methodCall is what SDKs send to run a direct method.
type methodCall struct {
	Name            string          `json:"methodName"`
	Payload         json.RawMessage `json:"payload"`
	ResponseTimeout int             `json:"responseTimeoutInSeconds"`
	ConnectTimeout  int             `json:"connectTimeoutInSeconds"`
}

func (m methodCall) invoke(id string) link.InvokeMethod {
	return link.InvokeMethod{
		DeviceID: id, Method: m.Name, Payload: m.Payload,
		ResponseTimeout: time.Duration(m.ResponseTimeout) * time.Second, ConnectTimeout: time.Duration(m.ConnectTimeout) * time.Second,
	}
}

func (e *Edge) invoke(c *call) (answer, error) {
	var sent methodCall
	if err := c.decode(&sent); err != nil {
		return answer{}, err
	}
	result, err := e.Hub.Invoke(c.ctx, sent.invoke(c.id()))
	if err != nil {
		return answer{}, methodFailure(missing(c.id(), err))
	}
	return answer{body: map[string]any{"status": result.Status, "payload": result.Payload}}, nil
}

// methodFault is a direct method that found no device to run on; SDKs expect
// its description as JSON inside the message.
type methodFault struct {
	error
	code int
}

func (m methodFault) Unwrap() error { return m.error }

func methodFailure(err error) error {
	switch problem.Of(err).Kind {
	case problem.NotFound:
		return methodFault{err, 404001}
	case problem.NotReady:
		return methodFault{coded{err, "DeviceNotOnline", 404103}, 404103}
	case problem.TimedOut:
		return methodFault{err, 504101}
	}
	return err
}

// status is the first three digits of the code.
func (m methodFault) status() int { return m.code / 1000 }

func (m methodFault) text(now time.Time) string {
	text, err := json.Marshal(map[string]any{
		"errorCode": m.code, "trackingId": uuid.NewString(), "message": problem.Of(m.error).Error(),
		"info": map[string]any{}, "timestampUtc": now.UTC().Format(time.RFC3339),
	})
	if err != nil {
		return `{"errorCode":` + strconv.Itoa(http.StatusInternalServerError) + `}`
	}
	return string(text)
}
