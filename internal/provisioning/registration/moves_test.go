package registration

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/sqldb/sqldbtest"
)

func (w *world) move(t *testing.T, req link.StartMove) string {
	t.Helper()
	m, err := w.service.StartMove(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	return m.ID
}

// states are a move's devices with their states, as one text.
func (w *world) states(t *testing.T, id string) string {
	t.Helper()
	page, err := w.service.MoveDevices(t.Context(), link.ListMoveDevices{ID: id})
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, d := range page.Items {
		all = append(all, strings.TrimSuffix(fmt.Sprint(d.DeviceID, " ", d.State, ": ", d.Problem), ": "))
	}
	return strings.Join(all, ", ")
}

func TestTheLaterMoveCounts(t *testing.T) {
	w := newWorld(t, sqldbtest.At(t))
	defer w.close()
	for _, id := range []string{"a", "b", "c"} {
		w.register(id, "migrating")
	}
	there := w.move(t, link.StartMove{To: "production", Devices: []string{"a"}})
	w.turn(0)
	back := w.move(t, link.StartMove{To: "test", Devices: []string{"a", "b", "c"}})
	w.turn(0)
	if got, want := w.states(t, there), "a failed: superseded by move-2"; got != want {
		t.Errorf("the earlier move: %s", got)
	}
	if got, want := w.states(t, back), "a waiting, b already, c already"; got != want {
		t.Errorf("the later move: %s", got)
	}
	w.register("a", "migrating")
	if got, want := w.states(t, back), "a arrived, b already, c already"; got != want {
		t.Errorf("after registering: %s", got)
	}
	w.check([]string{"a", "b", "c"})
}

func TestAMoveThatIsLateToADeviceLetsItBe(t *testing.T) {
	w := newWorld(t, sqldbtest.At(t))
	defer w.close()
	w.register("a", "migrating")
	early := w.move(t, link.StartMove{To: "production", Devices: []string{"a"}})
	late := w.move(t, link.StartMove{To: "test", Devices: []string{"a"}})
	m := open{number: moveNumber(late), target: "test", state: link.MoveRunning}
	if err := w.service.begin(t.Context(), m, "a"); err != nil {
		t.Fatal(err)
	}
	w.turn(0)
	if got := w.states(t, early); got != "a failed: superseded by move-2" {
		t.Errorf("the earlier move: %s", got)
	}
	if r, _ := w.get("a"); r.Phase != link.PhaseAssigned || r.Home != "test" {
		t.Errorf("%s in %s", r.Phase, r.Home)
	}
}

func TestAStampThatIsGoneSelectsNothing(t *testing.T) {
	w := newWorld(t, sqldbtest.At(t))
	defer w.close()
	w.register("a", "migrating")
	id := w.move(t, link.StartMove{To: "production", Where: "tags.x = 1"})
	w.direct(map[string]link.StampState{"p1": link.StampOpen})
	for range 3 {
		w.turn(time.Second)
	}
	m, err := w.service.Move(t.Context(), id)
	if err != nil || m.State != link.MoveComplete || m.Census.Total != 0 {
		t.Errorf("%+v, %v", m, err)
	}
}

func TestMovesThatCannotBe(t *testing.T) {
	w := newWorld(t, sqldbtest.At(t))
	defer w.close()
	for field, req := range map[string]link.StartMove{
		"to":      {To: "nowhere", Devices: []string{"a"}},
		"devices": {To: "test"},
	} {
		if _, err := w.service.StartMove(t.Context(), req); problem.Of(err).Field != field {
			t.Errorf("%+v: %v", req, err)
		}
	}
	if _, err := w.service.StartMove(t.Context(), link.StartMove{To: "test", Devices: []string{"a"}, Where: "tags.x = 1"}); !problem.Is(err, problem.Invalid) {
		t.Errorf("both: %v", err)
	}
	if _, err := w.service.Move(t.Context(), "move-9"); !problem.Is(err, problem.NotFound) {
		t.Errorf("unknown: %v", err)
	}
}

func TestAClosedStampSendsItsDevicesElsewhere(t *testing.T) {
	w := newWorld(t, sqldbtest.At(t))
	defer w.close()
	w.register("a", "migrating")
	w.stamps.twins["a"] = `{"n":1}`
	r, _ := w.get("a")
	states := map[string]link.StampState{"t1": link.StampOpen, "t2": link.StampOpen, "p1": link.StampOpen}
	states[r.Stamp] = link.StampDraining
	w.direct(states)
	w.register("a", "migrating")
	if again, _ := w.get("a"); again.Stamp != r.Stamp || again.Substatus != sameAssignment || again.Epoch != 1 {
		t.Errorf("draining: %s, %s", again.Stamp, again.Substatus)
	}
	states[r.Stamp] = link.StampClosed
	w.direct(states)
	w.register("a", "migrating")
	again, _ := w.get("a")
	if again.Stamp == r.Stamp || again.Phase != link.PhaseAssigned || again.Substatus != dataMigrated || again.Epoch != 2 || w.stamps.twins["a"] != `{"n":1}` {
		t.Errorf("closed: %+v with twin %s", again, w.stamps.twins["a"])
	}
	w.check([]string{"a"})
}
