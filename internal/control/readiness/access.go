package readiness

import (
	"fmt"
	"time"
)

// ofAccess are the checks of who may do what.
var ofAccess = []Check{
	{"A1", Access, Blocks, "Nobody may change anything here for good; who must, asks for a while", live,
		"Make the environment controlled, so that changing anything takes a grant", "how-to/production-access.md", "/grants",
		about("rights", func(f Facts) *Rights { return f.Rights }, judgeStanding)},
	{"A2", Access, Warns, "Nobody has rights that they do not use", live,
		"Take back the roles that nobody used for 90 days", "how-to/people.md", "/people",
		about("rights", func(f Facts) *Rights { return f.Rights }, judgeUnused)},
	{"A3", Access, Blocks, "What one person asks for another must agree to, and nobody agrees to their own", live,
		"Want at least one other person for grants and waivers", "how-to/production-access.md", "/grants",
		about("grants", func(f Facts) *GrantFacts { return f.Grants }, judgeTwo)},
	{"A4", Access, Warns, "Breaking the glass was tried within 90 days, and every review is done", quarter,
		"Break the glass once as a drill, and review what is overdue", "how-to/production-access.md", "/grants",
		about("grants", func(f Facts) *GrantFacts { return f.Grants }, judgeGlass)},
	{"A5", Access, Blocks, "The audit log proves itself, and others keep its checkpoints", live,
		"Name a witness elsewhere, and find out why one is behind", "how-to/audit.md", "/audit",
		about("the audit log", func(f Facts) *AuditFacts { return f.Audit }, judgeAudit)},
	{"A6", Access, Warns, "Who may do what was looked at within 90 days, and who is gone has no rights", quarter,
		"Open an access review and decide on every row; take away the rights of who is gone", "how-to/people.md", "/grants",
		about("rights", func(f Facts) *Rights { return f.Rights }, judgeReview)},
}

func judgeStanding(r Rights, f Facts) Finding {
	if r.Controlled {
		return green(f.At, "changing anything takes a grant").fact("access", "controlled").fact("roles that could write elsewhere", "%d", len(r.Writers))
	}
	if len(r.Writers) == 0 {
		return green(f.At, "nobody has a role that may change anything").fact("roles that write", "0")
	}
	return red(f.At, "may change things here for good: %s", listed(r.Writers)).fact("access", "open")
}

func judgeUnused(r Rights, f Facts) Finding {
	if len(r.Unused) > 0 {
		return red(f.At, "not used for 90 days: %s", listed(r.Unused)).fact("unused", "%d", len(r.Unused))
	}
	return green(f.At, "every role that is older than 90 days is used").fact("unused", "0")
}

func judgeTwo(g GrantFacts, f Facts) Finding {
	found := green(f.At, "grants need %d, waivers %d; a try of agreeing to one's own was refused", g.Approvals, g.WaiversNeed)
	switch {
	case g.Approvals < 1:
		found = red(f.At, "grants need nobody's agreement")
	case g.WaiversNeed < 1:
		found = red(f.At, "waivers need nobody's agreement")
	case !g.SelfRefused:
		found = red(f.At, "who asked could agree to it: %s", g.SelfAnswer)
	case g.WaiverSelf:
		found = red(f.At, "a waiver counts that only its requester agreed to")
	}
	return found.fact("agreeing to one's own grant", "%s", g.SelfAnswer).fact("people who must agree", "%d", g.Approvals)
}

func judgeGlass(g GrantFacts, f Facts) Finding {
	switch {
	case len(g.Overdue) > 0:
		return red(f.At, "reviews that are overdue: %s", listed(g.Overdue)).fact("overdue", "%d", len(g.Overdue))
	case !g.BreakGlass:
		return red(f.At, "the glass cannot be broken here: in an emergency nobody could act").fact("may be broken", "no")
	case g.BrokenAt.IsZero():
		return none("the glass was never broken here, not even as a drill")
	}
	return green(g.BrokenAt, "the glass was broken, and every review is done").with(Evidence{"broken", tried(g.BrokenAt), at(g.BrokenAt)})
}

