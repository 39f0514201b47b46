package resource

import (
	"slices"
	"strings"
	"time"
	_ "time/tzdata" // machines without the zones of the world run Slipway too

	"github.com/teambition/rrule-go"

	"github.com/slipway/slipway/internal/problem"
)

// Freeze is a window, once or again and again, in which releases may not enter
// an environment, or in which alone they may.
type Freeze struct {
	Name     string   `json:"name" maxLength:"63" doc:"Unique among the environment's freezes"`
	Reason   string   `json:"reason" maxLength:"500" doc:"Why, as those read it whom it stops"`
	Allow    bool     `json:"allow,omitempty" doc:"Releases may enter only in the windows that allow it; default it forbids"`
	Start    string   `json:"start" maxLength:"19" doc:"When it begins first, in its time zone: 2026-12-20T18:00:00"`
	Duration Span     `json:"duration" doc:"How long it lasts, such as 8h or 14d"`
	RRule    string   `json:"rrule,omitempty" maxLength:"500" doc:"When it comes again, as RFC 5545 says it: FREQ=WEEKLY;BYDAY=FR; none means once"`
	Timezone string   `json:"timezone,omitempty" maxLength:"64" doc:"Such as Europe/Berlin; default UTC"`
	Exempt   []string `json:"exempt,omitempty" maxItems:"3" enum:"security,rollback" doc:"What it does not stop"`
}

// What a freeze or a halt may leave alone.
const (
	WorkRelease  = "release"  // every other release
	WorkSecurity = "security" // a release of the kind security
	WorkRollback = "rollback" // the way back to an earlier release
)

// Exemptions are what a freeze or a halt may leave alone.
var Exemptions = []string{WorkSecurity, WorkRollback}

// CheckExempt refuses what nothing can be exempt as.
func CheckExempt(exempt []string) error {
	for _, work := range exempt {
		if !slices.Contains(Exemptions, work) {
			return problem.New(problem.Invalid, "only %s can be exempt, not %q", strings.Join(Exemptions, " and "), work).At("exempt")
		}
	}
	return nil
}

// Check holds a freeze against its rules.
func (f Freeze) Check() error {
	if strings.TrimSpace(f.Reason) == "" {
		return problem.New(problem.Invalid, "must say why, for those whom it stops").At("reason")
	}
	if f.Duration == "" {
		return problem.New(problem.Invalid, "must say how long it lasts, such as 8h").At("duration")
	}
	if err := f.Duration.check("duration", time.Minute, maxSpan); err != nil {
		return err
	}
	if err := CheckExempt(f.Exempt); err != nil {
		return err
	}
	_, err := f.Rule()
	return err
}

// freezeStart is how a freeze's start reads.
const freezeStart = "2006-01-02T15:04:05"

// Rule is when the freeze begins, each time.
func (f Freeze) Rule() (*rrule.RRule, error) {
	where, err := time.LoadLocation(f.Timezone)
	if err != nil || f.Timezone == "Local" {
		return nil, problem.New(problem.Invalid, "there is no time zone %q; one reads Europe/Berlin or UTC", f.Timezone).At("timezone")
	}
	start, err := time.ParseInLocation(freezeStart, f.Start, where)
	if err != nil || start.Year() < 2000 || start.Year() > 2200 {
		return nil, problem.New(problem.Invalid, "must read like 2026-12-20T18:00:00, without a zone, and be of this time, not %q", f.Start).At("start")
	}
	if f.RRule == "" {
		return rrule.NewRRule(rrule.ROption{Freq: rrule.DAILY, Count: 1, Dtstart: start})
	}
	if strings.ContainsAny(f.RRule, "\r\n") || strings.Contains(strings.ToUpper(f.RRule), "DTSTART") {
		return nil, problem.New(problem.Invalid, "is the rule alone, such as FREQ=WEEKLY;BYDAY=FR; its start is start").At("rrule")
	}
	option, err := rrule.StrToROptionInLocation(strings.TrimPrefix(f.RRule, "RRULE:"), where)
	if err != nil {
		return nil, problem.New(problem.Invalid, "is no recurrence rule of RFC 5545: %s", err).At("rrule")
	}
	if option.Freq > rrule.DAILY || len(option.Byhour)+len(option.Byminute)+len(option.Bysecond) > 24 {
		return nil, problem.New(problem.Invalid, "a freeze comes daily or less often; FREQ is DAILY, WEEKLY, MONTHLY or YEARLY").At("rrule")
	}
	option.Dtstart = start
	rule, err := rrule.NewRRule(*option)
	if err != nil {
		return nil, problem.New(problem.Invalid, "is no recurrence rule of RFC 5545: %s", err).At("rrule")
	}
	if _, comes := rule.Iterator()(); !comes {
		return nil, problem.New(problem.Invalid, "never comes; look at its BY… parts and UNTIL").At("rrule")
	}
	return rule, nil
}
