// Package rehearsal keeps what became of the migrations of releases on masked
// copies of an environment's data: which are to be rehearsed, what the host
// showed that did so, what that amounts to, and whether it still says anything.
package rehearsal

import (
	"fmt"
	"time"

	"github.com/slipway/slipway/internal/link"
)

// The states of a rehearsal.
const (
	Due     = "due" // waits for a host that may read the data
	Running = "running"
	Ended   = "ended"
)

// Cancelled is the verdict on a rehearsal that somebody ended.
const Cancelled = "cancelled"

// Rehearsal is one try of a release's migrations.
type Rehearsal struct {
	ID          string                  `json:"id"`
	State       string                  `json:"state" enum:"due,running,ended"`
	Verdict     string                  `json:"verdict,omitempty" enum:"pass,fail,inconclusive,cancelled"`
	Reasons     []string                `json:"reasons,omitempty" doc:"Why it did not pass"`
	Void        []string                `json:"void,omitempty" doc:"Why it says nothing any more"`
	Environment string                  `json:"environment"`
	Stamp       string                  `json:"stamp" doc:"Whose data is copied"`
	Release     string                  `json:"release"`
	Digest      string                  `json:"digest" doc:"Of the release"`
	Beside      string                  `json:"beside,omitempty" doc:"The release that runs there, whose program reads the same data"`
	AskedBy     string                  `json:"askedBy"`
	CreatedAt   time.Time               `json:"createdAt"`
	Attempt     int                     `json:"attempt,omitempty" doc:"How often a host has taken it up"`
	Host        string                  `json:"host,omitempty" doc:"That runs it"`
	Runner      string                  `json:"runner,omitempty" doc:"Who runs it"`
	StartedAt   *time.Time              `json:"startedAt,omitempty"`
	HeardAt     *time.Time              `json:"heardAt,omitempty" doc:"When the host was last heard of"`
	Phase       string                  `json:"phase,omitempty"`
	CancelledBy string                  `json:"cancelledBy,omitempty" doc:"The host is told so, and clears away"`
	EndedAt     *time.Time              `json:"endedAt,omitempty"`
	Limits      link.RehearsalLimits    `json:"limits" doc:"What migrations may take"`
	Evidence    *link.RehearsalEvidence `json:"evidence,omitempty"`
	Signature   string                  `json:"signature,omitempty" doc:"Ed25519 over what was signed"`
	Signed      string                  `json:"signed,omitempty" doc:"What the signature is over"`
	Key         string                  `json:"key,omitempty" doc:"The public key, base64"`
}

// How long a rehearsal waits for a host, a running one to be heard of, and how
// often one is taken up.
const (
	dueFor   = 24 * time.Hour
	silentAt = 2 * time.Minute
	attempts = 3
)

// step is what time does to a rehearsal.
func step(now time.Time, r Rehearsal) (Rehearsal, bool) {
	switch {
	case r.State == Due && now.Sub(r.CreatedAt) >= dueFor:
		return conclude(now, r, link.Inconclusive, "no host took it up within a day; `slipway rehearsal run` on one that may read the data does"), true
	case r.State != Running || now.Sub(*r.HeardAt) < silentAt:
		return r, false
	case r.CancelledBy != "":
		return conclude(now, r, Cancelled, "cancelled by "+r.CancelledBy+"; the host was not heard of any more"), true
	case r.Attempt < attempts:
		r.State, r.Host, r.Runner, r.Phase = Due, "", "", ""
		return r, true
	}
	return conclude(now, r, link.Inconclusive, fmt.Sprintf("its host was not heard of any more, %d times", r.Attempt)), true
}

func conclude(now time.Time, r Rehearsal, verdict string, reasons ...string) Rehearsal {
	now = now.UTC()
	r.State, r.Verdict, r.Reasons, r.EndedAt = Ended, verdict, reasons, &now
	return r
}

// essential are the checks without which a rehearsal shows nothing.
var essential = []string{"mask", "leaks", "migrate", "destroyed"}

