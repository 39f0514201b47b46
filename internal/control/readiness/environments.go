package readiness

import (
	"slices"
	"strings"
)

// ofEnvironments are the checks of the way to production, and of flags.
var ofEnvironments = []Check{
	{"E1", Environments, Blocks, "An environment comes before production, so that a release is tried first", live,
		"Declare a staging environment, and have production promote from it", "how-to/declare.md", "/pipeline",
		about("the graph of environments", func(f Facts) *Graph { return f.Graph }, judgeGraph)},
	{"E2", Environments, Warns, "The environment is made from the template that all share", live,
		"Make the environment from a blueprint, and say why it differs where it does", "how-to/environments.md", "",
		about("the template", func(f Facts) *Template { return f.Template }, judgeTemplate)},
	{"E3", Environments, Blocks, "What runs was verified in every environment before, or somebody answers for the exception", live,
		"Promote a release through every environment before this one", "how-to/promote-a-release.md", "/pipeline",
		about("the release that runs", func(f Facts) *Current { return f.Current }, judgeVerified)},
	{"E4", Environments, Blocks, "Results of unit, integration and performance tests are attached to the release", half,
		"Upload the results of the suites unit, integration and performance from CI", "how-to/ci.md", "/pipeline",
		about("the release that runs", func(f Facts) *Current { return f.Current }, judgeSuites)},
	{"E5", Environments, Blocks, "Staging is like production, with every kind of component", day,
		"Bring staging and production closer, or explain the differences", "how-to/declare.md", "",
		about("parity with the environment before", func(f Facts) *Parity { return f.Parity }, judgeParity)},
	{"E6", Environments, Blocks, "No keys, credentials or endpoints are shared with another environment", live,
		"Give the environment keys and endpoints of its own", "how-to/enroll.md", "",
		about("shared credentials", func(f Facts) *Shared { return f.Shared }, judgeShared)},
	{"E7", Environments, Warns, "People have agreed to the release where they must", half,
		"Add an approvals gate, and have somebody other than who asks agree", "how-to/gates.md", "/pipeline",
		about("the release that runs", func(f Facts) *Current { return f.Current }, judgeApprovals)},
	{"E8", Environments, Blocks, "The release's migrations were rehearsed on a masked copy of production", month,
		"Rehearse the migrations of the release", "how-to/make-a-release.md", "",
		judgeRehearsal},
	{"E9", Environments, Blocks, "Configuration is valid and kept in versions, and nothing differs without a reason", day,
		"Take back what was changed by hand, or accept it with an owner and an end", "how-to/declare.md", "",
		about("drift", func(f Facts) *Drift { return f.Drift }, judgeDrift)},
	{"F1", Flags, Blocks, "Every feature flag of the release was exercised with each variant before", month,
		"Turn each flag of the release on and off in the environment before", "how-to/feature-flags.md", "/flags",
		about("feature flags", func(f Facts) *FlagFacts { return f.Flags }, judgeExercised)},
	{"F2", Flags, Warns, "No flag is without an owner or overdue, and the kill switch was tried", quarter,
		"Give flags owners, remove those that are overdue, and try a kill switch in the environment before", "how-to/feature-flags.md", "/flags",
		about("feature flags", func(f Facts) *FlagFacts { return f.Flags }, judgeTidy)},
}

func judgeGraph(g Graph, f Facts) Finding {
	switch {
	case len(g.Upstream) > 0:
		return green(f.At, "releases come through %s", listed(g.Upstream)).fact("before it", "%s", strings.Join(g.Upstream, " ← "))
	case g.Final:
		return red(f.At, "%s promotes from no environment, so whatever enters it was tried nowhere", f.Environment).fact("before it", "none")
	}
	return apart(f.At, "%s is the first environment of a path", f.Environment)
}

