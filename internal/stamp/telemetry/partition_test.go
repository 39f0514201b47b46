package telemetry

import (
	"fmt"
	"testing"

	"github.com/slipway/slipway/internal/link"
)

// TestAPartitionKnowsItsOwnEnds holds the bounds of each partition against what
// was appended, looked for one message at a time and device by device.
func TestAPartitionKnowsItsOwnEnds(t *testing.T) {
	l := open(t)
	var want [link.Partitions]Bounds
	sequence := uint64(0)
	add := func(device string, n int) {
		appendAndWait(t, l, Origin{DeviceID: device}, "", make([]string, n)...)
		b := &want[Partition(device)]
		if b.First == 0 {
			b.First = sequence + 1
		}
		sequence += uint64(n)
		b.Last = sequence
	}
	check := func(what string) {
		t.Helper()
		for partition := range want {
			got, err := l.PartitionBounds(t.Context(), partition)
			if err != nil || got.First != want[partition].First || got.Last != want[partition].Last || got.LastAt.IsZero() != (got.Last == 0) {
				t.Errorf("%s, partition %d: %+v, %v, not %+v", what, partition, got, err, want[partition])
			}
		}
	}
	check("nothing")
	add("a", 3)
	check("one device")
	for i := range 20 {
		add(fmt.Sprint("some.", i), 1)
	}
	check("some devices")
	add("many", nearby+1)
	add("a", 1)
	check("more than are looked at one by one")
	l.parts = partitions{}
	check("after a restart")
}
