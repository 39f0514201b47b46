package hubhttp

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/stamp/twin"
)

func TestATwinAsItsModelHasIt(t *testing.T) {
	now := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	d, err := twin.New("d", nil, now)
	if err == nil {
		d, _, err = d.Patch([]byte(`{"properties":{"desired":{"interval":5,"only":{"__t":"c","a":1},"thermostat":{"__t":"c","target":22}}}}`), now)
	}
	if err == nil {
		d, err = d.PatchReported([]byte(`{"serial":"s","interval":{"value":4,"ac":200,"av":1},"plain":{"value":4},"thermostat":{"__t":"c","target":21,"max":{"low":1}}}`), now)
	}
	if err != nil {
		t.Fatal(err)
	}
	got, err := json.Marshal(digitalTwin("d", "dtmi:x;1", d))
	const at = `"2026-05-01T12:00:00.0000000Z"`
	want := `{"$dtId":"d","$metadata":{"$model":"dtmi:x;1","interval":{"ackCode":200,"ackVersion":1,"desiredValue":5,"desiredVersion":2,"lastUpdateTime":` + at + `},` +
		`"plain":{"lastUpdateTime":` + at + `},"serial":{"lastUpdateTime":` + at + `}},"interval":4,` +
		`"only":{"$metadata":{"a":{"desiredValue":1,"desiredVersion":2}}},"plain":{"value":4},"serial":"s",` +
		`"thermostat":{"$metadata":{"max":{"lastUpdateTime":` + at + `},"target":{"desiredValue":22,"desiredVersion":2,"lastUpdateTime":` + at + `}},"max":{"low":1},"target":21}}`
	if err != nil || string(got) != want {
		t.Errorf("%v\ngot  %s\nwant %s", err, got, want)
	}
}

func TestAPatchOfADigitalTwinIsOneOfDesiredProperties(t *testing.T) {
	for text, want := range map[string]string{
		`[]`: `{}`,
		`[{"op":"add","path":"/a","value":12345678901234567}]`:                           `{"a":12345678901234567}`,
		`[{"op":"replace","path":"/c/a","value":{"b":1}},{"op":"remove","path":"/c/d"}]`: `{"c":{"__t":"c","a":{"b":1},"d":null}}`,
		`[{"op":"add","path":"/c","value":{"a":1,"$metadata":{}}}]`:                      `{"c":{"__t":"c","a":1}}`,
		`[{"op":"remove","path":"/a~1b~0"}]`:                                             `{"a/b~":null}`,
		`[{"op":"remove","path":"a"}]`:                                                   "[0].path",
		`[{"op":"add","path":"/a/b/c","value":1}]`:                                       "[0].path",
		`[{"op":"remove","path":"/a"},{"op":"remove","path":"/$metadata"}]`:              "[1].path",
		`[{"op":"move","path":"/a","value":1}]`:                                          "[0]",
		`[{"op":"add","path":"/a"}]`:                                                     "[0]",
	} {
		var operations []operation
		if err := json.Unmarshal([]byte(text), &operations); err != nil {
			t.Fatal(err)
		}
		desired, err := desiredOf(operations)
		got, _ := json.Marshal(desired)
		if err != nil {
			got = []byte(problem.Of(err).Field)
		}
		if string(got) != want {
			t.Errorf("%s: %s, %v; want %s", text, got, err, want)
		}
	}
}
