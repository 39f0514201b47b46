package readiness

import "fmt"

// ofDevices are the checks of devices, what they run, and how they come back.
var ofDevices = []Check{
	{"D1", Devices, Blocks, "Every device is accounted for: updated, pending, failed or out of reach", live,
		"Look at the devices that failed, and at those that no rollout knows", "how-to/update-devices.md", "/devices",
		about("what devices run", func(f Facts) *DeviceFacts { return f.Devices }, judgeCensus)},
	{"D2", Devices, Blocks, "Updates are signed, can be taken back, and are judged once they run", live,
		"Admit the release by the environment's role, keep a release to go back to, and declare when a wave has failed", "how-to/update-devices.md", "/pipeline",
		about("updates", func(f Facts) *UpdateFacts { return f.Updates }, judgeUpdates)},
	{"D3", Devices, Warns, "Devices report what they are to have, or it is known why not", day,
		"Look at the devices whose reported properties are not those desired", "how-to/query.md", "/query",
		about("what devices run", func(f Facts) *DeviceFacts { return f.Devices }, judgeTwins)},
	{"R1", Retry, Blocks, "What devices run retries as it must: random, bounded, in one layer", quarter,
		"Hold the device software against the policy, and upload the results as the suite retry-conformance", "how-to/retry.md", "", exercised(SuiteRetry, true)},
	{"R2", Retry, Blocks, "A full stamp that comes back sheds and spreads the reconnects", quarter,
		"Let a herd as large as a stamp reconnect in the environment before, and upload the results as the suite reconnect-herd", "how-to/retry.md", "", exercised(SuiteHerd, false)},
}

func judgeCensus(d DeviceFacts, f Facts) Finding {
	known := d.Updated + d.Pending + d.Failed + d.RolledBack + d.Unreachable + d.Exempt
	found := green(f.At, "%d of %d devices run what they are to, %d are on their way, %d are out of reach", d.Updated, d.Registered, d.Pending, d.Unreachable)
	switch {
	case d.Registered == 0:
		return none("%s has no device yet", f.Environment)
	case known < d.Registered:
		found = red(f.At, "of %d devices %d are in no state", d.Registered, d.Registered-known)
	case float64(d.Failed+d.RolledBack) > 0.05*float64(d.Registered):
		found = red(f.At, "%d of %d devices failed to take what they are to run", d.Failed+d.RolledBack, d.Registered)
	case d.Failed+d.RolledBack > 0:
		found = amber(f.At, "%d of %d devices failed to take what they are to run", d.Failed+d.RolledBack, d.Registered)
	}
	return found.fact("census", "%d updated, %d pending, %d failed, %d rolled back, %d unreachable, %d exempt, of %d", d.Updated, d.Pending, d.Failed, d.RolledBack, d.Unreachable, d.Exempt, d.Registered)
}

func judgeUpdates(u UpdateFacts, f Facts) Finding {
	found := green(f.At, "the release is signed, %s can be gone back to, and %s judge how updated devices do", u.Previous, counted(u.SelfTests, "rule", "rules"))
	switch {
	case u.Software == 0:
		return apart(f.At, "the release brings no software for devices")
	case !u.Admitted:
		found = red(f.At, "devices here may not install it: %s", u.Reason)
	case u.SelfTests == 0:
		found = red(f.At, "nothing judges whether updated devices do well")
	case u.Previous == "":
		found = red(f.At, "there is no release to go back to")
	}
	return found.fact("signed", "%v", u.Admitted).fact("goes back to", "%s", u.Previous).fact("rules", "%d", u.SelfTests)
}

func judgeTwins(d DeviceFacts, f Facts) Finding {
	switch {
	case d.Drifting == nil:
		return none("%s", missing(f, "drift of devices"))
	case *d.Drifting > 0:
		return red(f.At, "%d devices do not report what they are to have, and it is not known why", *d.Drifting).fact("devices", "%d", d.Registered)
	}
	return green(f.At, "all devices that can be reached report what they are to have").with(Evidence{What: "devices", Value: fmt.Sprint(d.Registered)})
}
