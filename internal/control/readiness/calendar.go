package readiness

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"
)

// The kinds of dates.
const (
	DateCertificate = "certificate"
	DateMetadata    = "metadata" // a signed document of the update metadata
	DateAuthority   = "authority"
	DateToken       = "token"
	DateGrant       = "grant"
	DateReview      = "review"
	DateAcceptance  = "acceptance" // of drift
	DateAnswer      = "answer"
	DateEvidence    = "evidence"
	DateDrill       = "drill"
	DateWaiver      = "waiver"
	DateFreeze      = "freeze"
	DateCapacity    = "capacity"
	DateSupport     = "support"
	DateFlag        = "flag" // that is to be removed
)

// Date is something that happens at a time that is known, and that somebody has
// to be ready for.
type Date struct {
	Kind        string    `json:"kind"`
	Name        string    `json:"name"`
	Environment string    `json:"environment,omitempty" doc:"Empty where it is about the whole installation"`
	At          time.Time `json:"at"`
	What        string    `json:"what" doc:"What happens then"`
	Renews      bool      `json:"renews,omitempty" doc:"It is renewed by itself before"`
	Owner       string    `json:"owner,omitempty"`
	Overdue     bool      `json:"overdue,omitempty" doc:"It has passed, and should not have"`
}

// passing are the kinds that come and go: that their time is over is no fault.
var passing = []string{DateFreeze, DateGrant, DateWaiver, DateToken}

// Dates are what is known to come of an environment, the first first.
func Dates(now time.Time, f Facts, results []Result) []Date {
	all := slices.Clone(f.Dates)
	if f.Expiries != nil {
		for _, e := range f.Expiries.Items {
			all = append(all, Date{Kind: e.Kind, Name: e.Name, At: e.At, What: e.Kind + " " + e.Name + " runs out", Renews: e.Renews})
		}
	}
	for _, r := range results {
		if a := r.Answer; a != nil {
			all = append(all, Date{Kind: DateAnswer, Name: a.Check, Environment: a.Environment, At: a.Until, What: fmt.Sprintf("the answer to %s counts no more: %s", a.Check, r.Title), Owner: a.Owner})
		}
		if r.StaleAt != nil && r.At != nil && r.At.Before(f.At.Add(-time.Minute)) {
			all = append(all, Date{Kind: DateEvidence, Name: r.ID, Environment: f.Environment, At: *r.StaleAt, What: fmt.Sprintf("the evidence of %s grows too old: %s", r.ID, r.Title), Owner: r.Owner})
		}
	}
	if b := f.Backups; b != nil && !b.PassedAt.IsZero() && b.DrillLimit > 0 {
		all = append(all, Date{Kind: DateDrill, Name: "restore", At: b.PassedAt.Add(b.DrillLimit), What: "a drill must have restored a backup again"})
	}
	if s := f.Stamps; s != nil && s.Days != nil && *s.Days < 10*366 {
		all = append(all, Date{Kind: DateCapacity, Name: f.Environment, Environment: f.Environment, At: f.At.Add(time.Duration(*s.Days * float64(day))), What: "at the growth of the last week every place in " + f.Environment + " is taken"})
	}
	if p := f.Posture; p != nil && !p.SupportUntil.IsZero() {
		all = append(all, Date{Kind: DateSupport, Name: "support", At: p.SupportUntil, What: "support of the product ends"})
	}
	for i := range all {
		all[i].At = all[i].At.UTC()
		all[i].Overdue = !all[i].At.After(now) && !slices.Contains(passing, all[i].Kind)
	}
	slices.SortStableFunc(all, func(a, b Date) int {
		return cmp.Or(a.At.Compare(b.At), cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Name, b.Name), cmp.Compare(a.Environment, b.Environment))
	})
	return all
}

// planOf is who answers for dates, and which were missed.
func planOf(now time.Time, dates []Date, owner string) Plan {
	p := Plan{Owner: owner, Items: len(dates)}
	for _, d := range dates {
		if d.Overdue {
			p.Overdue = append(p.Overdue, d.Kind+" "+d.Name)
		}
	}
	return p
}

// Calendar is what is known to come until a time, in one environment or in all
// where none is named; what was missed is there whenever it was.
func (r *Readiness) Calendar(ctx context.Context, environment string, until time.Time) ([]Date, error) {
	if environment != "" {
		if err := mustExist(ctx, r.DB, environment); err != nil {
			return nil, err
		}
	}
	environments, err := r.Environments(ctx)
	if err != nil {
		return nil, err
	}
	owners, err := r.Owners(ctx)
	if err != nil {
		return nil, err
	}
	now, seen, all := r.Now(), map[string]bool{}, []Date{}
	for _, e := range environments {
		if environment != "" && e.Metadata.Name != environment {
			continue
		}
		facts, err := r.gather(ctx, e.Metadata.Name)
		if err != nil {
			return nil, err
		}
		answers, err := r.Answers(ctx, facts.Environment)
		if err != nil {
			return nil, err
		}
		for _, d := range Dates(now, facts, Evaluate(now, facts, answers, owners)) {
			key := d.Kind + "/" + d.Name + "/" + d.Environment + d.At.String()
			if seen[key] || d.At.After(until) || !d.Overdue && d.At.Before(now) {
				continue
			}
			seen[key] = true
			d.Owner = cmp.Or(d.Owner, owners[Operations])
			all = append(all, d)
		}
	}
	slices.SortStableFunc(all, func(a, b Date) int { return a.At.Compare(b.At) })
	return all, nil
}
