package rehearse

import (
	"fmt"
	"slices"

	"github.com/slipway/slipway/internal/sqldb"
)

// breaches tells what programs that know tables as they were run into on
// tables as they are: a release first adds, and what nobody uses any more goes
// with a later one.
func breaches(before, after []sqldb.Table) (all []string) {
	for _, was := range before {
		i := slices.IndexFunc(after, func(t sqldb.Table) bool { return t.Schema == was.Schema && t.Name == was.Name })
		if i < 0 {
			all = append(all, fmt.Sprintf("the table %s is gone", was))
			continue
		}
		all = append(all, columnBreaches(was, after[i])...)
	}
	return all
}

func columnBreaches(was, is sqldb.Table) (all []string) {
	find := func(t sqldb.Table, name string) (sqldb.Column, bool) {
		i := slices.IndexFunc(t.Columns, func(c sqldb.Column) bool { return c.Name == name })
		if i < 0 {
			return sqldb.Column{}, false
		}
		return t.Columns[i], true
	}
	for _, c := range was.Columns {
		now, there := find(is, c.Name)
		switch {
		case !there:
			all = append(all, fmt.Sprintf("the column %s.%s is gone", was, c.Name))
		case now.Type != c.Type:
			all = append(all, fmt.Sprintf("the column %s.%s is %s, and was %s", was, c.Name, now.Type, c.Type))
		case now.NotNull && !c.NotNull && !now.Default:
			all = append(all, fmt.Sprintf("the column %s.%s must have a value now", was, c.Name))
		}
	}
	for _, c := range is.Columns {
		if _, there := find(was, c.Name); !there && c.NotNull && !c.Default {
			all = append(all, fmt.Sprintf("the new column %s.%s must have a value, which programs of before do not give", was, c.Name))
		}
	}
	for _, index := range is.Unique {
		if !slices.Contains(was.Unique, index) {
			all = append(all, fmt.Sprintf("the table %s has a new rule that something is unique (%.80s)", was, index))
		}
	}
	return all
}
