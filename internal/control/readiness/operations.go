package readiness

import "fmt"

// ofOperations are the checks of data, and of what people agreed on.
var ofOperations = []Check{
	{"L1", Data, Blocks, "It is said what data there is, how long it is kept, where, and how it is erased", day,
		"Declare classes of data, how long each is kept, and in which regions", "how-to/tenants.md", "",
		about("the care of data", func(f Facts) *DataCare { return f.DataCare }, judgeData)},
	{"L2", Data, Warns, "What cleans data up is tried dry first, bounded, and stands in the audit log", quarter,
		"Try a clean-up dry, bound it, and look at its entry", "how-to/tenants.md", "",
		about("clean-ups", func(f Facts) *CleanUps { return f.AuditedJobs }, judgeCleanUps)},
	{"L3", Data, Warns, "What frameworks ask for is covered by evidence that is fresh", live,
		"Look at the controls whose evidence has grown old", "how-to/readiness.md", "/readiness",
		about("compliance", func(f Facts) *Covered { return f.Compliance }, judgeCovered)},
	{"M1", Operations, Warns, "Somebody answers for what will run out, and nothing has", live,
		"Name who answers for the topic operations, and renew what has run out", "how-to/readiness.md", "/calendar",
		about("the calendar", func(f Facts) *Plan { return f.Plan }, judgePlan)},
	{"M2", Operations, Warns, "Incidents have a channel, and a notice is ready to be sent", half,
		"Name the channel, and write the notice before it is needed", "how-to/monitor.md", "",
		about("incidents", func(f Facts) *Incidents { return f.Incidents }, judgeIncidents)},
}

func judgeData(d DataCare, _ Facts) Finding {
	found := green(d.At, "%s of data are declared, with how long and where they are kept, and how they are erased", counted(d.Classes, "class", "classes"))
	var lacking []string
	for _, one := range []struct {
		there bool
		what  string
	}{{d.Classes > 0, "classes"}, {d.Retention, "how long it is kept"}, {d.Residency, "where it stays"}, {d.Erasure, "how it is erased"}} {
		if !one.there {
			lacking = append(lacking, one.what)
		}
	}
	if lacking = append(lacking, d.Missing...); len(lacking) > 0 {
		found = red(d.At, "of data it is not said: %s", listed(lacking))
	}
	return found.fact("classes", "%d", d.Classes)
}

func judgeCleanUps(c CleanUps, f Facts) Finding {
	switch {
	case c.Jobs == 0:
		return apart(f.At, "nothing has cleaned data up")
	case len(c.Unsafe) > 0:
		return red(f.At, "not tried dry, not bounded or not recorded: %s", listed(c.Unsafe)).fact("clean-ups", "%d", c.Jobs)
	}
	return green(c.LastAt, "each of %s was tried dry, bounded and recorded", counted(c.Jobs, "clean-up", "clean-ups")).with(Evidence{"clean-ups", fmt.Sprint(c.Jobs), at(c.LastAt)})
}

func judgeCovered(c Covered, f Facts) Finding {
	found := green(c.At, "%d controls of %d frameworks rest on fresh evidence", c.Controls, c.Frameworks)
	switch {
	case c.Controls == 0:
		return none("no framework is mapped")
	case len(c.Unmapped) > 0:
		found = red(f.At, "no framework is mapped to %s", listed(c.Unmapped))
	case len(c.Aged) > 0:
		found = red(c.At, "the evidence has grown old of %s", listed(c.Aged))
	}
	return found.fact("controls", "%d", c.Controls)
}

func judgePlan(p Plan, f Facts) Finding {
	switch {
	case p.Owner == "":
		return red(f.At, "nobody answers for what will run out").fact("items", "%d", p.Items)
	case len(p.Overdue) > 0:
		return red(f.At, "has run out: %s", listed(p.Overdue)).fact("items", "%d", p.Items)
	}
	return green(f.At, "%s answers for %s", p.Owner, counted(p.Items, "date", "dates")).fact("owner", "%s", p.Owner)
}

func judgeIncidents(i Incidents, _ Facts) Finding {
	switch {
	case i.Channel == "":
		return red(i.At, "incidents have no channel").fact("channel", "none")
	case i.Template == "":
		return red(i.At, "no notice is ready to be sent").fact("channel", "%s", i.Channel)
	}
	return green(i.At, "incidents go to %s, and a notice is ready", i.Channel).fact("channel", "%s", i.Channel)
}
