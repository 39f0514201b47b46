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

// on lists where devices are.
func (w *world) on(ids ...string) string {
	var all []string
	for _, id := range ids {
		r, _ := w.get(id)
		all = append(all, id+" "+strings.TrimSpace(string(r.Phase)+" "+r.Stamp))
	}
	return strings.Join(all, ", ")
}

func (w *world) only(stamp string) {
	states := map[string]link.StampState{}
	for name := range allOpen {
		states[name] = link.StampDraining
	}
	states[stamp] = link.StampOpen
	w.direct(states)
}

func TestAStampIsEmptiedAsFastAsOthersTakeItsDevices(t *testing.T) {
	w := newWorld(t, sqldbtest.At(t))
	defer w.close()
	w.only("t1")
	for _, id := range []string{"a", "b", "c"} {
		w.register(id, "migrating")
	}
	w.only("t2")
	w.register("d", "migrating")
	w.register("e", "migrating")
	id := w.move(t, link.StartMove{From: "t1", Reason: "t1 goes"})
	w.turn(0) // selects
	w.turn(0)
	m, err := w.service.Move(t.Context(), id)
	if err != nil || m.Census.Waiting != 1 || m.Census.Pending != 2 || m.State != link.MoveRunning || m.To != "test" || !strings.Contains(m.Problem, "could be taken") {
		t.Fatalf("%+v, %v", m, err)
	}
	for _, id := range []string{"a", "b", "c"} {
		w.register(id, "migrating") // those that were not moved stay, as a draining stamp keeps its devices
	}
	if got, want := w.on("a", "b", "c"), "a assigned t2, b assigned t1, c assigned t1"; got != want {
		t.Errorf("%s", got)
	}
	w.room = 10
	w.only("t2")
	w.turn(time.Second)
	for _, id := range []string{"b", "c"} {
		w.register(id, "migrating")
	}
	w.turn(0)
	if m, err = w.service.Move(t.Context(), id); err != nil || m.State != link.MoveComplete || m.Census.Arrived != 3 || m.Problem != "" {
		t.Errorf("%+v, %v", m, err)
	}
	if got, want := w.on("a", "b", "c"), "a assigned t2, b assigned t2, c assigned t2"; got != want {
		t.Errorf("%s", got)
	}
	w.check([]string{"a", "b", "c", "d", "e"})
}

func TestAMoveKeepsToItsPace(t *testing.T) {
	w := newWorld(t, sqldbtest.At(t))
	defer w.close()
	w.room = 100
	w.only("t1")
	for n := range 20 {
		w.register(fmt.Sprintf("d%02d", n), "migrating")
	}
	w.direct(allOpen)
	id := w.move(t, link.StartMove{From: "t1", PerSecond: 2})
	begun := func() int {
		t.Helper()
		m, err := w.service.Move(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		return m.Census.Total - m.Census.Pending
	}
	w.turn(0) // selects
	w.turn(0)
	for second := range 4 {
		if n := begun(); n != 2*(second+1) {
			t.Errorf("%d have begun after %d s", n, second)
		}
		w.turn(time.Second)
	}
}

func TestAMoveNamesItsStamp(t *testing.T) {
	w := newWorld(t, sqldbtest.At(t))
	defer w.close()
	ids := []string{"a", "b", "c", "d"}
	for _, id := range ids {
		w.register(id, "migrating")
	}
	w.move(t, link.StartMove{Stamp: "p2", Devices: ids})
	w.turn(0)
	for _, id := range ids {
		w.register(id, "migrating")
	}
	// There is room for three; the fourth is better elsewhere than nowhere.
	if got, want := w.on(ids...), "a assigned p2, b assigned p2, c assigned p2, d assigned p1"; got != want {
		t.Errorf("%s", got)
	}
	for req, field := range map[*link.StartMove]string{
		{From: "x"}: "from", {Stamp: "x", Devices: ids}: "stamp", {From: "p1", Stamp: "p1"}: "stamp", {Stamp: "p1", To: "test", Devices: ids}: "stamp",
		{From: "p1", Where: "true", Devices: ids}: "devices", {Stamp: "p1"}: "devices", {From: "p1", PerSecond: -1}: "perSecond", {From: "p1", PerSecond: 1e9}: "perSecond",
	} {
		if _, err := w.service.StartMove(t.Context(), *req); !problem.Is(err, problem.Invalid) || problem.Of(err).Field != field {
			t.Errorf("%+v: %v", req, err)
		}
	}
}
