package readiness

import (
	"strings"
	"time"

	"github.com/slipway/slipway/internal/problem"
)

// Answer is what somebody says of a check where there is no evidence.
type Answer struct {
	Environment string    `json:"environment"`
	Check       string    `json:"check"`
	Applies     bool      `json:"applies" doc:"It is so; false says that the check is about nothing here"`
	Owner       string    `json:"owner" doc:"Who answers for it"`
	Reason      string    `json:"reason"`
	By          string    `json:"by"`
	At          time.Time `json:"at"`
	Until       time.Time `json:"until" doc:"When it no longer counts"`
}

// MaxAnswer is how long an answer may count: a year is long enough to forget it.
const MaxAnswer = 366 * 24 * time.Hour

// check holds an answer against its rules.
func (a Answer) check(now time.Time) error {
	_, known := Find(a.Check)
	switch {
	case !known:
		return problem.New(problem.NotFound, "there is no check %q; `slipway readiness explain` lists them", a.Check).At("check")
	case strings.TrimSpace(a.Owner) == "":
		return problem.New(problem.Invalid, "say who answers for it").At("owner")
	case strings.TrimSpace(a.Reason) == "":
		return problem.New(problem.Invalid, "say why it is so").At("reason")
	case len(a.Owner) > 200 || len(a.Reason) > 2000:
		return problem.New(problem.TooLarge, "an owner has at most 200 characters and a reason 2000").At("reason")
	case !now.Before(a.Until):
		return problem.New(problem.Invalid, "an answer ends some day, after now; %s is over", a.Until.Format(time.RFC3339)).At("until")
	case a.Until.Sub(now) > MaxAnswer:
		return problem.New(problem.Invalid, "an answer counts for at most 366 days; look again then").At("until")
	}
	return nil
}
