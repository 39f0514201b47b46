package evidence

import (
	"cmp"
	"context"
	"encoding/json"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/slipway/slipway/internal/control/access"
	"github.com/slipway/slipway/internal/control/alert"
	"github.com/slipway/slipway/internal/control/journal"
	"github.com/slipway/slipway/internal/control/readiness"
	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/resource"
)

func (s *scene) processes(ctx context.Context) error {
	stamps, err := s.Environments.Stamps(ctx)
	if err != nil {
		return err
	}
	t := readiness.Telling{}
	heard := map[string]bool{}
	for _, one := range s.Monitor.Targets() {
		if one.Environment != "" && one.Environment != s.name {
			continue
		}
		heard[one.Plane+"/"+one.Stamp] = true
		if one.Up {
			t.Up = append(t.Up, one.Instance)
		} else {
			t.Silent = append(t.Silent, one.Instance)
		}
	}
	wanted := []string{"control/", "provisioning/"}
	for _, one := range stamps {
		if one.Spec.Environment == s.name {
			wanted = append(wanted, "stamp/"+one.Metadata.Name)
		}
	}
	for _, w := range wanted {
		if !heard[w] {
			t.Absent = append(t.Absent, strings.TrimSuffix(w, "/"))
		}
	}
	s.facts.Telling = &t
	return nil
}

func (s *scene) alerts(ctx context.Context) error {
	f := readiness.Alerting{}
	text, err := s.Alerts.File(ctx)
	if err != nil {
		return err
	}
	if err := rulesIn(text, &f); err != nil {
		return err
	}
	own, err := s.Alerts.Rules(ctx)
	if err != nil {
		return err
	}
	for _, r := range own {
		if r.Status != nil && r.Status.Problem != "" {
			f.Broken = append(f.Broken, r.Metadata.Name)
		}
	}
	receivers, err := s.Alerts.Receivers(ctx, access.Actor{Name: "slipway"}, false)
	if err != nil {
		return err
	}
	for _, r := range receivers {
		if r.Spec.Disabled || !told(r.Spec.Match, "environment", s.name) {
			continue
		}
		f.Receivers++
		f.Pages = f.Pages || told(r.Spec.Match, "severity", resource.Page)
	}
	duties, err := s.Alerts.OnCalls(ctx)
	if err != nil {
		return err
	}
	for _, d := range duties {
		if d.Status != nil && d.Status.Now.Name != "" {
			f.OnCall = append(f.OnCall, d.Status.Now.Name)
			f.Next = f.Next || d.Status.Next.Name != "" && d.Status.Next.Name != d.Status.Now.Name
		}
	}
	s.facts.Alerting = &f
	return s.lastTry(ctx, &f)
}

// told reports whether alerts with a label come to a receiver that matches so.
func told(match map[string]string, label, value string) bool {
	wanted, bounded := match[label]
	return !bounded || slices.Contains(strings.Split(wanted, "|"), value)
}

// rulesIn counts the alerts of a file of rules, and those without a runbook.
func rulesIn(text []byte, f *readiness.Alerting) error {
	var file struct {
		Groups []struct {
			Rules []struct {
				Alert       string
				Annotations map[string]string
			}
		}
	}
	if err := yaml.Unmarshal(text, &file); err != nil {
		return err
	}
	for _, g := range file.Groups {
		for _, r := range g.Rules {
			if r.Alert == "" {
				continue
			}
			f.Rules++
			if r.Annotations["runbook"] == "" && r.Annotations["runbook_url"] == "" && !slices.Contains(f.Unguided, r.Alert) {
				f.Unguided = append(f.Unguided, r.Alert)
			}
		}
	}
	return nil
}

// lastTry finds when alerts were last tried, and whether everybody was reached.
func (s *scene) lastTry(ctx context.Context, f *readiness.Alerting) error {
	entry, found, err := s.Audit.Newest(ctx, "alert.test")
	if err != nil || !found {
		return err
	}
	var results []alert.Tested
	if err := json.Unmarshal([]byte(entry.Detail), &results); err != nil {
		return err
	}
	f.TestedAt, f.TestedOK = entry.At, len(results) > 0
	for _, r := range results {
		f.TestedOK = f.TestedOK && r.OK
	}
	return nil
}

func (s *scene) objectives(ctx context.Context) error {
	all, err := s.Alerts.SLOs(ctx)
	if err != nil {
		return err
	}
	o := readiness.Objectives{}
	for _, one := range all {
		if one.Status == nil {
			continue
		}
		for _, at := range one.Status.Items {
			if at.Environment == "" || at.Environment == s.name {
				o.Standings = append(o.Standings, readiness.ObjectiveFact{Name: one.Metadata.Name, State: at.State, Budget: at.Budget})
			}
		}
	}
	s.facts.Objectives = &o
	return nil
}

func (s *scene) clocks(ctx context.Context) error {
	if !s.Monitor.Local() {
		return problem.New(problem.NotReady, "metrics are kept by a Prometheus elsewhere")
	}
	found, err := s.Monitor.Vector(ctx, "abs(slipway_clock_skew_seconds)", s.Now())
	if err != nil {
		return err
	}
	c := readiness.Clocks{}
	for _, one := range found {
		if at := one.Metric.Get("environment"); at != "" && at != s.name {
			continue
		}
		c.Processes++
		if skew := time.Duration(one.F * float64(time.Second)); skew >= c.Worst {
			c.Worst, c.Of = skew, one.Metric.Get("instance")
		}
	}
	s.facts.Clocks = &c
	return nil
}

