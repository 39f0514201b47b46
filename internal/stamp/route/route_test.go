package route

import (
	"encoding/json"
	"testing"

	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/problem"
)

func twin() (any, bool) {
	var document any
	err := json.Unmarshal([]byte(`{"deviceId":"d","tags":{"site":"north","floor":3},"properties":{"desired":{"mode":"eco"},"reported":{"on":true}}}`), &document)
	return document, err == nil
}

func TestConditionsSeeTheWholeMessage(t *testing.T) {
	telemetry := link.LogRecord{
		DeviceID: "d", Stamp: "test-1", Sequence: 1, Body: json.RawMessage(`{"temperature":41,"pump":{"on":false},"levels":[1,2]}`),
		Properties: map[string]string{"line": "7"}, SystemProperties: map[string]string{"contentType": "application/json", "iothub-message-source": "Telemetry"},
	}
	connected := link.LogRecord{DeviceID: "d", Kind: "connected", SystemProperties: map[string]string{"opType": "deviceConnected"}}
	for where, c := range map[string]struct {
		source       string
		record       link.LogRecord
		taken, twins bool
	}{
		"": {link.SourceTelemetry, telemetry, true, true},
		"$body.temperature > 40 AND NOT $body.pump.on":      {link.SourceTelemetry, telemetry, true, true},
		"$body.temperature > 41":                            {link.SourceTelemetry, telemetry, false, true},
		"$body.nothing.there = 1":                           {link.SourceTelemetry, telemetry, false, true},
		"line = '7' AND $contentType = 'application/json'":  {link.SourceTelemetry, telemetry, true, true},
		"$connectionDeviceId = 'd'":                         {link.SourceTelemetry, telemetry, true, true},
		"$twin.tags.floor >= 3":                             {link.SourceTelemetry, telemetry, true, true},
		"$twin.properties.reported.on = true":               {link.SourceTelemetry, telemetry, true, true},
		"$twin.tags.site = 'north'":                         {link.SourceTelemetry, telemetry, false, false},
		"opType = 'deviceConnected' AND $kind='connected'":  {link.SourceConnection, connected, true, true},
		"opType = 'deviceConnected' AND $kind = 'refused' ": {link.SourceConnection, connected, false, true},
	} {
		rule, err := Compile(link.RouteSpec{Source: c.source, Where: where})
		if err != nil {
			t.Errorf("%s: %v", where, err)
			continue
		}
		find := twin
		if !c.twins {
			find = func() (any, bool) { return nil, false }
		}
		if _, taken := rule.Take(c.record, find); taken != c.taken {
			t.Errorf("%s: taken %t", where, taken)
		}
	}
	rule, err := Compile(link.RouteSpec{Source: link.SourceLifecycle})
	if err != nil {
		t.Fatal(err)
	}
	if _, taken := rule.Take(connected, twin); taken {
		t.Error("a connection is no matter of life")
	}
}

func TestEnrichmentAddsAndLeavesTheMessageAlone(t *testing.T) {
	rule, err := Compile(link.RouteSpec{Source: link.SourceTelemetry, Environment: "test", Enrich: map[string]string{
		"where": "$stamp", "stage": "$environment", "site": "$twin.tags.site", "floor": "$twin.tags.floor", "mode": "$twin.properties.desired.mode", "absent": "$twin.tags.nothing", "by": "slipway",
	}})
	if err != nil {
		t.Fatal(err)
	}
	in := link.LogRecord{DeviceID: "d", Stamp: "test-1", Properties: map[string]string{"line": "7"}}
	out, taken := rule.Take(in, twin)
	text, err := json.Marshal(out.Properties)
	if !taken || err != nil || string(text) != `{"by":"slipway","floor":"3","line":"7","mode":"eco","site":"north","stage":"test","where":"test-1"}` {
		t.Errorf("%s, %v", text, err)
	}
	if len(in.Properties) != 1 {
		t.Error("the message itself was changed")
	}
}

func TestWhatCannotBeReadNamesItsField(t *testing.T) {
	for field, spec := range map[string]link.RouteSpec{
		"spec.where":        {Where: "$body.x >"},
		"spec.enrich.a":     {Enrich: map[string]string{"a": "$nothing"}},
		"spec.enrich.twin":  {Enrich: map[string]string{"twin": "$twin.tags"}},
		"spec.enrich.other": {Enrich: map[string]string{"other": "$twin.other.x"}},
	} {
		if _, err := Compile(spec); problem.Of(err).Field != field {
			t.Errorf("%s: %v", field, err)
		}
	}
}