func judgeAudit(a AuditFacts, f Facts) Finding {
	found := green(a.At, "an entry proved to be in the log of %d, and %s have its checkpoint", a.Size, counted(a.Witnesses, "witness", "witnesses"))
	switch {
	case !a.Proven:
		found = red(f.At, "the audit log does not prove itself: %s", a.Problem)
	case a.Witnesses == 0:
		found = red(f.At, "nobody elsewhere keeps the checkpoints of the audit log")
	case len(a.Behind) > 0:
		found = red(f.At, "did not take the last checkpoint: %s", listed(a.Behind))
	}
	return found.fact("entries", "%d", a.Size).fact("witnesses", "%d", a.Witnesses)
}

func judgeReview(r Rights, f Facts) Finding {
	switch {
	case len(r.Leavers) > 0:
		return red(f.At, "gone for longer than a day, and still with rights: %s", listed(r.Leavers)).fact("leavers", "%d", len(r.Leavers))
	case r.ReviewedAt.IsZero():
		return none("nobody has ever looked at who may do what here")
	}
	return green(r.ReviewedAt, "who may do what was looked at, and nobody who is gone has rights").with(Evidence{"access review", tried(r.ReviewedAt), at(r.ReviewedAt)})
}

// ofSecurity are the checks of what is open, secret and known to be weak.
var ofSecurity = []Check{
	{"C1", Security, Blocks, "Every listener speaks TLS 1.2 or newer, what is stored is encrypted, and no secret stands in a configuration", day,
		"Close listeners without TLS, encrypt what is stored, and move secrets into files", "how-to/planes.md", "",
		about("the security posture", func(f Facts) *Posture { return f.Posture }, judgeTransport)},
	{"C2", Security, Blocks, "Every endpoint, in and out, is declared, and something stands before them", day,
		"Declare the endpoint or close it; put a firewall in front", "how-to/planes.md", "",
		about("the security posture", func(f Facts) *Posture { return f.Posture }, judgeEndpoints)},
	{"C3", Security, Blocks, "The release lists what it is made of, and no severe vulnerability is left beyond its deadline", week,
		"Attach a bill of materials, upload the list of vulnerabilities every day, and replace what is vulnerable", "how-to/gates.md", "/pipeline",
		about("components", func(f Facts) *Components { return f.Components }, judgeComponents)},
	{"C4", Security, Blocks, "What devices install is signed, and where it was built is known", live,
		"Admit the release by the environment's role, and name its source", "how-to/make-a-release.md", "/pipeline",
		about("components", func(f Facts) *Components { return f.Components }, judgeSigned)},
	{"C5", Security, Blocks, "There are no default credentials, debug ports or open tenants for tests", day,
		"Change default credentials, and close what is for tests", "how-to/planes.md", "",
		about("the security posture", func(f Facts) *Posture { return f.Posture }, judgeDefaults)},
	{"C6", Security, Warns, "It is published whom to tell of a weakness, and how long the product is supported", live,
		"Publish a contact and the end of support", "how-to/planes.md", "",
		about("the security posture", func(f Facts) *Posture { return f.Posture }, judgeDisclosure)},
}

func judgeTransport(p Posture, _ Facts) Finding {
	found := green(p.At, "%s speak TLS 1.2 or newer, and what is stored is encrypted", counted(p.Listeners, "listener", "listeners"))
	switch {
	case p.Listeners == 0:
		return none("no listener was looked at")
	case len(p.TLS) > 0:
		found = red(p.At, "take less than TLS 1.2: %s", listed(p.TLS))
	case len(p.PlainSecrets) > 0:
		found = red(p.At, "secrets stand in %s", listed(p.PlainSecrets))
	case !p.Encrypted:
		found = red(p.At, "not encrypted where it is stored: %s", listed(p.Unencrypted))
	}
	return found.fact("listeners", "%d", p.Listeners)
}

