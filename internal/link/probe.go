package link

import "strings"

// probePrefix begins the names of the devices that Slipway itself sends to
// stamps. Nobody else's device may have such a name.
const probePrefix = "slipway-probe."

// Probe is the device by which a stamp is tried, again and again. It is counted
// nowhere, takes no place, gets no release, and what it says goes nowhere.
func Probe(stamp string) string { return probePrefix + stamp }

// IsProbe reports whether an identity, or what asks to be one, is called like a
// probe.
func IsProbe(id string) bool {
	return len(id) >= len(probePrefix) && strings.EqualFold(id[:len(probePrefix)], probePrefix)
}
