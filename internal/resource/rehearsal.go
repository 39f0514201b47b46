package resource

import (
	"fmt"
	"regexp"
	"slices"
	"time"

	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/mask"
	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/transform"
)

// RehearsalSpec is how migrations are rehearsed on copies of an environment's
// data, and when that no longer says anything.
type RehearsalSpec struct {
	Masking     mask.Policy `json:"masking,omitempty" doc:"What is done with each field before anything else"`
	Databases   []string    `json:"databases,omitempty" maxItems:"20" doc:"Databases of the solution that are copied too; where they are, the host says that rehearses"`
	MaxWait     Span        `json:"maxWait,omitempty" doc:"How long others may wait for a migration; default 1s"`
	MaxDuration Span        `json:"maxDuration,omitempty" doc:"How long all migrations of a release may take together; default 1h"`
	MaxGrowth   float64     `json:"maxGrowth,omitempty" doc:"By which share of its size a database may grow; default 1"`
	MaxAge      Span        `json:"maxAge,omitempty" doc:"How long a rehearsal says something; default 30d"`
	MaxChange   float64     `json:"maxChange,omitempty" doc:"By which share the number of devices may move on before it says nothing any more; default 0.2"`
}

// Limits are what a migration may take, with what is usual.
func (s *RehearsalSpec) Limits() link.RehearsalLimits {
	l := link.RehearsalLimits{WaitSeconds: 1, TotalSeconds: 3600, Growth: 1}
	if s == nil {
		return l
	}
	l.WaitSeconds = s.MaxWait.Duration(time.Second).Seconds()
	l.TotalSeconds = s.MaxDuration.Duration(time.Hour).Seconds()
	if s.MaxGrowth > 0 {
		l.Growth = s.MaxGrowth
	}
	return l
}

// Validity is how old a rehearsal may be, and by which share the number of
// devices may have moved on.
func (s *RehearsalSpec) Validity() (age time.Duration, change float64) {
	age, change = 30*24*time.Hour, 0.2
	if s == nil {
		return age, change
	}
	if s.MaxChange > 0 {
		change = s.MaxChange
	}
	return s.MaxAge.Duration(age), change
}

// Check holds it against the rules.
func (s RehearsalSpec) Check() error {
	if err := s.Masking.Check(); err != nil {
		known := problem.Of(err)
		return known.At("spec.rehearsal.masking." + known.Field)
	}
	for i, name := range s.Databases {
		if !databaseName.MatchString(name) || slices.Contains(s.Databases[:i], name) {
			return problem.New(problem.Invalid, "a database is named once, by 1 to 63 of a-z, 0-9 and '-', which %q is not", name).At("spec.rehearsal.databases")
		}
	}
	if !(s.MaxGrowth >= 0 && s.MaxGrowth <= 100) || !(s.MaxChange >= 0 && s.MaxChange <= 100) {
		return problem.New(problem.Invalid, "a share is 0 to 100, such as 0.2").At("spec.rehearsal.maxGrowth")
	}
	for _, one := range []struct {
		field       string
		span        Span
		least, most time.Duration
	}{
		{"maxWait", s.MaxWait, 10 * time.Millisecond, time.Hour}, {"maxDuration", s.MaxDuration, time.Second, 7 * 24 * time.Hour}, {"maxAge", s.MaxAge, time.Minute, maxSpan},
	} {
		if err := one.span.check("spec.rehearsal."+one.field, one.least, one.most); err != nil {
			return err
		}
	}
	return nil
}

var (
	databaseName = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,62}$`)
	droppedField = regexp.MustCompile(`^[^.\s]+(\.[^.\s]+)*$`)
)

// RehearsalGate wants the migrations of a release to have been rehearsed.
type RehearsalGate struct {
	Environment string `json:"environment,omitempty" doc:"On whose data; default the environment the release is to enter"`
	MaxAge      Span   `json:"maxAge,omitempty" doc:"How old it may be; default what the environment says"`
	Always      bool   `json:"always,omitempty" doc:"A release without migrations is to be rehearsed, too"`
	OnNoData    NoData `json:"onNoData,omitempty" enum:"inconclusive,fail,pass-with-reason" doc:"What no rehearsal means; default inconclusive"`
}

func (g RehearsalGate) check() error {
	if err := checkSource("rehearsal", "", g.OnNoData); err != nil {
		return err
	}
	return g.MaxAge.check("rehearsal.maxAge", time.Minute, maxSpan)
}

// checkMigrationParts holds what a migration says beside its text against the
// rules.
func checkMigrationParts(at string, m link.Migration) error {
	if m.Kind == "twin" {
		if m.Database != "" {
			return problem.New(problem.Invalid, "twins are in no database of the solution; leave it out").At(at + ".database")
		}
		for field, text := range map[string]string{".up": m.Up, ".down": m.Down} {
			if text == "" {
				continue
			}
			if _, err := transform.Parse(text); err != nil {
				return problem.Of(err).At(at + field)
			}
		}
	} else if m.Database != "" && !databaseName.MatchString(m.Database) {
		return problem.New(problem.Invalid, "a database is named by 1 to 63 of a-z, 0-9 and '-', which %q is not", m.Database).At(at + ".database")
	}
	if len(m.Drops) > 100 || len(m.Invariants) > 50 {
		return problem.New(problem.Invalid, "a migration has at most 100 drops and 50 invariants").At(at)
	}
	for _, field := range m.Drops {
		if !droppedField.MatchString(field) || len(field) > 300 {
			return problem.New(problem.Invalid, "what is given up reads tags.old, or TABLE.COLUMN, not %q", field).At(at + ".drops")
		}
	}
	for i, one := range m.Invariants {
		where := fmt.Sprintf("%s.invariants[%d]", at, i)
		if !shown(one.Name, 100) || one.Holds == "" || len(one.Holds) > 10_000 {
			return problem.New(problem.Invalid, "an invariant has a name, and says in up to 10000 characters what holds").At(where)
		}
		if m.Kind == "twin" {
			if _, err := transform.Parse(one.Holds); err != nil {
				return problem.Of(err).At(where + ".holds")
			}
		}
	}
	return nil
}

func checkReads(r *link.Reads) error {
	if r == nil {
		return nil
	}
	if len(r.Twin) > 0 {
		if _, err := transform.ParseSchema(r.Twin); err != nil {
			return problem.Of(err).At("spec.reads.twin")
		}
	}
	if len(r.Queries) > 200 {
		return problem.New(problem.Invalid, "a release tells at most 200 statements, not %d", len(r.Queries)).At("spec.reads.queries")
	}
	for i, q := range r.Queries {
		at := fmt.Sprintf("spec.reads.queries[%d]", i)
		if !databaseName.MatchString(q.Database) {
			return problem.New(problem.Invalid, "a database is named by 1 to 63 of a-z, 0-9 and '-', which %q is not", q.Database).At(at + ".database")
		}
		if q.SQL == "" || len(q.SQL) > 10_000 {
			return problem.New(problem.Invalid, "a statement has 1 to 10000 characters").At(at + ".sql")
		}
	}
	return nil
}
