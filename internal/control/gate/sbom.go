package gate

import (
	"cmp"
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/package-url/packageurl-go"

	"github.com/slipway/slipway/internal/control/access"
	"github.com/slipway/slipway/internal/control/audit"
	"github.com/slipway/slipway/internal/control/release"
	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/resource"
	"github.com/slipway/slipway/internal/sqldb"
)

// Vulnerability is a known one.
type Vulnerability struct {
	ID        string    `json:"id"`
	Severity  string    `json:"severity" doc:"low, medium, high, critical, or unrated, which counts like critical"`
	Summary   string    `json:"summary"`
	KnownAt   time.Time `json:"knownAt"`
	UpdatedAt time.Time `json:"updatedAt" doc:"When it was last uploaded"`
}

// AddVulnerabilities keeps vulnerabilities of the OSV format, in place of what
// was known of the same ids; those withdrawn are forgotten. It returns how
// many it read.
func (g *Gates) AddVulnerabilities(ctx context.Context, actor access.Actor, data []byte) (int, error) {
	all, err := readOSV(data)
	if err != nil {
		return 0, err
	}
	now := g.Now()
	return len(all), g.DB.Commit(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		for _, v := range all {
			if err := keepVulnerability(ctx, tx, now, v); err != nil {
				return err
			}
		}
		n, _, err := sqldb.Row(ctx, tx, scanCount, "SELECT count(*) FROM vulnerability")
		if err == nil && n > maxVulnerabilitiesKept {
			err = problem.New(problem.TooLarge, "at most %d vulnerabilities are kept, and this would make %d; upload those of what you ship", maxVulnerabilitiesKept, n)
		}
		if err != nil {
			return err
		}
		return g.Audit.Record(ctx, tx, audit.Entry{Actor: actor.Name, Action: "vulnerabilities.upload", Object: "vulnerabilities", Outcome: audit.Done, Detail: fmt.Sprintf("%d", len(all))})
	})
}

func keepVulnerability(ctx context.Context, tx *sqldb.Tx, now time.Time, v osv) error {
	before, found, err := sqldb.Row(ctx, tx, scanVulnerability, selectVulnerabilities+" WHERE id = ?", v.ID)
	if err != nil {
		return err
	}
	if _, err := tx.Exec(ctx, "DELETE FROM vulnerability WHERE id = ?", v.ID); err != nil || v.Withdrawn != nil {
		return err
	}
	known := v.Published
	if known.IsZero() || known.After(now) {
		known = now
	}
	if found && before.KnownAt.Before(known) {
		known = before.KnownAt // its deadline does not begin anew
	}
	if _, err := tx.Exec(ctx, "INSERT INTO vulnerability (id, severity, summary, known_at, updated_at) VALUES (?, ?, ?, ?, ?)",
		v.ID, severityOf(v), shortened(v.Summary, maxMessage), sqldb.Micros(known), sqldb.Micros(now)); err != nil {
		return err
	}
	for _, a := range v.Affected {
		text, err := json.Marshal(a.affected)
		if err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, "INSERT INTO vulnerable_package (vulnerability, package, affected) VALUES (?, ?, ?)",
			v.ID, packageOf(a.Package.PURL, a.Package.Ecosystem, a.Package.Name), string(text)); err != nil {
			return err
		}
	}
	return nil
}

const selectVulnerabilities = "SELECT id, severity, summary, known_at, updated_at FROM vulnerability"

func scanVulnerability(rows *sql.Rows) (v Vulnerability, err error) {
	var known, updated int64
	err = rows.Scan(&v.ID, &v.Severity, &v.Summary, &known, &updated)
	v.KnownAt, v.UpdatedAt = sqldb.Time(known), sqldb.Time(updated)
	return v, err
}

// Vulnerabilities returns those whose id follows after, in order of id.
func (g *Gates) Vulnerabilities(ctx context.Context, after string, limit int) ([]Vulnerability, error) {
	return sqldb.Rows(ctx, g.DB, scanVulnerability, selectVulnerabilities+" WHERE id > ? ORDER BY id LIMIT ?", after, limit)
}

// Finding is a component with a known vulnerability.
type Finding struct {
	Vulnerability
	Component release.Component `json:"component"`
	Due       time.Time         `json:"due,omitzero" doc:"By when it must be gone, where a gate says so"`
}

// Vulnerable are the components of a release in which vulnerabilities are
// known now, the worst first.
func (g *Gates) Vulnerable(ctx context.Context, name string) ([]Finding, error) {
	components, err := g.Components(ctx, name)
	if err != nil {
		return nil, err
	}
	all, _, err := g.findings(ctx, resource.SBOMGate{}, "low", components)
	for i := range all {
		all[i].Due = time.Time{}
	}
	slices.SortStableFunc(all, func(a, b Finding) int { return cmp.Compare(rank(b.Severity), rank(a.Severity)) })
	return all, err
}

