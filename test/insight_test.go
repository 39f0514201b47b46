package test

import (
	"strings"
	"testing"
	"time"
)

// TestWhatAnInstallationSaysOfItself follows a request through the planes, finds
// what was said meanwhile, and has stamps tried by their probes.
func TestWhatAnInstallationSaysOfItself(t *testing.T) {
	t.Parallel()
	in := start(t, "--probes", "10s", "--traces", "1")
	count := func(query string) string { return in.must("metrics", "query", query) }
	eventually(t, "each of three stamps was tried well", 3*time.Minute, func() bool {
		return strings.HasSuffix(strings.TrimSpace(count(`count(sum by (stamp) (slipway_probe_runs_total{result="ok",step="done"}))`)), "3")
	})
	// A probe is nobody's device.
	if listed := in.must("device", "list") + in.must("query", "SELECT * FROM devices"); strings.Contains(listed, "slipway-probe") {
		t.Errorf("a probe is among the devices: %s", listed)
	}
	if capacity := in.must("capacity"); strings.Contains(capacity, "slipway-probe") {
		t.Error(capacity)
	}
	for _, none := range []string{"slipway_stamp_places_taken > 0", "slipway_stamp_devices > 0", "slipway_update_devices > 0", "slipway_provisioning_waiting > 0"} {
		if found := count(none); strings.TrimSpace(found) != "" {
			t.Errorf("%s: %s", none, found)
		}
	}
	in.apply("apiVersion: slipway/v1\nkind: EnrollmentGroup\nmetadata: {name: line}\nspec: {environment: test, attestation: {symmetricKey: {primaryKey: MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=}}}\n")
	for name, text := range map[string]string{
		"its name":      "apiVersion: slipway/v1\nkind: Enrollment\nmetadata: {name: slipway-probe.test-1}\nspec: {environment: test, attestation: {symmetricKey: {}}}\n",
		"its device id": "apiVersion: slipway/v1\nkind: Enrollment\nmetadata: {name: mine}\nspec: {environment: test, deviceId: Slipway-Probe.test-1, attestation: {symmetricKey: {}}}\n",
	} {
		if said, err := in.applied(text); err == nil || !strings.Contains(said, "probes") {
			t.Errorf("an enrolment with %s: %s", name, said)
		}
	}
	// A trace goes from control over the link to the other planes, and lines bear it.
	var id string
	eventually(t, "the change has a trace", time.Minute, func() bool {
		words := strings.Fields(in.must("trace", "--limit", "500"))
		for i, word := range words {
			if word == "putEnrollmentGroup" && i >= 2 {
				id = words[i-2]
			}
		}
		return id != ""
	})
	eventually(t, "the trace has what provisioning did", time.Minute, func() bool {
		steps := in.must("trace", id)
		return strings.Contains(steps, "· ask enrollment.put") && strings.Contains(steps, "· · enrollment.put\tprovisioning")
	})
	if lines := in.must("logs", "--trace", id); !strings.Contains(lines, "request") || !strings.Contains(lines, "PUT") {
		t.Errorf("no line bears the trace: %s", lines)
	}
	eventually(t, "registrations of devices are traced into their stamps", time.Minute, func() bool {
		return strings.Contains(in.must("trace", "--limit", "500"), "register")
	})
	if timeline := in.must("timeline", "--kind", "configuration"); !strings.Contains(timeline, "enrollment.put") {
		t.Error(timeline)
	}
	if exemplars, err := in.run("metrics", "query", "slipway_probe_success_timestamp_seconds"); err != nil || strings.Count(exemplars, "\n") != 3 {
		t.Error(exemplars, err)
	}
}