func judgeEndpoints(p Posture, _ Facts) Finding {
	found := green(p.At, "all of %s are declared, and something stands before them", counted(p.Endpoints, "endpoint", "endpoints"))
	switch {
	case p.Endpoints == 0:
		return none("no endpoint was looked at")
	case len(p.Undeclared) > 0:
		found = red(p.At, "nobody has declared %s", listed(p.Undeclared))
	case !p.Fronted:
		found = red(p.At, "nothing is said to stand before the listeners")
	}
	return found.fact("endpoints", "%d", p.Endpoints)
}

func judgeComponents(c Components, f Facts) Finding {
	found := green(f.At, "of %s none has a severe vulnerability beyond its deadline", counted(c.Components, "component", "components"))
	switch {
	case c.Components == 0:
		found = red(f.At, "the release has no bill of materials that lists anything")
	case len(c.Late) > 0:
		found = red(f.At, "beyond their deadline: %s", listed(c.Late))
	case c.ListedAt.IsZero():
		return none("no list of vulnerabilities was ever uploaded").fact("components", "%d", c.Components)
	case f.At.Sub(c.ListedAt) > week:
		found = red(c.ListedAt, "the list of vulnerabilities is %s old, and not updating is a finding", aged(f.At.Sub(c.ListedAt)))
	case c.Open > 0:
		found = amber(f.At, "%s are open, and not beyond their deadline", counted(c.Open, "vulnerability", "vulnerabilities"))
	}
	return found.fact("components", "%d", c.Components).with(Evidence{"vulnerabilities listed", tried(c.ListedAt), at(c.ListedAt)})
}

func judgeSigned(c Components, f Facts) Finding {
	found := green(f.At, "it is signed for devices here, and comes from %s", c.Provenance)
	switch {
	case !c.Signed:
		found = red(f.At, "devices here may not install it: %s", c.Reason)
	case c.Provenance == "":
		found = red(f.At, "nobody says where the release was built from")
	}
	return found.fact("signed", "%v", c.Signed).fact("source", "%s", c.Provenance)
}

func judgeDefaults(p Posture, _ Facts) Finding {
	switch {
	case len(p.Defaults) > 0:
		return red(p.At, "found: %s", listed(p.Defaults)).fact("found", "%d", len(p.Defaults))
	case !p.DefaultsSearched:
		return none("nobody has looked for default credentials and debug ports")
	}
	return green(p.At, "none was found").fact("found", "0")
}

func judgeDisclosure(p Posture, f Facts) Finding {
	switch {
	case p.Disclosure == "":
		return red(f.At, "it is not said whom to tell of a weakness").fact("contact", "none")
	case p.SupportUntil.IsZero():
		return red(f.At, "it is not said how long the product is supported").fact("contact", "%s", p.Disclosure)
	case f.At.After(p.SupportUntil):
		return red(f.At, "support ended on %s", p.SupportUntil.UTC().Format("2006-01-02")).fact("contact", "%s", p.Disclosure)
	}
	return green(f.At, "%s is told, until %s", p.Disclosure, p.SupportUntil.UTC().Format("2006-01-02")).fact("contact", "%s", p.Disclosure)
}

