package vault

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/slipway/slipway/internal/problem"
)

// Retention says which backups of a plane are kept: the newest, and the newest
// of each of the last days, weeks and months that have one.
type Retention struct {
	Last    int `json:"last" minimum:"1" maximum:"100000" doc:"The newest"`
	Daily   int `json:"daily" minimum:"0" maximum:"3660" doc:"The newest of each of so many days"`
	Weekly  int `json:"weekly" minimum:"0" maximum:"520" doc:"The newest of each of so many weeks"`
	Monthly int `json:"monthly" minimum:"0" maximum:"1200" doc:"The newest of each of so many months"`
}

// Check holds a retention against the rules.
func (r Retention) Check() error {
	if r.Last < 1 || r.Daily < 0 || r.Weekly < 0 || r.Monthly < 0 {
		return problem.New(problem.Invalid, "at least the newest backup is kept; none of the numbers is negative").At("retention")
	}
	return nil
}

// Excess are the backups of one plane that need not be kept, oldest first.
func (r Retention) Excess(moments map[string]time.Time) []string {
	var newest []string
	for id := range moments {
		newest = append(newest, id)
	}
	slices.SortFunc(newest, func(a, b string) int { return cmp.Or(moments[b].Compare(moments[a]), cmp.Compare(b, a)) })
	keep := map[string]bool{}
	for _, rule := range []struct {
		many int
		of   func(time.Time) string
	}{
		{r.Daily, func(t time.Time) string { return t.UTC().Format(time.DateOnly) }},
		{r.Weekly, func(t time.Time) string { y, w := t.UTC().ISOWeek(); return fmt.Sprint(y, w) }},
		{r.Monthly, func(t time.Time) string { return t.UTC().Format("2006-01") }},
	} {
		seen := map[string]bool{}
		for _, id := range newest {
			if span := rule.of(moments[id]); len(seen) < rule.many && !seen[span] {
				seen[span], keep[id] = true, true
			}
		}
	}
	var excess []string
	for i, id := range newest {
		if i >= r.Last && !keep[id] {
			excess = append(excess, id)
		}
	}
	slices.Reverse(excess)
	return excess
}
