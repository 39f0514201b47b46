package device

import (
	"fmt"
	"strings"

	"github.com/slipway/slipway/internal/propertybag"
)

// Message is a telemetry message, or a cloud-to-device one.
type Message struct {
	ID              string // made when empty: who receives can tell repetitions
	CorrelationID   string
	ContentType     string
	ContentEncoding string
	Properties      map[string]string
	Body            []byte
}

const (
	maxMessage = 256 << 10 // bytes of body and properties
	maxTopic   = 65535     // [MQTT-1.5.3]
	maxID      = 128       // characters
)

// check refuses here what a hub answers by closing the connection.
func (m Message) check() error {
	all := m.properties()
	if size := len(m.Body) + propertybag.Size(all); size > maxMessage {
		return fmt.Errorf("%w: body and properties have %d bytes, at most %d are allowed", ErrTooLarge, size, maxMessage)
	}
	if len(all) > propertybag.MaxProperties {
		return fmt.Errorf("%w: it has %d properties, at most %d are allowed", ErrTooLarge, len(all), propertybag.MaxProperties)
	}
	if len(m.ID) > maxID {
		return fmt.Errorf("%w: its ID has %d characters, at most %d are allowed", ErrTooLarge, len(m.ID), maxID)
	}
	for key := range m.Properties {
		if key == "" || strings.HasPrefix(key, "$") {
			return fmt.Errorf("%w: a property is called %q; names must not be empty or begin with $", ErrInvalid, key)
		}
	}
	if size := len(propertybag.Encode(all)); size > maxTopic-maxMessageTopic {
		return fmt.Errorf("%w: its properties have %d bytes when encoded, at most %d are allowed", ErrTooLarge, size, maxTopic-maxMessageTopic)
	}
	return nil
}

// maxMessageTopic is what a topic has besides the properties, and an ID that
// is yet to be made.
const maxMessageTopic = 512

// properties are those of the system, then the application's.
func (m Message) properties() []propertybag.Property {
	var all []propertybag.Property
	for _, p := range []propertybag.Property{{Key: "$.mid", Value: m.ID}, {Key: "$.cid", Value: m.CorrelationID}, {Key: "$.ct", Value: m.ContentType}, {Key: "$.ce", Value: m.ContentEncoding}} {
		if p.Value != "" {
			all = append(all, p)
		}
	}
	return append(all, propertybag.FromMap(m.Properties)...)
}

// readMessage reads a cloud-to-device message.
func readMessage(bag string, body []byte) (Message, error) {
	properties, err := propertybag.Parse(bag)
	if err != nil {
		return Message{}, err
	}
	system, application := propertybag.Split(properties)
	return Message{
		ID: system["messageId"], CorrelationID: system["correlationId"], ContentType: system["contentType"], ContentEncoding: system["contentEncoding"],
		Properties: application, Body: body,
	}, nil
}