// ofAvailability are the checks of redundancy, load, backups and ways back.
var ofAvailability = []Check{
	{"H1", Availability, Blocks, "Every stamp is more than one process, and one was taken away within 90 days", quarter,
		"Run a second process of each stamp, take one away, and upload the results as the suite failover", "how-to/processes.md", "/capacity", judgeRedundancy},
	{"H2", Availability, Blocks, "Restarting one process after another fails no device", quarter,
		"Restart the processes of a stamp while devices work, and upload the results as the suite rolling-restart", "how-to/processes.md", "", exercised(SuiteRestart, false)},
	{"H3", Availability, Blocks, "Twice the expected load passes", half,
		"Simulate twice the expected load in the environment before, and upload the results as the suite double-load", "how-to/simulate.md", "", exercised(SuiteLoad, false)},
	{"H4", Availability, Warns, "It grows by itself or somebody knows how, and places nobody needs are reported", live,
		"Declare a rule of growth, or follow what capacity advises", "how-to/processes.md", "/capacity",
		about("capacity", func(f Facts) *GrowthFacts { return f.Growth }, judgeGrowth)},
	{"B1", Backup, Blocks, "Every plane is backed up on time, elsewhere, encrypted, and where nobody can change it", live,
		"Configure a vault elsewhere that locks what it holds, and see why a plane is late", "how-to/back-up-and-restore.md", "/backups",
		about("backups", func(f Facts) *BackupFacts { return f.Backups }, judgeBackups)},
	{"B2", Backup, Blocks, "A backup was restored within the last days, as fast and as fresh as promised", week,
		"Run a drill on the host that recovers: slipway drill run", "how-to/back-up-and-restore.md", "/backups",
		about("backups", func(f Facts) *BackupFacts { return f.Backups }, judgeDrill)},
	{"B3", Backup, Warns, "A whole site was lost in an exercise within half a year", half,
		"Recover the installation on other machines, and upload the results as the suite disaster-recovery", "how-to/back-up-and-restore.md", "/backups", exercised(SuiteDisaster, false)},
	{"K1", Rollback, Blocks, "The way back from this release is known, and was gone in the environment before", half,
		"Take the release back in the environment before, and let it enter again", "how-to/roll-back.md", "/pipeline", judgeWayBack},
	{"K2", Rollback, Blocks, "A bad release comes back by itself, which was seen", half,
		"Let a failed wave take a release back, and try it with a bad one in the environment before", "how-to/roll-back.md", "/pipeline",
		about("ways back", func(f Facts) *RollbackFacts { return f.Rollback }, judgeAutomatic)},
	{"K3", Rollback, Warns, "The way of a hotfix was tried, and no review is owed", half,
		"Bring a release in by a waiver once, and review the waivers that were used", "how-to/promote-a-release.md", "/pipeline",
		about("waivers", func(f Facts) *WaiverFacts { return f.Waivers }, judgeHotfix)},
	{"K4", Rollback, Warns, "There is a calendar of freezes, and the halt switch was tried", half,
		"Declare when releases may not enter, and halt and lift once", "how-to/gates.md", "/pipeline",
		about("freezes and halts", func(f Facts) *StoppingFacts { return f.Stopping }, judgeStopping)},
}

func judgeRedundancy(f Facts) Finding {
	if f.Stamps == nil || len(f.Stamps.Stamps) == 0 {
		return none("%s", missing(f, "stamps"))
	}
	var alone []string
	for _, s := range f.Stamps.Stamps {
		if s.Processes < 2 {
			alone = append(alone, s.Name)
		}
	}
	if len(alone) > 0 {
		return red(f.At, "one process, and nobody who could take over: %s", listed(alone)).fact("stamps", "%d", len(f.Stamps.Stamps))
	}
	return exercised(SuiteFailover, false)(f).fact("stamps", "%d, each of several processes", len(f.Stamps.Stamps))
}

func judgeGrowth(g GrowthFacts, f Facts) Finding {
	found := green(f.At, "%s add stamps", counted(g.Rules, "rule", "rules"))
	switch {
	case len(g.Advice) > 0:
		found = red(f.At, "%s", listed(g.Advice))
	case g.Rules == 0:
		found = amber(f.At, "no rule adds stamps; somebody does")
	}
	return found.fact("rules of growth", "%d", g.Rules).fact("places", "%d of %d taken", g.Taken, g.Places)
}