func judgeTemplate(t Template, f Facts) Finding {
	switch {
	case t.Name == "":
		return red(f.At, "%s was made by hand, from no blueprint", f.Environment).fact("blueprint", "none")
	case t.Unexplained > 0:
		return red(f.At, "it differs from %s in %s that nobody explains", t.Name, counted(t.Unexplained, "place", "places")).fact("template", "%s", t.Name)
	}
	return green(f.At, "it is made from %s, and all of %s are explained", t.Name, counted(t.Differs, "difference", "differences")).fact("blueprint", "%s", t.Name)
}

func judgeVerified(c Current, f Facts) Finding {
	found := green(f.At, "release %s was verified in every environment before", c.Release).fact("release", "%s, %s", c.Release, short(c.Digest))
	if len(c.Verified) == 0 {
		if f.Graph != nil && f.Graph.Final {
			return red(f.At, "no environment comes before in which release %s could have been verified", c.Release).fact("release", "%s", c.Release)
		}
		return apart(f.At, "no environment comes before")
	}
	var lacking []string
	for _, v := range c.Verified {
		switch {
		case !v.Known:
			lacking = append(lacking, v.Environment+" (never verified)")
		case !v.Passed:
			lacking = append(lacking, v.Environment+" (it failed there)")
		case v.Digest != c.Digest:
			lacking = append(lacking, v.Environment+" (another digest)")
		default:
			found = found.with(Evidence{"verified in " + v.Environment, short(v.Digest), at(v.At)})
		}
	}
	if len(lacking) == 0 {
		return found
	}
	if c.Waiver != "" {
		return amber(f.At, "release %s entered by %s, without being verified in %s", c.Release, c.Waiver, listed(lacking)).fact("waiver", "%s", c.Waiver)
	}
	return red(f.At, "release %s runs and was not verified in %s", c.Release, listed(lacking)).with(found.Evidence...)
}

// short is the part of a digest that people compare.
func short(digest string) string { return digest[:min(len(digest), 12)] }

func judgeSuites(c Current, f Facts) Finding {
	found := green(f.At, "unit, integration and performance tests are attached to release %s, and none failed", c.Release)
	var missing, failed []string
	for _, name := range []string{SuiteUnit, SuiteIntegration, SuitePerformance} {
		i := slices.IndexFunc(c.Suites, func(s Suite) bool { return s.Name == name })
		if i < 0 || c.Suites[i].Tests-c.Suites[i].Skipped <= 0 {
			missing = append(missing, name)
			continue
		}
		one := c.Suites[i].finding()
		if found = found.with(one.Evidence...); one.State == Red {
			failed = append(failed, name)
		}
		if one.At.Before(found.At) {
			found.At = one.At
		}
	}
	switch {
	case len(failed) > 0:
		found.State, found.Summary = Red, "tests failed of "+listed(failed)+" on release "+c.Release
	case len(missing) > 0:
		found.State, found.Summary = Red, "release "+c.Release+" runs without results of "+listed(missing)
	}
	return found
}

func judgeParity(p Parity, f Facts) Finding {
	found := green(p.At, "%s is %.0f %% like %s", p.With, p.Score*100, f.Environment)
	switch {
	case len(p.Missing) > 0:
		found = red(p.At, "%s has no %s", p.With, listed(p.Missing))
	case p.Score < p.Threshold:
		found = red(p.At, "%s is %.0f %% like %s, and %.0f %% are wanted", p.With, p.Score*100, f.Environment, p.Threshold*100)
	}
	return found.fact("parity with "+p.With, "%.3f", p.Score)
}

func judgeShared(s Shared, f Facts) Finding {
	if len(s.Same) > 0 {
		return red(f.At, "shared with another environment: %s", listed(s.Same)).fact("fingerprints compared", "%d", s.Compared)
	}
	if s.Compared == 0 {
		return none("there are no keys or endpoints to compare")
	}
	return green(f.At, "of %s none is used in another environment", counted(s.Compared, "key or endpoint", "keys and endpoints")).fact("fingerprints compared", "%d", s.Compared)
}

