package readiness

import (
	"fmt"
	"maps"
	"slices"
)

// ofScale are the checks of stamps, tenants and of how devices come.
var ofScale = []Check{
	{"S1", Scale, Blocks, "Every stamp has a capacity, at most 80 % is taken, and it lasts for more than 30 days", live,
		"Add a stamp, or raise a capacity that was measured to hold", "how-to/processes.md", "/capacity",
		about("stamps", func(f Facts) *StampFacts { return f.Stamps }, judgeCapacity)},
	{"S2", Scale, Blocks, "The limits of a stamp are measured: connections, sockets, throughput, and where it bends", half,
		"Measure a stamp like those of production, and upload the results as the suite limits", "how-to/simulate.md", "/capacity", exercised(SuiteLimits, false)},
	{"S3", Scale, Blocks, "Every tenant has a stamp in a region it may be in", live,
		"Add a stamp in the tenant's region, or correct what the tenant says", "how-to/tenants.md", "/capacity",
		about("tenants", func(f Facts) *TenantFacts { return f.Tenants }, judgeTenants)},
	{"S4", Scale, Warns, "A stamp that is down leaves the others as they are", half,
		"Take a stamp down in the environment before while others are used, and upload the results as the suite stamp-isolation", "how-to/processes.md", "", exercised(SuiteIsolation, false)},
	{"S5", Scale, Warns, "Every stamp says in which ring it is", live,
		"Give each stamp a ring, and a pace where its customers want one", "how-to/promote-a-release.md", "/matrix",
		about("stamps", func(f Facts) *StampFacts { return f.Stamps }, judgeRings)},
	{"P1", Provisioning, Blocks, "Every device proves who it is, and no two share a key or a certificate", live,
		"Give enrolments keys of their own, and remove those that stand twice", "how-to/enroll.md", "/enrollments",
		about("enrolments", func(f Facts) *Registry { return f.Registry }, judgeRegistry)},
	{"P2", Provisioning, Blocks, "Devices have come here from the environment before without being touched", half,
		"Move a device from the environment before, and see it arrive", "how-to/move-devices.md", "/moves",
		about("moves", func(f Facts) *MoveFacts { return f.Moves }, judgeMoves)},
	{"P3", Provisioning, Blocks, "A device that came here is gone from where it was, and refused there", half,
		"Remove the device from the environment it came from; a move does that", "how-to/move-devices.md", "/moves",
		about("moves", func(f Facts) *MoveFacts { return f.Moves }, judgeGone)},
	{"P4", Provisioning, Blocks, "No certificate or key runs out within 60 days, and changing one was tried", half,
		"Renew what runs out; try a rotation and a revocation, and upload the results as the suite certificate-rotation", "how-to/operational-certificates.md", "/calendar", judgeExpiries},
	{"P5", Provisioning, Warns, "A device that is taken out of service is wiped and never comes back", half,
		"Decommission a device, and upload the results as the suite decommission", "how-to/move-devices.md", "", exercised(SuiteDecommis, false)},
}

func judgeCapacity(s StampFacts, f Facts) Finding {
	if len(s.Stamps) == 0 {
		return red(f.At, "%s has no stamp", f.Environment).fact("stamps", "0")
	}
	var without, full []string
	for _, one := range s.Stamps {
		switch {
		case one.Capacity <= 0:
			without = append(without, one.Name)
		case float64(one.Taken) > 0.8*float64(one.Capacity):
			full = append(full, fmt.Sprintf("%s (%d of %d)", one.Name, one.Taken, one.Capacity))
		}
	}
	found := green(f.At, "%d of %d places are taken", s.Taken, s.Places)
	switch {
	case len(without) > 0:
		found = red(f.At, "without a capacity: %s", listed(without))
	case s.Places > 0 && float64(s.Taken) > 0.8*float64(s.Places):
		found = red(f.At, "%d of %d places are taken, and 80 %% is the most", s.Taken, s.Places)
	case s.Days != nil && *s.Days <= 30:
		found = red(f.At, "at the growth of the last week all places are taken in %.0f days", *s.Days)
	case len(full) > 0:
		found = amber(f.At, "nearly full: %s; others have room", listed(full))
	}
	found = found.fact("places", "%d of %d taken on %s", s.Taken, s.Places, counted(len(s.Stamps), "stamp", "stamps"))
	if s.Days != nil {
		found = found.fact("forecast", "%.0f days", *s.Days)
	}
	return found
}