func judgeBackups(b BackupFacts, f Facts) Finding {
	found := green(f.At, "all of %s are backed up on time", counted(b.Planes, "plane", "planes"))
	switch {
	case !b.Configured:
		found = red(f.At, "nothing is backed up: there is no vault")
	case len(b.Late) > 0:
		found = red(f.At, "not backed up on time: %s", listed(b.Late))
	case !b.Encrypted:
		found = red(f.At, "backups are encrypted for nobody")
	case !b.OffHost:
		found = red(f.At, "every vault is on this machine")
	case !b.Immutable:
		found = red(f.At, "no vault locks what it holds")
	}
	return found.fact("planes", "%d", b.Planes).fact("elsewhere", "%v", b.OffHost).fact("locked", "%v", b.Immutable).with(Evidence{"newest", tried(b.NewestAt), at(b.NewestAt)})
}

func judgeDrill(b BackupFacts, f Facts) Finding {
	drill := Evidence{"last drill", fmt.Sprintf("%s, RTO %s of %s, RPO %s of %s", b.DrillResult, b.RTO.Round(time.Second), b.RTOLimit, b.RPO.Round(time.Second), b.RPOLimit), at(b.DrillAt)}
	switch {
	case b.DrillAt.IsZero():
		return none("no backup was ever restored")
	case b.DrillResult == "fail":
		return red(b.DrillAt, "the last drill failed").with(drill)
	case b.PassedAt.IsZero():
		return none("no drill has passed yet").with(drill)
	case b.DrillLimit > 0 && f.At.Sub(b.PassedAt) > b.DrillLimit:
		return red(b.PassedAt, "the last drill that passed was %s ago, and %s are allowed", aged(f.At.Sub(b.PassedAt)), aged(b.DrillLimit)).with(drill)
	}
	return green(b.PassedAt, "a drill restored backups within what is promised").with(drill)
}

func judgeWayBack(f Facts) Finding {
	switch {
	case f.Current == nil:
		return none("%s", missing(f, "the release that runs"))
	case f.Rollback == nil:
		return none("%s", missing(f, "ways back"))
	case f.Rollback.RehearsedAt.IsZero():
		return none("release %s was never taken back in the environment before", f.Current.Release)
	case f.Current.Class == "needs-restore":
		return amber(f.Rollback.RehearsedAt, "going back from release %s takes a restore of data", f.Current.Release).with(Evidence{"taken back in", f.Rollback.Rehearsed, at(f.Rollback.RehearsedAt)})
	}
	return green(f.Rollback.RehearsedAt, "release %s was taken back in %s", f.Current.Release, f.Rollback.Rehearsed).with(Evidence{"taken back in", f.Rollback.Rehearsed, at(f.Rollback.RehearsedAt)})
}

func judgeAutomatic(r RollbackFacts, f Facts) Finding {
	switch {
	case !r.Automatic:
		return red(f.At, "a wave that fails only pauses: nothing takes a bad release back").fact("on failure", "pause")
	case r.ProvenAt.IsZero():
		return none("no bad release was ever taken back by itself, here or before")
	}
	return green(r.ProvenAt, "%s went back by itself", r.Proven).with(Evidence{"went back by itself", r.Proven, at(r.ProvenAt)})
}

func judgeHotfix(w WaiverFacts, f Facts) Finding {
	switch {
	case len(w.Owed) > 0:
		return red(f.At, "reviews are owed of %s", listed(w.Owed)).fact("owed", "%d", len(w.Owed))
	case w.UsedAt.IsZero():
		return none("no release ever came in by a waiver, here or before")
	}
	return green(w.UsedAt, "%s brought a release in, and every review is done", w.Used).with(Evidence{"waiver used", w.Used, at(w.UsedAt)})
}

func judgeStopping(s StoppingFacts, f Facts) Finding {
	switch {
	case s.Freezes == 0:
		return red(f.At, "releases may enter at any time: there is no calendar").fact("freezes", "0")
	case s.HaltedAt.IsZero():
		return none("the halt switch was never tried").fact("freezes", "%d", s.Freezes)
	}
	return green(s.HaltedAt, "%s, and the halt switch was tried", counted(s.Freezes, "freeze", "freezes")).with(Evidence{"halted", s.Halted, at(s.HaltedAt)}).fact("freezes", "%d", s.Freezes)
}
