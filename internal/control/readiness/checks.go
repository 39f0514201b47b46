package readiness

import (
	"cmp"
	"fmt"
	"slices"
	"time"
)

// How long evidence counts. What is read from the installation is of now, and
// grows old only where nobody looks any more; what somebody did once counts as
// long as it may be left undone.
const (
	live    = time.Hour
	day     = 24 * time.Hour
	week    = 7 * day
	month   = 30 * day
	quarter = 90 * day
	half    = 180 * day
)

// Suites of tests that are evidence: what exercises an installation and cannot be
// read off it is uploaded like any other result of tests.
const (
	SuiteUnit        = "unit"
	SuiteIntegration = "integration"
	SuitePerformance = "performance"
	SuiteLimits      = "limits"
	SuiteIsolation   = "stamp-isolation"
	SuiteRetry       = "retry-conformance"
	SuiteHerd        = "reconnect-herd"
	SuiteRotation    = "certificate-rotation"
	SuiteDecommis    = "decommission"
	SuiteFailover    = "failover"
	SuiteRestart     = "rolling-restart"
	SuiteLoad        = "double-load"
	SuiteDisaster    = "disaster-recovery"
)

// checks are all there are, in the order of topics.
var checks = slices.Concat(ofEnvironments, ofScale, ofDevices, ofObservation, ofAccess, ofSecurity, ofAvailability, ofOperations)

// about makes a check of a part of the facts: where the part is not known there
// is no evidence.
func about[T any](part string, of func(Facts) *T, judge func(T, Facts) Finding) func(Facts) Finding {
	return func(f Facts) Finding {
		known := of(f)
		if known == nil {
			return none("%s", cmp.Or(f.Missing[part], "nothing is known of "+part))
		}
		return judge(*known, f)
	}
}

// exercised makes a check of a suite of tests that somebody runs now and then, in
// the environment or on the way to it; anywhere is for what no environment
// changes.
func exercised(suite string, anywhere bool) func(Facts) Finding {
	return func(f Facts) Finding {
		places := []string{f.Environment}
		if f.Graph != nil {
			places = append(places, f.Graph.Upstream...)
		}
		var newest *Suite
		for _, s := range f.Tests {
			if s.Name == suite && (anywhere || slices.Contains(places, s.Environment)) && (newest == nil || s.At.After(newest.At)) {
				newest = &s
			}
		}
		if newest == nil {
			where := "anywhere"
			if !anywhere {
				where = "in " + listed(places)
			}
			return none("no results of the suite %s were uploaded %s", suite, where)
		}
		return newest.finding()
	}
}

// finding is what one result says.
func (s Suite) finding() Finding {
	ran := s.Tests - s.Skipped
	e := Evidence{"suite " + s.Name, fmt.Sprintf("%d ran, %d failed, in %s, of %s, by %s", ran, s.Failed, cmp.Or(s.Environment, "no environment"), s.Release, s.By), at(s.At)}
	switch {
	case s.Failed > 0:
		return red(s.At, "%d of %d tests of %s failed", s.Failed, ran, s.Name).with(e)
	case ran <= 0:
		return none("of the suite %s no test ran", s.Name)
	}
	return green(s.At, "%s of %s ran in %s, and none failed", counted(ran, "test", "tests"), s.Name, cmp.Or(s.Environment, "no environment")).with(e)
}

// at is a time for evidence; none is none.
func at(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = t.UTC()
	return &t
}

func green(at time.Time, format string, args ...any) Finding {
	return Finding{State: Green, Summary: fmt.Sprintf(format, args...), At: at}
}

func amber(at time.Time, format string, args ...any) Finding {
	return Finding{State: Amber, Summary: fmt.Sprintf(format, args...), At: at}
}

func red(at time.Time, format string, args ...any) Finding {
	return Finding{State: Red, Summary: fmt.Sprintf(format, args...), At: at}
}

// none is a finding without evidence.
func none(format string, args ...any) Finding {
	return Finding{State: Unknown, Summary: fmt.Sprintf(format, args...)}
}

// apart is a finding that a check is about nothing that is there.
func apart(at time.Time, format string, args ...any) Finding {
	return Finding{State: NotApplicable, Summary: fmt.Sprintf(format, args...), At: at}
}

// with adds what a finding rests on.
func (f Finding) with(e ...Evidence) Finding {
	f.Evidence = append(f.Evidence, e...)
	return f
}

// fact adds one thing that is so now.
func (f Finding) fact(what, format string, args ...any) Finding {
	return f.with(Evidence{What: what, Value: fmt.Sprintf(format, args...)})
}

// listed is a list for people, not too long.
func listed(all []string) string {
	const most = 6
	text := ""
	for i, one := range all {
		if i == most {
			return text + fmt.Sprintf(" and %d more", len(all)-most)
		}
		if i > 0 {
			text += ", "
		}
		text += one
	}
	return text
}
