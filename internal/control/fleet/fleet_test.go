package fleet_test

import (
	"testing"
	"time"

	"github.com/slipway/slipway/internal/control/fleet"
	"github.com/slipway/slipway/internal/link"
)

func TestStaysFoldTheTransitionLog(t *testing.T) {
	at := func(minute int) time.Time { return time.Date(2026, 11, 20, 12, minute, 0, 0, time.UTC) }
	stays := fleet.Stays([]link.Transition{
		{At: at(0), Step: "registered", Environment: "test"}, {At: at(0), Step: "creating", Environment: "test", Stamp: "t1"},
		{At: at(1), Step: "assigned", Environment: "test", Stamp: "t1"},
		{At: at(5), Step: "requested", Environment: "test", Stamp: "t1", Reason: "passed"}, {At: at(5), Step: "removing", Environment: "test", Stamp: "t1"},
		{At: at(6), Step: "removed", Environment: "test", Stamp: "t1", Reason: "moved to production"},
		{At: at(7), Step: "creating", Environment: "production", Stamp: "p1"}, {At: at(8), Step: "assigned", Environment: "production", Stamp: "p1"},
	})
	if len(stays) != 2 || stays[0].Environment != "test" || stays[0].To == nil || !stays[0].To.Equal(at(6)) || stays[0].Reason != "passed" ||
		stays[1].Stamp != "p1" || !stays[1].From.Equal(at(8)) || stays[1].To != nil {
		t.Errorf("stays %+v", stays)
	}
	if stays := fleet.Stays(nil); stays == nil || len(stays) != 0 {
		t.Errorf("no log: %#v", stays)
	}
}