func judgeApprovals(c Current, f Facts) Finding {
	switch {
	case c.NeedsApproval == 0:
		return amber(f.At, "nobody has to agree before a release enters").fact("people who must agree", "0")
	case len(c.Approvals) < c.NeedsApproval:
		return red(f.At, "%d of %d people agreed to release %s", len(c.Approvals), c.NeedsApproval, c.Release).fact("agreed", "%s", listed(c.Approvals))
	}
	return green(f.At, "%s agreed to release %s", listed(c.Approvals), c.Release).fact("agreed", "%s", listed(c.Approvals))
}

func judgeRehearsal(f Facts) Finding {
	switch {
	case f.Current == nil:
		return none("%s", missing(f, "the release that runs"))
	case !f.Current.HasMigrations:
		return apart(f.At, "release %s migrates nothing", f.Current.Release)
	case f.Rehearsal == nil:
		return none("%s", missing(f, "rehearsals of migrations"))
	}
	r := *f.Rehearsal
	found := green(r.At, "the migrations of release %s were rehearsed: %s", r.Release, r.Summary)
	switch {
	case r.Release != f.Current.Release:
		found = red(r.At, "the migrations of release %s were never rehearsed, only those of %s", f.Current.Release, r.Release)
	case r.Void != "":
		found = red(r.At, "the rehearsal counts no more: %s", r.Void)
	case !r.Passed:
		found = red(r.At, "the rehearsal failed: %s", r.Summary)
	}
	return found.with(Evidence{"rehearsal of " + r.Release, r.Summary, at(r.At)})
}

// missing is why a part is not known.
func missing(f Facts, part string) string {
	if why := f.Missing[part]; why != "" {
		return why
	}
	return "nothing is known of " + part
}

func judgeDrift(d Drift, _ Facts) Finding {
	found := green(d.At, "%s are as they are declared", counted(d.Compared, "object", "objects"))
	switch {
	case len(d.Invalid) > 0:
		found = red(d.At, "against their schema are %s", listed(d.Invalid))
	case len(d.Unexplained) > 0:
		found = red(d.At, "not as declared, without a reason: %s", listed(d.Unexplained))
	case d.Compared == 0:
		return none("nothing was compared")
	case d.Stale > 0:
		found = amber(d.At, "%s were not observed for too long", counted(d.Stale, "object", "objects"))
	}
	return found.fact("objects compared", "%d", d.Compared)
}

func judgeExercised(g FlagFacts, f Facts) Finding {
	switch {
	case g.Flags == 0:
		return apart(f.At, "the release brings no feature flag")
	case g.Where == "":
		return red(f.At, "no environment comes before in which flags could be exercised").fact("flags", "%d", g.Flags)
	case len(g.Unexercised) > 0:
		return red(f.At, "not exercised in %s: %s", g.Where, listed(g.Unexercised)).fact("flags", "%d", g.Flags)
	}
	return green(f.At, "%s were exercised in %s with every variant", counted(g.Flags, "flag", "flags"), g.Where).fact("flags", "%d", g.Flags)
}

func judgeTidy(g FlagFacts, f Facts) Finding {
	switch {
	case len(g.Overdue) > 0:
		return red(f.At, "to be gone by now: %s", listed(g.Overdue)).fact("overdue", "%s", listed(g.Overdue))
	case len(g.Ownerless) > 0:
		return red(f.At, "without an owner: %s", listed(g.Ownerless)).fact("without an owner", "%s", listed(g.Ownerless))
	case g.KilledAt.IsZero():
		return none("no kill switch was ever tried, here or before")
	}
	return green(g.KilledAt, "every flag has an owner and none is overdue; a kill switch was tried").with(Evidence{"kill switch used", g.KilledAt.UTC().Format("2006-01-02 15:04"), at(g.KilledAt)})
}
