package environment

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/resource"
)

// hear keeps what a stamp's process tells of itself, and of no other.
func (e *Environments) hear(subject string, o link.Observed) {
	if subject != link.ObservedSubject(link.StampPeer(o.Stamp)) {
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.together(o.Stamp).Host != o.Host {
		e.Kick()
	}
	if e.observed[o.Stamp] == nil {
		e.observed[o.Stamp] = map[string]link.Observed{}
	}
	e.observed[o.Stamp][o.Process] = o
	maps.DeleteFunc(e.observed[o.Stamp], func(_ string, other link.Observed) bool { return o.At.Sub(other.At) > silentAfter })
}

// silentAfter is how long after the last word of a process it is believed to be
// gone, where others of its stamp are there.
const silentAfter = 10 * time.Second

// Observed returns what a stamp last told of itself.
func (e *Environments) Observed(stamp string) (link.Observed, bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.together(stamp), len(e.observed[stamp]) > 0
}

// together is what the processes of a stamp tell, as one. The caller holds mu.
func (e *Environments) together(stamp string) link.Observed {
	return merge(slices.Collect(maps.Values(e.observed[stamp])))
}

// merge puts together what the processes of a stamp tell: what each has of its
// own adds up, and of what they share the newest is so.
func merge(all []link.Observed) (sum link.Observed) {
	slices.SortFunc(all, func(a, b link.Observed) int { return a.At.Compare(b.At) })
	for i, o := range all {
		if i == 0 {
			sum = o
			continue
		}
		o.Connected += sum.Connected
		o.Sockets += sum.Sockets
		o.Rate += sum.Rate
		o.Refused += sum.Refused
		o.Throttled += sum.Throttled
		o.OverQuota += sum.OverQuota
		o.Admission = o.Admission.Plus(sum.Admission)
		o.Releases = cmp.Or(o.Releases, sum.Releases) // one process tells of them for all
		o.Messages = max(o.Messages, sum.Messages)
		o.Limits.Connections += sum.Limits.Connections
		o.Limits.Sockets += sum.Limits.Sockets
		o.Limits.ConnectsPerSecond += sum.Limits.ConnectsPerSecond
		o.Limits.MessagesPerSecond += sum.Limits.MessagesPerSecond
		sum = o
	}
	return sum
}

// processes are those a stamp is, in order of name. The caller holds mu.
func (e *Environments) processes(stamp string) []resource.Process {
	var all []resource.Process
	for _, name := range slices.Sorted(maps.Keys(e.observed[stamp])) {
		o := e.observed[stamp][name]
		all = append(all, resource.Process{
			Name: name, Version: o.Version, Leads: o.Leads, Connected: o.Connected, Connections: o.Limits.Connections,
			Rate: o.Rate, StartedAt: o.StartedAt, SeenAt: o.At,
		})
	}
	return all
}
