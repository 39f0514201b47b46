package stamp_test

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/slipway/slipway/internal/bus"
	"github.com/slipway/slipway/internal/care"
	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/mqtt"
)

// everything is a plan by which every kind of a plane is kept for some days.
func everything(plane string, version int64, days int, holds ...link.CareHold) link.CarePlan {
	plan := link.CarePlan{Version: version, EveryHours: 24, Days: map[string]int{}, Holds: holds}
	for _, kind := range care.Of(plane) {
		plan.Days[kind] = days
	}
	return plan
}

// A stamp has a holding for each kind that is said of it, cleans up, hands out
// what it has of a device, and erases that and nothing else. What is held stays
// through a restart.
func TestAStampCaresForWhatItKeeps(t *testing.T) {
	r := newRig(t)
	for _, kind := range care.Of(care.Stamp) {
		if !slices.Contains(r.stamp.Holdings(), kind) {
			t.Errorf("a stamp cleans up no %s", kind)
		}
	}
	for _, id := range []string{"d.1", "d.12"} {
		r.put(id, 1)
		c := r.connect(id, true)
		for i := range 3 {
			c.send(&mqtt.Publish{Topic: "devices/" + id + "/messages/events/", Payload: []byte(`{"t":1}`), QoS: 1, PacketID: uint16(i + 1)})
			expectPacket[mqtt.Puback](c)
		}
	}
	ask(r, link.MessageSend, link.SendMessage{DeviceID: "d.1", Body: []byte("for the device")})

	ask(r, link.CarePut, everything(care.Stamp, 1, 1))
	if looks := ask(r, link.CareLook, link.LookCare{}); looks.Version != 1 || len(looks.Items) != 0 {
		t.Errorf("of what came just now would go: %+v", looks)
	}
	ask(r, link.CareRunNow, link.None{})
	until(t, func() bool {
		runs := ask(r, link.CareRuns, link.ListCareRuns{})
		return len(runs.Ended) > 0 && runs.Ended[0].Problem == "" && len(runs.Ended[0].Removed) == 0
	})

	ask(r, link.CarePut, everything(care.Stamp, 2, 1, link.CareHold{Tenant: link.DefaultTenant}))
	r.stop()
	r.start()
	if looks := ask(r, link.CareLook, link.LookCare{}); looks.Version != 2 || len(looks.Items) != 0 {
		t.Errorf("with a hold: %+v", looks)
	}
	ask(r, link.CarePut, everything(care.Stamp, 3, 1))

	rows := map[string]string{}
	export := func(device string) map[string]string {
		clear(rows)
		err := bus.Follow(t.Context(), r.link, link.StampPeer("test-1"), link.SubjectExport, link.ExportSubject{Device: device}, func(item link.SubjectItem) error {
			rows[item.Kind] += string(item.Row) + "\n"
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		return rows
	}
	got := export("d.1")
	for kind, says := range map[string]string{"devices": `"batch":"7"`, "telemetry": `"body":{"t":1}`, "events": `"kind":"connected"`, "commands": "for the device"} {
		if !strings.Contains(got[kind], says) {
			t.Errorf("the export says of %s: %s", kind, got[kind])
		}
	}
	if all, _ := json.Marshal(got); strings.Contains(string(all), "primary_key") || strings.Contains(string(all), "d.12") {
		t.Errorf("the export has keys, or what is another's: %s", all)
	}

	erase := link.EraseSubject{Erasure: "erasure-1", Device: "d.1"}
	erased := ask(r, link.SubjectErase, erase)
	counts := map[string]int64{}
	for _, f := range erased.Removed {
		counts[f.Kind] = f.Count
	}
	if counts["telemetry"] != 3 || counts["devices"] != 1 || counts["left-twins"] != 1 || counts["events"] == 0 || erased.More {
		t.Errorf("erased %+v", erased)
	}
	until(t, func() bool { // the event of its removal may come a moment later
		ask(r, link.SubjectErase, erase)
		return len(export("d.1")) == 0
	})
	if left := export("d.12"); strings.Count(left["telemetry"], "\n") != 3 {
		t.Errorf("of the other device there is %v", left)
	}
	r.put("d.1", 1) // it may begin anew, from its first assignment on
}

// What is older goes from the logs, but for what is held.
func TestLogsAreCut(t *testing.T) {
	r := newRig(t)
	for _, id := range []string{"held", "free"} {
		r.put(id, 1)
		c := r.connect(id, true)
		c.send(&mqtt.Publish{Topic: "devices/" + id + "/messages/events/", Payload: []byte(`{}`), QoS: 1, PacketID: 1})
		expectPacket[mqtt.Puback](c)
	}
	r.ahead.Store(int64(48 * time.Hour))
	ask(r, link.CarePut, everything(care.Stamp, 1, 1, link.CareHold{Device: "held"}))
	if looks := ask(r, link.CareLook, link.LookCare{}); !slices.ContainsFunc(looks.Items, func(f link.CareFound) bool { return f.Kind == "telemetry" && f.Count == 1 && f.Oldest != nil }) {
		t.Errorf("would go: %+v", looks)
	}
	ask(r, link.CareRunNow, link.None{})
	until(t, func() bool { return len(ask(r, link.CareRuns, link.ListCareRuns{}).Ended) > 0 })
	for id, n := range map[string]int{"held": 1, "free": 0} {
		if page := ask(r, link.TelemetryRead, link.ReadLog{DeviceID: id}); len(page.Items) != n {
			t.Errorf("%s has %d messages left, not %d", id, len(page.Items), n)
		}
	}
}
