package bus

import (
	"strings"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/slipway/slipway/internal/link"
)

// The subjects of the link:
//
//	call.{peer}.{name}        a call or feed that the peer answers
//	feed.{peer}.{id}          what the peer sends on a feed; .grant is the follower's
//	observed.{peer}           what the peer tells of itself
//	metrics.{peer}            what the peer counts
//	call.control.trail.put.{peer}   what the peer says of what it does
//	_INBOX.{peer}.…           answers to the peer
func inboxOf(peer string) string { return "_INBOX." + peer }

func feedOf(peer, id string) string { return "feed." + peer + "." + id }

// maxAnswer is how long after a request its answer may come; no call may wait
// longer.
const maxAnswer = 15 * time.Minute

// permissions are the subjects a peer may use. Control asks everybody;
// provisioning asks stamps about identities, and
// tells them of authorities; both ask control whose a token
// is, and a stamp fetches artifacts and signed metadata from it. Nobody hears
// or says what is another's.
func permissions(peer string) *server.Permissions {
	publish := []string{subject(link.ControlPeer, link.TokenCheck.Name), "feed." + peer + ".>", link.ObservedSubject(peer), link.MetricsSubject(peer), subject(link.ControlPeer, In(link.TrailPut, peer).Name)}
	subscribe := []string{"call." + peer + ".>", "feed." + peer + ".*.grant", inboxOf(peer) + ".>"}
	switch {
	case peer == link.ControlPeer:
		publish, subscribe = []string{"call.>", "feed.*.*.grant", "feed.*.*.*.grant"}, []string{"call.control.>", "feed.>", "observed.>", "metrics.>", inboxOf(peer) + ".>"}
	case peer == link.ProvisioningPeer:
		for _, name := range []string{link.IdentityPut.Name, link.IdentityRemove.Name, link.DeviceQuery.Name, link.AuthoritiesPut.Name} {
			publish = append(publish, subject(link.StampPeer("*"), name))
		}
	case strings.HasPrefix(peer, link.StampPeer("")):
		publish = append(publish, subject(link.ControlPeer, link.ArtifactRead.Name), subject(link.ControlPeer, link.MetadataRead.Name))
	default:
		publish, subscribe = nil, nil
	}
	return &server.Permissions{
		Publish: allow(publish), Subscribe: allow(subscribe),
		Response: &server.ResponsePermission{MaxMsgs: 1, Expires: maxAnswer},
	}
}

func allow(subjects []string) *server.SubjectPermission {
	if len(subjects) == 0 {
		return &server.SubjectPermission{Deny: []string{">"}}
	}
	return &server.SubjectPermission{Allow: subjects}
}
