// Package telemetry is a stamp's durable log of what devices said, and beside
// it the log of what happened to them. A message is acknowledged to its device
// only when the log holds it.
package telemetry

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/slipway/slipway/internal/bus"
	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/propertybag"
)

// MaxSize is the most bytes of a message: body, values of system properties,
// names and values of application properties.
const MaxSize = 262144

// maxMessageID bounds the id a device gives its message.
const maxMessageID = 128

// Origin is what the hub itself knows of a message's sender; it is stamped on
// every message of a connection.
type Origin struct {
	DeviceID   string
	ModuleID   string // of the module that speaks, empty for the device itself
	Generation string
	AuthMethod string
	ModelID    string
}

// Check holds a message against the limits.
func Check(bag string, body []byte) error {
	properties, err := propertybag.Parse(bag)
	if err != nil {
		return err
	}
	if size := len(body) + propertybag.Size(properties); size > MaxSize {
		return problem.New(problem.TooLarge, "a telemetry message has at most %d bytes with its properties, not %d", MaxSize, size)
	}
	for _, p := range properties {
		if p.Key == "$.mid" && len(p.Value) > maxMessageID {
			return problem.New(problem.Invalid, "a message id has at most %d characters, not %d", maxMessageID, len(p.Value))
		}
	}
	return nil
}

// An envelope is a version byte, texts with their length, and the body. The
// first version knew no modules.
const (
	firstEnvelope   = 1
	envelopeVersion = 2
)

// seal appends the envelope of a message to dst.
func seal(dst []byte, o Origin, bag string, body []byte) []byte {
	dst = append(dst, envelopeVersion)
	for _, text := range [...]string{o.Generation, o.AuthMethod, o.ModelID, bag, o.ModuleID} {
		dst = binary.AppendUvarint(dst, uint64(len(text)))
		dst = append(dst, text...)
	}
	return append(dst, body...)
}

var errEnvelope = errors.New("the record is not a telemetry envelope")

func unseal(data []byte) (o Origin, bag string, body []byte, err error) {
	if len(data) == 0 || data[0] != envelopeVersion && data[0] != firstEnvelope {
		return o, "", nil, errEnvelope
	}
	texts := []*string{&o.Generation, &o.AuthMethod, &o.ModelID, &bag, &o.ModuleID}
	if data[0] == firstEnvelope {
		texts = texts[:4]
	}
	data = data[1:]
	for _, into := range texts {
		n, size := binary.Uvarint(data)
		if size <= 0 || n > uint64(len(data)-size) {
			return o, "", nil, errEnvelope
		}
		*into = string(data[size : size+int(n)])
		data = data[size+int(n):]
	}
	return o, bag, data, nil
}

// subjectOf is a device's subject under a prefix. Device ids may hold what
// NATS gives a meaning, so those characters are escaped.
func subjectOf(prefix, device string) string {
	if !strings.ContainsAny(device, ".*>% ") {
		return prefix + device
	}
	return prefix + strings.NewReplacer("%", "%25", ".", "%2E", "*", "%2A", ">", "%3E", " ", "%20").Replace(device)
}

func deviceOf(prefix, subject string) string {
	text := strings.TrimPrefix(subject, prefix)
	if !strings.Contains(text, "%") {
		return text
	}
	return strings.NewReplacer("%2E", ".", "%2A", "*", "%3E", ">", "%20", " ", "%25", "%").Replace(text)
}

// record shows a telemetry record as scripts see it.
func record(stamp string, r bus.Record) (link.LogRecord, error) {
	o, bag, body, err := unseal(r.Data)
	if err != nil {
		return link.LogRecord{}, err
	}
	properties, err := propertybag.Parse(bag)
	if err != nil {
		return link.LogRecord{}, err
	}
	shown := link.LogRecord{DeviceID: deviceOf(telemetryPrefix, r.Subject), ModuleID: o.ModuleID, Stamp: stamp, Sequence: r.Sequence, EnqueuedTime: r.Time.UTC()}
	shown.SystemProperties, shown.Properties = propertybag.Split(properties)
	shown.ContentType = shown.SystemProperties["contentType"]
	for name, value := range map[string]string{
		"iothub-connection-device-id":          shown.DeviceID,
		"iothub-connection-module-id":          o.ModuleID,
		"iothub-connection-auth-method":        o.AuthMethod,
		"iothub-connection-auth-generation-id": o.Generation,
		"iothub-enqueuedtime":                  shown.EnqueuedTime.Format(time.RFC3339Nano),
		"iothub-message-source":                "Telemetry",
		"dt-dataschema":                        o.ModelID,
	} {
		if value != "" {
			shown.SystemProperties[name] = value
		}
	}
	showBody(&shown, body)
	return shown, nil
}

// showBody shows JSON as JSON, and anything else as base64.
func showBody(shown *link.LogRecord, body []byte) {
	if len(body) == 0 {
		return
	}
	if utf8.Valid(body) && json.Valid(body) {
		shown.Body = body
		return
	}
	shown.BodyBase64 = body
}
