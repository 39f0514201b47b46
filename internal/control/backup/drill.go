package backup

import (
	"fmt"
	"time"

	"github.com/slipway/slipway/internal/link"
)

// The states of a drill.
const (
	Due     = "due" // waits for a host that recovers
	Running = "running"
	Ended   = "ended"
)

// Drill is a trial of backups: they are restored where nothing can be reached
// from, looked through, and taken away again.
type Drill struct {
	ID        string              `json:"id"`
	State     string              `json:"state" enum:"due,running,ended"`
	Verdict   string              `json:"verdict,omitempty" enum:"pass,fail,inconclusive"`
	Reasons   []string            `json:"reasons,omitempty" doc:"Why it did not pass"`
	Trigger   string              `json:"trigger" enum:"schedule,demand"`
	AskedBy   string              `json:"askedBy,omitempty"`
	CreatedAt time.Time           `json:"createdAt"`
	Host      string              `json:"host,omitempty" doc:"That runs it"`
	Runner    string              `json:"runner,omitempty" doc:"Who runs it"`
	StartedAt *time.Time          `json:"startedAt,omitempty"`
	HeardAt   *time.Time          `json:"heardAt,omitempty" doc:"When the host was last heard of"`
	Phase     string              `json:"phase,omitempty"`
	EndedAt   *time.Time          `json:"endedAt,omitempty"`
	Evidence  *link.DrillEvidence `json:"evidence,omitempty"`
	Signature string              `json:"signature,omitempty" doc:"Ed25519 over the evidence, the verdict and the objectives, as signed"`
	Signed    string              `json:"signed,omitempty" doc:"What the signature is over"`
	Key       string              `json:"key,omitempty" doc:"Short name of the key that signed"`
}

// How long a drill waits for a host, and a running one to be heard of.
const (
	dueFor   = 24 * time.Hour
	silentAt = 2 * time.Minute
)

// stepDrill is what time does to a drill.
func stepDrill(now time.Time, d Drill) (Drill, bool) {
	switch {
	case d.State == Due && now.Sub(d.CreatedAt) >= dueFor:
		return conclude(now, d, link.Inconclusive, "no host took it up within a day; `slipway drill run` on the host that recovers does"), true
	case d.State == Running && now.Sub(*d.HeardAt) >= silentAt:
		return conclude(now, d, link.Inconclusive, fmt.Sprintf("the host %s was not heard of any more, in phase %q", d.Host, d.Phase)), true
	}
	return d, false
}

func conclude(now time.Time, d Drill, verdict string, reasons ...string) Drill {
	now = now.UTC()
	d.State, d.Verdict, d.Reasons, d.EndedAt = Ended, verdict, reasons, &now
	return d
}

// drillDue reports whether the plan wants another drill, by the newest there is.
func (p Schedule) drillDue(now time.Time, newest *Drill) bool {
	if p.Paused || newest != nil && newest.State != Ended {
		return false
	}
	return newest == nil || !now.Before(newest.CreatedAt.Add(time.Duration(p.DrillSeconds)*time.Second))
}

// The checks without which a drill shows nothing.
var essential = []string{"storage", "schema", "rows", "canary", "boot", "audit", "device"}

// judge says what evidence amounts to. Whoever ran the drill does not say it.
func judge(e link.DrillEvidence, o Objectives) (verdict string, reasons []string) {
	failed, open := []string{}, []string{}
	if e.Failure != "" {
		open = append(open, e.Failure)
	}
	if e.Negative.Verdict == link.Fail {
		failed = append(failed, "a copy with a flipped byte was taken for whole")
	} else if e.Negative.Verdict != link.Pass {
		open = append(open, "no copy with a flipped byte was tried")
	}
	if len(e.Trials) == 0 || e.Trials[0].Of != "newest" {
		open = append(open, "the newest backups were not restored")
	}
	for _, t := range e.Trials {
		f, u := judgeTrial(t, o)
		failed, open = append(failed, f...), append(open, u...)
	}
	switch {
	case len(failed) > 0:
		return link.Fail, append(failed, open...)
	case len(open) > 0:
		return link.Inconclusive, open
	}
	return link.Pass, nil
}

func judgeTrial(t link.Trial, o Objectives) (failed, open []string) {
	seen := map[string]string{}
	for _, c := range t.Checks {
		seen[c.Name] = c.Verdict
		where := t.Of
		if c.Plane != "" {
			where += ", " + c.Plane
		}
		switch c.Verdict {
		case link.Fail:
			failed = append(failed, fmt.Sprintf("%s (%s): %s", c.Name, where, c.Detail))
		case link.Pass, link.NothingToDo:
		default:
			open = append(open, fmt.Sprintf("%s (%s): %s", c.Name, where, c.Detail))
		}
	}
	for _, name := range essential {
		if seen[name] == "" {
			open = append(open, fmt.Sprintf("%s (%s): was not looked at", name, t.Of))
		}
	}
	if !t.Destroyed {
		failed = append(failed, "the target of the restore ("+t.Of+") is still there")
	}
	if limit := float64(o.RTOSeconds); t.RTOSeconds > limit {
		failed = append(failed, fmt.Sprintf("recovery (%s) took %.0f s, and %.0f s are promised", t.Of, t.RTOSeconds, limit))
	}
	if limit := float64(o.RPOSeconds); t.Of == "newest" && t.RPOSeconds > limit {
		failed = append(failed, fmt.Sprintf("what came back was %.0f s old, and %.0f s are promised", t.RPOSeconds, limit))
	}
	return failed, open
}