// Judge says what evidence amounts to. Whoever ran the rehearsal does not say
// it.
func Judge(e link.RehearsalEvidence, release link.Release, limits link.RehearsalLimits) (verdict string, reasons []string) {
	failed, open := checked(e)
	slow, unknown := measured(e, release, limits)
	failed, open = append(failed, slow...), append(open, unknown...)
	if e.Failure != "" {
		open = append(open, e.Failure)
	}
	if e.Digest != release.Digest {
		open = append(open, "the evidence is of another release")
	}
	switch {
	case len(failed) > 0:
		return link.Fail, append(failed, open...)
	case len(open) > 0:
		return link.Inconclusive, open
	}
	return link.Pass, nil
}

// checked is what the checks say.
func checked(e link.RehearsalEvidence) (failed, open []string) {
	seen := map[string]bool{}
	for _, c := range e.Checks {
		seen[c.Name] = true
		where := ""
		for _, part := range []string{c.On, c.Migration} {
			if part != "" {
				where += ", " + part
			}
		}
		switch c.Verdict {
		case link.Pass, link.NothingToDo:
		case link.Fail:
			failed = append(failed, fmt.Sprintf("%s%s: %s", c.Name, where, c.Detail))
		default:
			open = append(open, fmt.Sprintf("%s%s: %s", c.Name, where, c.Detail))
		}
	}
	for _, name := range essential {
		if !seen[name] {
			open = append(open, name+": was not looked at")
		}
	}
	if !e.Destroyed {
		failed = append(failed, "destroyed: the copies are still there")
	}
	if e.Devices == 0 {
		open = append(open, "there were no devices in the copy, so it shows nothing of them")
	}
	return failed, open
}

// measured holds what migrations took against what they may take.
func measured(e link.RehearsalEvidence, release link.Release, limits link.RehearsalLimits) (failed, open []string) {
	var total int64
	done := map[string]bool{}
	for _, m := range e.Migrations {
		done[m.Name], total = true, total+m.Milliseconds
		if waited := float64(m.WaitMillis) / 1000; waited > limits.WaitSeconds {
			failed = append(failed, fmt.Sprintf("locks, %s: others waited %.1f s for %s, and %g s are allowed", m.Name, waited, m.WaitedFor, limits.WaitSeconds))
		}
		if grown := m.After - m.Before; m.Before > 0 && grown > leastGrowth && float64(grown) > limits.Growth*float64(m.Before) {
			failed = append(failed, fmt.Sprintf("size, %s: it makes the data %.1f times as large, and %g times are allowed", m.Name, float64(m.After)/float64(m.Before), 1+limits.Growth))
		}
	}
	if seconds := float64(total) / 1000; seconds > limits.TotalSeconds {
		failed = append(failed, fmt.Sprintf("time: all migrations took %.0f s, and %g s are allowed", seconds, limits.TotalSeconds))
	}
	for _, m := range release.Spec.Migrations {
		if !done[m.Name] {
			open = append(open, fmt.Sprintf("migrate, %s: was not tried", m.Name))
		}
	}
	return failed, open
}

// leastGrowth is by how many bytes data grows at least for that to count.
const leastGrowth = 8 << 20

// Live is what is known now of what was rehearsed on.
type Live struct {
	Devices int64
	Schema  int64  // of the stamp's tables; 0 is not known
	Running string // digest of the release that runs there; empty is none
	MaxAge  time.Duration
	Change  float64 // by which share the number of devices may have moved on
}

// void says why evidence says nothing any more: what it was of has moved on.
func void(now time.Time, r Rehearsal, live Live) (why []string) {
	e := r.Evidence
	if e == nil || r.EndedAt == nil {
		return nil
	}
	if age := now.Sub(*r.EndedAt); age > live.MaxAge {
		why = append(why, fmt.Sprintf("it is %s old, and may be %s", age.Round(time.Minute), live.MaxAge))
	}
	if live.Running != e.Running {
		why = append(why, "another release runs there now, whose program was not held against what it leaves")
	}
	moved := live.Devices - e.Devices
	if moved < 0 {
		moved = -moved
	}
	if e.Devices > 0 && float64(moved) > live.Change*float64(e.Devices) {
		why = append(why, fmt.Sprintf("there were %d devices, and now there are %d; %g %% more or fewer are allowed", e.Devices, live.Devices, live.Change*100))
	}
	for _, d := range e.Databases {
		if d.Schema != 0 && live.Schema != 0 && d.Schema != live.Schema {
			why = append(why, fmt.Sprintf("the stamp's tables were of migration %d, and now are of %d", d.Schema, live.Schema))
		}
	}
	return why
}
