package hubhttp

import (
	"encoding/base64"
	"encoding/json"
	"mime"
	"net/http"
	"sort"
	"strconv"
	"strings"
	"time"

	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/propertybag"
	"github.com/slipway/slipway/internal/stamp/device"
	"github.com/slipway/slipway/internal/stamp/hub"
)

// authenticate says which device makes a request. Its id is the first segment
// of the pattern, with a module's behind it where the route names modules.
func (e *Edge) authenticate(c *call) (hub.Sender, error) {
	id := c.args[0]
	if segments, err := segmentsOf(c.r.URL.EscapedPath()); err == nil && len(segments) > 3 && strings.EqualFold(segments[2], "modules") {
		id = link.ModuleIdentity(c.args[0], c.args[1])
	}
	credentials := device.Credentials{DeviceID: id, Token: c.r.Header.Get("Authorization")}
	if c.r.TLS != nil {
		credentials.Chain = c.r.TLS.PeerCertificates
	}
	return e.Hub.Authenticate(c.ctx, credentials)
}

// The limits of a batch.
const (
	batchType    = "application/vnd.microsoft.iothub.json"
	maxBatch     = 500
	maxBatchSize = 262144
)

// systemHeaders are the headers that stand for system properties.
var systemHeaders = map[string]string{
	"iothub-messageid": "$.mid", "iothub-correlationid": "$.cid", "iothub-userid": "$.uid", "iothub-to": "$.to", "iothub-expiry": "$.exp",
	"iothub-contenttype": "$.ct", "iothub-contentencoding": "$.ce", "iothub-interface-id": "$.ifid", "dt-subject": "$.sub",
	"iothub-creation-time-utc": "$.ctime",
}

const appHeader = "iothub-app-"

// property reads one header; ok is false where it is none of a message. What
// follows the beginning is the name of the device's own property as it is.
func property(name, value string) (p propertybag.Property, ok bool) {
	if key, known := systemHeaders[strings.ToLower(name)]; known {
		return propertybag.Property{Key: key, Value: value}, true
	}
	if n := len(appHeader); len(name) > n && strings.EqualFold(name[:n], appHeader) {
		return propertybag.Property{Key: name[n:], Value: value}, true
	}
	return p, false
}

func bagOf(all []propertybag.Property) string {
	sort.Slice(all, func(i, j int) bool { return all[i].Key < all[j].Key })
	return propertybag.Encode(all)
}

func (e *Edge) send(c *call) (answer, error) {
	kind, _, err := mime.ParseMediaType(c.r.Header.Get("Content-Type"))
	if err == nil && kind == batchType {
		return e.sendBatch(c)
	}
	var all []propertybag.Property
	for name, values := range c.r.Header {
		// The names of headers have no letter case, so properties get the lower one.
		if p, ok := property(strings.ToLower(name), values[0]); ok {
			all = append(all, p)
		}
	}
	return answer{}, e.Hub.Accept(c.ctx, c.sender, []hub.Telemetry{{Bag: bagOf(all), Body: c.body}})
}

// batched is one message of a batch.
type batched struct {
	Body       string            `json:"body"`
	Plain      *bool             `json:"base64Encoded"` // false: the body is text as it is
	Properties map[string]string `json:"properties"`
}

func (e *Edge) sendBatch(c *call) (answer, error) {
	if len(c.body) > 2*maxBatchSize { // base64 and JSON add to what is counted
		return answer{}, problem.New(problem.TooLarge, "a batch has at most %d bytes", maxBatchSize)
	}
	var sent []batched
	if err := json.Unmarshal(c.body, &sent); err != nil {
		return answer{}, problem.New(problem.Invalid, "a batch is an array of {\"body\": base64, \"properties\": {…}}: %w", err)
	}
	if len(sent) == 0 || len(sent) > maxBatch {
		return answer{}, problem.New(problem.Invalid, "a batch has 1 to %d messages, not %d", maxBatch, len(sent))
	}
	messages, total := make([]hub.Telemetry, len(sent)), 0
	for i, m := range sent {
		body := []byte(m.Body)
		if m.Plain == nil || *m.Plain {
			var err error
			if body, err = base64.StdEncoding.DecodeString(m.Body); err != nil {
				return answer{}, problem.New(problem.Invalid, "the body of a message is base64 text").At("[" + strconv.Itoa(i) + "].body")
			}
		}
		var all []propertybag.Property
		for name, value := range m.Properties {
			if p, ok := property(name, value); ok {
				all = append(all, p)
			}
		}
		messages[i] = hub.Telemetry{Bag: bagOf(all), Body: body}
		if total += len(body) + propertybag.Size(all); total > maxBatchSize {
			return answer{}, problem.New(problem.TooLarge, "the messages of a batch have at most %d bytes together", maxBatchSize)
		}
	}
	return answer{}, e.Hub.Accept(c.ctx, c.sender, messages)
}

// receive hands over the oldest message that waits, locked for a while.
func (e *Edge) receive(c *call) (answer, error) {
	m, lock, found, err := e.Hub.Receive(c.ctx, c.sender)
	if err != nil || !found {
		return answer{status: http.StatusNoContent}, err
	}
	properties, err := propertybag.Parse(m.Bag)
	if err != nil {
		return answer{}, err
	}
	header := map[string]string{
		"Content-Type": "application/octet-stream", "iothub-sequencenumber": strconv.FormatInt(m.Sequence, 10),
		"iothub-enqueuedtime": m.EnqueuedAt.UTC().Format(time.RFC3339), "iothub-expiry": m.ExpiresAt.UTC().Format(time.RFC3339),
		"iothub-deliverycount": strconv.Itoa(m.Deliveries), "iothub-ack": m.Ack,
	}
	names := map[string]string{}
	for name, key := range systemHeaders {
		names[key] = name
	}
	for _, p := range properties {
		switch name, system := names[p.Key]; {
		case p.Key == "$.exp" || p.Key == "iothub-ack":
		case system:
			header[name] = p.Value
		default:
			header[appHeader+p.Key] = p.Value
		}
	}
	body := m.Body
	if body == nil {
		body = []byte{}
	}
	return answer{raw: body, etag: lock, header: header}, nil
}

// settle completes a message, or with reject in the query refuses it.
func (e *Edge) settle(c *call) (answer, error) {
	how := hub.Accepted
	if c.r.URL.Query().Has("reject") {
		how = hub.Rejected
	}
	return answer{}, lockLost(e.Hub.Settle(c.ctx, c.sender, c.args[1], how))
}

func (e *Edge) abandon(c *call) (answer, error) {
	return answer{}, lockLost(e.Hub.Settle(c.ctx, c.sender, c.args[1], hub.Abandoned))
}
