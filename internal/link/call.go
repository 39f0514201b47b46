// Package link is what the planes share: the message types, the names of the
// few calls between them, and the level-triggered documents that control
// desires and the others observe. It knows no transport; bus carries it.
package link

import "strings"

// Call is a request one plane answers for another.
type Call[Req, Resp any] struct {
	// Name is the call's last part of the subject, for example "identity.put".
	Name string
}

// Feed is a request answered by a stream of items until either side ends it.
type Feed[Req, Item any] struct {
	// Name is the feed's last part of the subject, for example "telemetry.watch".
	Name string
}

// None is an empty request or answer.
type None struct{}

// ProvisioningPeer is the subject prefix under which provisioning answers.
const ProvisioningPeer = "provisioning"

// ObservedSubject is where a peer tells what it observes of itself.
func ObservedSubject(peer string) string { return "observed." + peer }

// StampPeer is the subject prefix under which the stamp answers.
func StampPeer(stamp string) string { return "stamp." + stamp }

// HoldsServer reports whether a peer's processes hold the servers that make up
// the link.
func HoldsServer(peer string) bool { return peer == ControlPeer || peer == ProvisioningPeer }

// StampOfPeer is the reverse of StampPeer.
func StampOfPeer(peer string) (stamp string, ok bool) { return strings.CutPrefix(peer, "stamp.") }
