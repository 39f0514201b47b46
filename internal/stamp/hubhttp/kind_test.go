package hubhttp

import (
	"testing"

	"github.com/slipway/slipway/internal/stamp/throttle"
)

func TestEachRouteIsOfAKind(t *testing.T) {
	kinds := map[string]throttle.Kind{
		"POST /devices/{}/messages/events": "", "POST /devices/{}/files": throttle.Uploads, "GET /devices/{}/updates/artifacts/{}": "",
		"GET /devices": throttle.Registry, "PUT /devices/{}": throttle.Registry, "POST /devices/keys/regenerate": throttle.Registry,
		"GET /statistics/devices": throttle.Registry, "POST /devices/query": throttle.Queries, "DELETE /devices/{}/commands": throttle.Messages,
		"GET /messages/serviceBound/feedback": throttle.Messages, "GET /twins/{}": throttle.TwinReads, "PATCH /twins/{}/modules/{}": throttle.TwinUpdates,
		"POST /twins/{}/methods": throttle.Methods, "POST /digitaltwins/{}/commands/{}": throttle.Methods, "PATCH /digitaltwins/{}": throttle.TwinUpdates, "PUT /jobs/v2/{}": throttle.Jobs, "POST /configurations/testQueries": throttle.Configurations,
	}
	e := New(Parts{})
	for _, rt := range e.routes {
		if kind := rt.kind(); kind != "" && !throttle.Known(kind) {
			t.Errorf("%s %v is of kind %q", rt.method, rt.pattern, kind)
		}
	}
	for text, want := range kinds {
		if rt := on(text, routeOf(t, e, text).right, nil); rt.kind() != want {
			t.Errorf("%s is of kind %q, not %q", text, rt.kind(), want)
		}
	}
}

// routeOf is the route of the table that is written so.
func routeOf(t *testing.T, e *Edge, text string) route {
	t.Helper()
	wanted := on(text, "", nil)
	for _, rt := range e.routes {
		if rt.method == wanted.method && len(rt.pattern) == len(wanted.pattern) {
			same := true
			for i := range rt.pattern {
				same = same && rt.pattern[i] == wanted.pattern[i]
			}
			if same {
				return rt
			}
		}
	}
	t.Fatalf("there is no route %s", text)
	return route{}
}