// sbom wants a bill of materials of which no component has a vulnerability
// beyond its deadline. A list of vulnerabilities that is missing or old shows
// nothing.
func (g *Gates) sbom(ctx context.Context, now time.Time, gate resource.SBOMGate, s Subject) Result {
	severity, fresh := cmp.Or(gate.Severity, "high"), gate.MaxAge.Duration(7*24*time.Hour)
	r := Result{Threshold: fmt.Sprintf("none of %s or worse known for longer than %s", severity, gate.Deadline.Duration(0))}
	if len(s.Release.Spec.SBOM) == 0 {
		r.Verdict, r.Reason = Fail, fmt.Sprintf("release %s has no bill of materials", s.Release.Name)
		return r
	}
	components, err := g.Components(ctx, s.Release.Name)
	if err != nil {
		return failed(err)
	}
	updated, err := g.listed(ctx)
	if err != nil {
		return failed(err)
	}
	r.Samples = int64(len(components))
	switch {
	case len(components) == 0:
		r.Verdict, r.Reason = Fail, fmt.Sprintf("the bill of materials of release %s lists nothing", s.Release.Name)
		return r
	case updated.IsZero():
		r.Verdict, r.Reason = Inconclusive, "no vulnerabilities were uploaded to look for; `slipway vulnerability upload` does that"
		return r
	case now.Sub(updated) > fresh:
		r.Verdict, r.Reason = Inconclusive, fmt.Sprintf("the list of vulnerabilities was last uploaded %s ago, and may be %s old", now.Sub(updated).Round(time.Second), fresh)
		return r
	}
	findings, nameless, err := g.findings(ctx, gate, severity, components)
	if err != nil {
		return failed(err)
	}
	return clean(now, r, findings, nameless)
}

// Listed is when vulnerabilities were last uploaded; never is zero.
func (g *Gates) Listed(ctx context.Context) (time.Time, error) { return g.listed(ctx) }

// listed is when vulnerabilities were last uploaded.
func (g *Gates) listed(ctx context.Context) (time.Time, error) {
	at, found, err := sqldb.Row(ctx, g.DB, func(rows *sql.Rows) (n int64, err error) { return n, rows.Scan(&n) }, "SELECT updated_at FROM vulnerability ORDER BY updated_at DESC LIMIT 1")
	if err != nil || !found {
		return time.Time{}, err
	}
	return sqldb.Time(at), nil
}

// findings are the components with vulnerabilities that are severe enough;
// nameless are those without a package URL, which nothing can be found of.
func (g *Gates) findings(ctx context.Context, gate resource.SBOMGate, severity string, components []release.Component) (all []Finding, nameless []string, err error) {
	names, err := sqldb.Rows(ctx, g.DB, func(rows *sql.Rows) (name string, err error) { return name, rows.Scan(&name) }, "SELECT DISTINCT package FROM vulnerable_package")
	if err != nil {
		return nil, nil, err
	}
	vulnerable := map[string]bool{}
	for _, name := range names {
		vulnerable[name] = true
	}
	for _, c := range components {
		p, err := packageurl.FromString(c.PURL)
		if err != nil {
			nameless = append(nameless, c.Name)
			continue
		}
		name := joined(p.Type, p.Namespace, p.Name)
		if !vulnerable[name] {
			continue
		}
		some, err := g.known(ctx, name, cmp.Or(p.Version, c.Version))
		if err != nil {
			return nil, nil, err
		}
		for _, v := range some {
			if rank(v.Severity) >= rank(severity) {
				all = append(all, Finding{v, c, v.KnownAt.Add(gate.Deadline.Duration(0))})
			}
		}
	}
	return all, nameless, nil
}

// known are the vulnerabilities of a version of a package.
func (g *Gates) known(ctx context.Context, name, version string) (all []Vulnerability, err error) {
	type match struct {
		Vulnerability
		affected
	}
	found, err := sqldb.Rows(ctx, g.DB, func(rows *sql.Rows) (m match, err error) {
		var known, updated int64
		var text []byte
		if err := rows.Scan(&m.ID, &m.Severity, &m.Summary, &known, &updated, &text); err != nil {
			return m, err
		}
		m.KnownAt, m.UpdatedAt = sqldb.Time(known), sqldb.Time(updated)
		return m, json.Unmarshal(text, &m.affected)
	}, `SELECT v.id, v.severity, v.summary, v.known_at, v.updated_at, p.affected FROM vulnerable_package p
		JOIN vulnerability v ON v.id = p.vulnerability WHERE p.package = ? ORDER BY v.id`, name)
	for _, m := range found {
		if m.holds(version) && !slices.Contains(all, m.Vulnerability) {
			all = append(all, m.Vulnerability)
		}
	}
	return all, err
}

// clean is the verdict on what was found.
func clean(now time.Time, r Result, findings []Finding, nameless []string) Result {
	slices.SortFunc(findings, func(a, b Finding) int { return a.Due.Compare(b.Due) })
	count := float64(len(findings))
	r.Value, r.Evidence = &count, evidenceOf(findings[:min(len(findings), 100)])
	var late []string
	for _, f := range findings {
		if !now.Before(f.Due) {
			late = append(late, fmt.Sprintf("%s in %s %s (%s)", f.ID, f.Component.Name, f.Component.Version, f.Severity))
		}
	}
	switch {
	case len(late) > 0:
		r.Verdict, r.Reason = Fail, fmt.Sprintf("%d vulnerabilities are beyond their deadline: %s", len(late), strings.Join(late[:min(len(late), 10)], ", "))
	case len(findings) > 0:
		first := findings[0]
		r.Verdict, r.Next = Warn, &first.Due
		r.Reason = fmt.Sprintf("%d vulnerabilities are within their deadline; the first, %s in %s, must be gone by %s", len(findings), first.ID, first.Component.Name, first.Due.UTC().Format(time.RFC3339))
	case len(nameless) > 0:
		r.Verdict = Warn
		r.Reason = fmt.Sprintf("nothing is known of the other components; %d have no package URL and could not be looked for: %s", len(nameless), strings.Join(nameless[:min(len(nameless), 10)], ", "))
	default:
		r.Verdict, r.Reason = Pass, fmt.Sprintf("no known vulnerability in %d components", r.Samples)
	}
	return r
}
