package test

import (
	"fmt"
	"testing"
)

// TestBackEndsWorkOverAMQP lets the unmodified service SDK send messages to
// devices and hear of them, and the Event Hubs SDK read telemetry.
func TestBackEndsWorkOverAMQP(t *testing.T) {
	t.Parallel()
	in := start(t)
	s := in.stamp("test-1")
	owner := in.policy("test-1", "iothubowner")
	in.drive(t, "amqp.js", s, map[string]any{
		"service": owner.PrimaryConnectionString, "registryRead": in.policy("test-1", "registryRead").PrimaryConnectionString,
		"hub": s.Host, "entity": s.Name,
		"events": fmt.Sprintf("Endpoint=sb://%s/;SharedAccessKeyName=%s;SharedAccessKey=%s;EntityPath=%s", s.Host, owner.Name, owner.PrimaryKey, s.Name),
	})
}
