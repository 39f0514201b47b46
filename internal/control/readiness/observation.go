package readiness

import (
	"strings"
	"time"
)

// ofObservation are the checks of what is seen of an environment.
var ofObservation = []Check{
	{"O1", Observation, Blocks, "Every process tells of itself, by the same names everywhere", live,
		"Start what is down, or let control reach its metrics", "how-to/monitor.md", "/monitor",
		about("processes", func(f Facts) *Telling { return f.Telling }, judgeTelling)},
	{"O2", Observation, Blocks, "Alerts exist, somebody is told, and that was tried within 30 days", month,
		"Declare a receiver and try it: slipway alert test", "how-to/monitor.md", "/alerts",
		about("alerts", func(f Facts) *Alerting { return f.Alerting }, judgeAlerting)},
	{"O3", Observation, Warns, "Logs are kept long enough, and found by device, release and time", week,
		"Keep logs as long as the environment wants, and try a search", "how-to/monitor.md", "",
		about("logs", func(f Facts) *Logs { return f.Logs }, judgeLogs)},
	{"O4", Observation, Blocks, "Objectives with error budgets are measured, and none is missed", live,
		"Look at the objective that is missed, or declare one that fits", "how-to/monitor.md", "/slos",
		about("objectives", func(f Facts) *Objectives { return f.Objectives }, judgeObjectives)},
	{"O5", Observation, Warns, "Somebody is on call, somebody follows them, and each alert has a runbook", live,
		"Declare who is on call, two people at least, and write a runbook for each alert", "how-to/monitor.md", "/alerts",
		about("alerts", func(f Facts) *Alerting { return f.Alerting }, judgeOnCall)},
	{"O6", Observation, Warns, "Clocks differ by less than a second", live,
		"Let the machines keep time by NTP", "runbooks/clock-skew.md", "/runbooks/clock-skew",
		about("clocks", func(f Facts) *Clocks { return f.Clocks }, judgeClocks)},
}

func judgeTelling(t Telling, f Facts) Finding {
	found := green(f.At, "all of %s tell of themselves", counted(len(t.Up), "process", "processes"))
	switch {
	case len(t.Absent) > 0:
		found = red(f.At, "nothing is heard of %s", listed(t.Absent))
	case len(t.Silent) > 0:
		found = red(f.At, "silent are %s", listed(t.Silent))
	case len(t.Up) == 0:
		return none("no process tells of itself")
	}
	return found.fact("up", "%s", listed(t.Up))
}

func judgeAlerting(a Alerting, f Facts) Finding {
	found := green(a.TestedAt, "%d rules, %s, and a try reached them", a.Rules, counted(a.Receivers, "receiver", "receivers"))
	switch {
	case a.Rules == 0:
		found = red(f.At, "there are no rules")
	case len(a.Broken) > 0:
		found = red(f.At, "rules that cannot be looked at: %s", listed(a.Broken))
	case a.Receivers == 0:
		found = red(f.At, "nobody is told of alerts: there is no receiver")
	case !a.Pages:
		found = red(f.At, "nobody is told of alerts that cannot wait")
	case a.TestedAt.IsZero():
		return none("alerts were never tried").fact("receivers", "%d", a.Receivers)
	case !a.TestedOK:
		found = red(a.TestedAt, "the last try reached not everybody")
	}
	return found.fact("rules", "%d", a.Rules).fact("receivers", "%d", a.Receivers).with(Evidence{"last try", tried(a.TestedAt), at(a.TestedAt)})
}

func tried(t time.Time) string {
	if t.IsZero() {
		return "never"
	}
	return t.UTC().Format("2006-01-02 15:04")
}

func judgeLogs(l Logs, f Facts) Finding {
	found := green(l.At, "logs are kept for %s, and a search found what it had to", aged(l.Retention))
	switch {
	case l.Retention < l.Wanted:
		found = red(f.At, "logs are kept for %s, and %s are wanted", aged(l.Retention), aged(l.Wanted))
	case len(l.Searchable) < 3:
		found = red(f.At, "logs are found by %s alone, and not by device, release and time", strings.Join(l.Searchable, " and "))
	case !l.Proven:
		found = red(l.At, "a search did not find what it had to")
	}
	return found.fact("kept for", "%s", aged(l.Retention)).fact("found by", "%s", strings.Join(l.Searchable, ", "))
}

func judgeObjectives(o Objectives, f Facts) Finding {
	var missed, burning, met []string
	found := Finding{At: f.At}
	for _, s := range o.Standings {
		switch s.State {
		case "missed":
			missed = append(missed, s.Name)
		case "burning":
			burning = append(burning, s.Name)
		case "met":
			met = append(met, s.Name)
		}
		if s.Budget != nil {
			found = found.fact(s.Name, "%s, %.0f %% of the budget left", s.State, *s.Budget*100)
		} else {
			found = found.fact(s.Name, "%s", s.State)
		}
	}
	switch {
	case len(missed) > 0:
		found.State, found.Summary = Red, "missed: "+listed(missed)
	case len(burning) > 0:
		found.State, found.Summary = Amber, "the budget burns of "+listed(burning)
	case len(met) == 0:
		return none("nothing has happened yet by which an objective could be measured")
	default:
		found.State, found.Summary = Green, counted(len(met), "objective is", "objectives are")+" met"
	}
	return found
}

func judgeOnCall(a Alerting, f Facts) Finding {
	found := green(f.At, "%s is on call, and each of %d alerts has a runbook", listed(a.OnCall), a.Rules)
	switch {
	case len(a.OnCall) == 0:
		found = red(f.At, "nobody is on call")
	case !a.Next:
		found = red(f.At, "%s is on call, and nobody follows", listed(a.OnCall))
	case len(a.Unguided) > 0:
		found = red(f.At, "without a runbook: %s", listed(a.Unguided))
	}
	return found.fact("on call", "%s", listed(a.OnCall)).fact("alerts without a runbook", "%d", len(a.Unguided))
}

func judgeClocks(c Clocks, f Facts) Finding {
	if c.Processes == 0 {
		return none("no process has told its time")
	}
	found := green(f.At, "the clocks of %s differ by at most %d ms from that of control", counted(c.Processes, "process", "processes"), c.Worst.Milliseconds())
	if c.Worst >= time.Second {
		found = red(f.At, "the clock of %s differs by %.1f s", c.Of, c.Worst.Seconds())
	}
	return found.fact("largest difference", "%d ms, of %s", c.Worst.Milliseconds(), c.Of)
}
