package api

import (
	"context"
	"time"

	"github.com/slipway/slipway/internal/control/readiness"
	"github.com/slipway/slipway/internal/problem"
)

// CheckRef names a check in an environment, in the path.
type CheckRef struct {
	Named
	Check string `path:"check" maxLength:"10"`
}

type answerCheck struct {
	CheckRef
	Body struct {
		Applies *bool     `json:"applies,omitempty" doc:"It is so (default); false says that the check is about nothing here"`
		Owner   string    `json:"owner" minLength:"1" maxLength:"200" doc:"Who answers for it"`
		Reason  string    `json:"reason" minLength:"1" maxLength:"2000"`
		Until   time.Time `json:"until" doc:"When it counts no more; at most 366 days from now"`
	}
}

type ownTopic struct {
	Topic string `path:"topic" maxLength:"40"`
	Body  struct {
		Owner string `json:"owner" maxLength:"200" doc:"Who answers for it; empty is nobody"`
	}
}

type readinessHistory struct {
	Named
	Days int `query:"days" minimum:"1" maximum:"400" default:"30"`
}

type readCalendar struct {
	Environment string `query:"environment" maxLength:"63"`
	Days        int    `query:"days" minimum:"1" maximum:"3660" default:"180" doc:"How far ahead"`
}

// CheckInfo describes a check.
type CheckInfo struct {
	ID           string          `json:"id"`
	Topic        readiness.Topic `json:"topic"`
	Level        readiness.Level `json:"level" enum:"blocks,warns"`
	Title        string          `json:"title"`
	FreshSeconds int64           `json:"freshSeconds" doc:"How long its evidence counts"`
	Do           string          `json:"do" doc:"What makes it so"`
	Doc          string          `json:"doc" doc:"Where that is described, below docs/"`
	Page         string          `json:"page,omitempty"`
	Owner        string          `json:"owner,omitempty"`
}

// readiness registers how ready environments are for production, and why.
func (a *api) readiness() {
	const base = "/api/v1/environments/{name}/readiness"
	route(a, "GET", "/api/v1/readiness", "listReadiness", "How ready every environment is, in order of promotion", func(ctx context.Context, _ *nothing) (*body[list[readiness.Verdict]], error) {
		all, err := a.Readiness.All(ctx)
		return listOf(all, ""), err
	})
	route(a, "GET", base, "getReadiness", "How ready an environment is, with the evidence of every check", func(ctx context.Context, in *Named) (*body[readiness.Verdict], error) {
		v, err := a.Readiness.Environment(ctx, in.Name)
		return &body[readiness.Verdict]{v}, err
	})
	route(a, "GET", base+"/history", "getReadinessHistory", "How ready an environment was, oldest first", func(ctx context.Context, in *readinessHistory) (*body[list[readiness.Point]], error) {
		all, err := a.Readiness.History(ctx, in.Name, time.Now().AddDate(0, 0, -in.Days))
		return listOf(all, ""), err
	})
	route(a, "GET", "/api/v1/readiness-checks", "listReadinessChecks", "What is checked, how long evidence counts, and what makes a check pass", a.readinessChecks)
	route(a, "PUT", base+"/answers/{check}", "answerReadiness", "Answer a check for which there is no evidence, for a while", func(ctx context.Context, in *answerCheck) (*body[readiness.Answer], error) {
		b := in.Body
		answer, err := a.Readiness.Answer(ctx, actorOf(ctx), readiness.Answer{Environment: in.Name, Check: in.Check, Applies: b.Applies == nil || *b.Applies, Owner: b.Owner, Reason: b.Reason, Until: b.Until})
		return &body[readiness.Answer]{answer}, err
	})
	route(a, "DELETE", base+"/answers/{check}", "withdrawReadiness", "Take the answer to a check back", func(ctx context.Context, in *CheckRef) (*nothing, error) {
		return nil, a.Readiness.Withdraw(ctx, actorOf(ctx), in.Name, in.Check)
	})
	route(a, "PUT", "/api/v1/readiness-owners/{topic}", "ownReadiness", "Say who answers for a topic of readiness", func(ctx context.Context, in *ownTopic) (*nothing, error) {
		return nil, a.Readiness.Own(ctx, actorOf(ctx), readiness.Topic(in.Topic), in.Body.Owner)
	})
	route(a, "GET", "/api/v1/calendar", "getCalendar", "What is known to run out or to come, the first first; what was missed is there, too", func(ctx context.Context, in *readCalendar) (*body[list[readiness.Date]], error) {
		all, err := a.Readiness.Calendar(ctx, in.Environment, time.Now().AddDate(0, 0, in.Days))
		return listOf(all, ""), err
	})
}

func (a *api) readinessChecks(ctx context.Context, _ *nothing) (*body[list[CheckInfo]], error) {
	owners, err := a.Readiness.Owners(ctx)
	if err != nil {
		return nil, problem.Of(err)
	}
	var all []CheckInfo
	for _, c := range readiness.All() {
		all = append(all, CheckInfo{c.ID, c.Topic, c.Level, c.Title, int64(c.Fresh / time.Second), c.Do, c.Doc, c.Page, owners[c.Topic]})
	}
	return listOf(all, ""), nil
}