func judgeTenants(t TenantFacts, f Facts) Finding {
	switch {
	case len(t.Homeless) > 0:
		return red(f.At, "no stamp here may take the devices of %s", listed(t.Homeless)).fact("tenants", "%d", t.Tenants)
	case len(t.Misplace) > 0:
		return red(f.At, "kept for a tenant outside its regions: %s", listed(t.Misplace)).fact("tenants", "%d", t.Tenants)
	case t.Tenants == 0:
		return apart(f.At, "there are no tenants")
	}
	return green(f.At, "each of %s has a stamp where it may be", counted(t.Tenants, "tenant", "tenants")).fact("tenants", "%d", t.Tenants)
}

func judgeRings(s StampFacts, f Facts) Finding {
	if len(s.Stamps) == 0 {
		return none("%s has no stamp", f.Environment)
	}
	var without []string
	paced := 0
	for _, one := range s.Stamps {
		if !one.Ring {
			without = append(without, one.Name)
		}
		if one.Paced {
			paced++
		}
	}
	if len(without) > 0 {
		return red(f.At, "nobody said in which ring they are: %s", listed(without)).fact("stamps with a ring", "%d of %d", len(s.Stamps)-len(without), len(s.Stamps))
	}
	return green(f.At, "each of %s has its ring, and %d have a pace", counted(len(s.Stamps), "stamp", "stamps"), paced).fact("stamps with a ring", "%d", len(s.Stamps))
}

func judgeRegistry(r Registry, f Facts) Finding {
	if len(r.Duplicates) > 0 {
		return red(f.At, "one key or certificate stands in several enrolments: %s", listed(r.Duplicates)).fact("enrolments", "%d", r.Enrolments)
	}
	if r.Enrolments == 0 && r.Devices == 0 {
		return none("nobody is enrolled yet")
	}
	found := green(f.At, "each of %s proves who its devices are, and none shares a key", counted(r.Enrolments, "enrolment", "enrolments"))
	for _, kind := range slices.Sorted(maps.Keys(r.Attested)) {
		if found = found.fact("by "+kind, "%d", r.Attested[kind]); kind == "none" {
			found.State, found.Summary = Red, "enrolments without any proof: "+fmt.Sprint(r.Attested[kind])
		}
	}
	return found.fact("devices", "%d", r.Devices)
}

func judgeMoves(m MoveFacts, f Facts) Finding {
	switch {
	case m.From == "":
		return apart(f.At, "no environment comes before from which devices could come")
	case m.Last == "":
		return none("no device has come from %s yet", m.From)
	case m.Arrived == 0:
		return red(m.At, "of move %s no device has arrived", m.Last).with(Evidence{"move", m.Last, at(m.At)})
	}
	return green(m.At, "%s came from %s by move %s", counted(m.Arrived, "device", "devices"), m.From, m.Last).with(Evidence{"arrived by " + m.Last, fmt.Sprint(m.Arrived), at(m.At)})
}

func judgeGone(m MoveFacts, f Facts) Finding {
	switch {
	case m.From == "":
		return apart(f.At, "no environment comes before from which devices could come")
	case len(m.Present) > 0:
		return red(m.At, "still where they came from: %s", listed(m.Present)).with(Evidence{"move", m.Last, at(m.At)})
	case m.Removed == 0:
		return none("no device has come from %s yet", m.From)
	}
	found := green(m.At, "%s of move %s are gone from where they were", counted(m.Removed, "device", "devices"), m.Last)
	if m.Rejected > 0 {
		found.Summary += fmt.Sprintf(", and were refused there %d times", m.Rejected)
	}
	return found.with(Evidence{"gone from the old stamp", fmt.Sprint(m.Removed), at(m.At)}, Evidence{"refused there", fmt.Sprint(m.Rejected), at(m.At)})
}

func judgeExpiries(f Facts) Finding {
	if f.Expiries == nil {
		return none("%s", missing(f, "certificates"))
	}
	var soon []string
	counted := 0
	for _, e := range f.Expiries.Items {
		left := e.At.Sub(f.At)
		if e.Renews && left > 0 {
			continue
		}
		if counted++; left <= 60*day {
			soon = append(soon, fmt.Sprintf("%s %s (%s)", e.Kind, e.Name, e.At.UTC().Format("2006-01-02")))
		}
	}
	if len(soon) > 0 {
		return red(f.At, "within 60 days run out: %s", listed(soon)).fact("watched", "%d", len(f.Expiries.Items))
	}
	tried := exercised(SuiteRotation, false)(f)
	if tried.State == Green {
		tried.Summary = "nothing runs out within 60 days, and " + tried.Summary
	}
	return tried.fact("watched", "%d, of which %d do not renew by themselves", len(f.Expiries.Items), counted)
}