func (s *scene) backups(ctx context.Context) error {
	o, err := s.Backups.Overview(ctx)
	if err != nil {
		return err
	}
	f := readiness.BackupFacts{Configured: o.Configured, Encrypted: len(o.Recipients) > 0,
		RTOLimit: seconds(o.Schedule.Objectives.RTOSeconds), RPOLimit: seconds(o.Schedule.Objectives.RPOSeconds), DrillLimit: seconds(o.Schedule.Objectives.DrillSeconds)}
	for _, v := range o.Vaults {
		f.OffHost, f.Immutable = f.OffHost || v.OffHost, f.Immutable || v.LockDays > 0
	}
	for _, p := range o.Planes {
		if p.Environment != "" && p.Environment != s.name {
			continue
		}
		f.Planes++
		if p.Late || p.Problem != "" {
			f.Late = append(f.Late, p.Peer)
		}
		if p.Newest != nil && p.Newest.TakenAt != nil && p.Newest.TakenAt.After(f.NewestAt) {
			f.NewestAt = *p.Newest.TakenAt
		}
	}
	if o.Passed != nil {
		f.PassedAt = *o.Passed
	}
	if d := o.Drill; d != nil && d.EndedAt != nil {
		f.DrillAt, f.DrillResult = *d.EndedAt, d.Verdict
		if d.Evidence != nil {
			for _, trial := range d.Evidence.Trials {
				f.RTO = max(f.RTO, time.Duration(trial.RTOSeconds*float64(time.Second)))
				if trial.Of == "newest" {
					f.RPO = time.Duration(trial.RPOSeconds * float64(time.Second))
				}
			}
		}
	}
	s.facts.Backups = &f
	return nil
}

func seconds(n int64) time.Duration { return time.Duration(n) * time.Second }

// expiries looks up certificates, authorities and signed metadata.
func (s *scene) expiries(ctx context.Context) error {
	e := readiness.Expiries{Items: []readiness.Expiry{}}
	roles, err := s.Signing.Roles(ctx)
	if err != nil {
		return err
	}
	for _, r := range roles {
		if !r.Expires.IsZero() && (!s.isEnvironment(r.Name) || r.Name == s.name) {
			e.Items = append(e.Items, readiness.Expiry{Kind: readiness.DateMetadata, Name: r.Name, At: r.Expires, Renews: r.Held && !r.Waiting})
		}
	}
	authorities, err := s.Fleet.Authorities(ctx)
	if err != nil {
		return err
	}
	for _, a := range authorities {
		e.Items = append(e.Items, readiness.Expiry{Kind: readiness.DateAuthority, Name: a.Name, At: a.NotAfter})
	}
	if s.Members != nil {
		if err := s.peers(ctx, &e); err != nil {
			return err
		}
	}
	s.facts.Expiries = &e
	return nil
}

// peers adds the newest certificate of each process's peer: it renews itself, and
// the ones before are left to run out.
func (s *scene) peers(ctx context.Context, e *readiness.Expiries) error {
	all, err := s.Members.List(ctx)
	newest := map[string]time.Time{}
	for _, c := range all {
		if c.RevokedAt == nil && c.NotAfter.After(newest[c.Peer]) {
			newest[c.Peer] = c.NotAfter
		}
	}
	for peer, at := range newest {
		e.Items = append(e.Items, readiness.Expiry{Kind: readiness.DateCertificate, Name: peer, At: at, Renews: true})
	}
	return err
}

func (s *scene) isEnvironment(name string) bool {
	return slices.ContainsFunc(s.all, func(e resource.Environment) bool { return e.Metadata.Name == name })
}

// dates notes what other parts know of what will come and no check goes by.
func (s *scene) dates(ctx context.Context) error {
	flags, err := s.Flags.List(ctx)
	if err != nil {
		return err
	}
	for _, f := range flags {
		at, err := time.Parse(time.DateOnly, f.RemoveBy)
		if f.RemoveBy == "" || err != nil {
			continue
		}
		s.facts.Dates = append(s.facts.Dates, readiness.Date{Kind: readiness.DateFlag, Name: f.Key, At: at, What: "flag " + f.Key + " is to be gone", Owner: f.Owner})
	}
	return nil
}

// logs looks for a line of the last day about what runs here, as somebody would
// who searches for it.
func (s *scene) logs(ctx context.Context) error {
	if s.Journal == nil {
		return problem.New(problem.NotReady, "nobody keeps what processes say")
	}
	found, err := s.Journal.Search(ctx, journal.Filter{Plane: "control", From: s.facts.At.Add(-searchedBack), Limit: 1})
	if err != nil {
		return err
	}
	l := readiness.Logs{Retention: cmp.Or(s.Journal.Age, journal.DefaultAge), Wanted: wantedLogs, Searchable: []string{"device", "release", "time"}, Proven: len(found) > 0, At: s.facts.At}
	if len(found) == 0 {
		s.facts.Missing["logs"] = "no line of the last day was found"
		return nil
	}
	s.facts.Logs = &l
	return nil
}

// How far back a line is searched for, and how long lines are to be kept: as long
// as it may take until somebody asks.
const (
	searchedBack = 24 * time.Hour
	wantedLogs   = 14 * 24 * time.Hour
)

// template looks up what the environment was made from.
func (s *scene) template(ctx context.Context) error {
	d, err := s.Environments.Derivation(ctx, s.name)
	if err != nil {
		return err
	}
	t := readiness.Template{Name: d.Blueprint, Differs: len(d.Differs)}
	for _, one := range d.Differs {
		if strings.TrimSpace(one.Reason) == "" {
			t.Unexplained++
		}
	}
	s.facts.Template = &t
	return nil
}
