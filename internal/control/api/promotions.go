package api

import (
	"context"
	"time"

	"github.com/slipway/slipway/internal/control/promotion"
	"github.com/slipway/slipway/internal/control/release"
	"github.com/slipway/slipway/internal/control/rollout"
	"github.com/slipway/slipway/internal/problem"
)

// IDRef is something that has an id, in the path.
type IDRef struct {
	ID string `path:"id" maxLength:"63"`
}

type startPromotion struct {
	Body struct {
		Environment string `json:"environment" maxLength:"63" doc:"Which it is to enter"`
		Release     string `json:"release" maxLength:"63"`
		Reason      string `json:"reason,omitempty" maxLength:"2000"`
	}
}

type listPromotions struct {
	Environment string `query:"environment" maxLength:"63"`
	After       string `query:"after" maxLength:"40" doc:"Those asked for before this time"`
	Limit       int    `query:"limit" minimum:"1" maximum:"1000"`
}

// because is a decision about something that has an id, and why.
type because struct {
	IDRef
	Body struct {
		Reason string `json:"reason" minLength:"1" maxLength:"2000"`
	}
}

type abort struct {
	IDRef
	Body struct {
		Reason string `json:"reason" minLength:"1" maxLength:"2000"`
		Leave  bool   `json:"leave,omitempty" doc:"Leave devices as they are, instead of taking them back"`
		Force  bool   `json:"force,omitempty" doc:"Go back though the release does not lead back safely"`
	}
}

type skipAhead struct {
	IDRef
	Body struct {
		Stamp  string `json:"stamp,omitempty" maxLength:"63" doc:"Only the wave of this stamp"`
		Reason string `json:"reason" minLength:"1" maxLength:"2000"`
	}
}

type rollBack struct {
	Named
	Body struct {
		To     string `json:"to,omitempty" maxLength:"63" doc:"A release that ran well there; default the one before"`
		Reason string `json:"reason" minLength:"1" maxLength:"2000"`
		Force  bool   `json:"force,omitempty" doc:"Though the release that runs does not lead back safely"`
	}
}

type judgeCurrent struct {
	Named
	Body struct {
		Failed bool   `json:"failed,omitempty" doc:"It was found wanting; otherwise its gates are looked at once more"`
		Reason string `json:"reason" minLength:"1" maxLength:"2000"`
	}
}

type setHold struct {
	Named
	Body struct {
		Reason           string `json:"reason" minLength:"1" maxLength:"2000"`
		All              bool   `json:"all,omitempty" doc:"Of releases that somebody asks for, too"`
		ExpiresInSeconds int64  `json:"expiresInSeconds,omitempty" minimum:"0" maximum:"31622400" doc:"0: until it is ended"`
	}
}

type liftRejection struct {
	Named
	Body struct {
		Release string `json:"release" maxLength:"63"`
		Reason  string `json:"reason" minLength:"1" maxLength:"2000"`
	}
}

type askWaiver struct {
	Named
	Body struct {
		Release          string   `json:"release" maxLength:"63"`
		Class            string   `json:"class" enum:"incident,security,data-loss,compliance,other"`
		Ticket           string   `json:"ticket" minLength:"1" maxLength:"500"`
		Reason           string   `json:"reason" minLength:"1" maxLength:"2000"`
		Gates            []string `json:"gates,omitempty" maxItems:"30" doc:"Gates it waives beside the verification upstream"`
		ExpiresInSeconds int64    `json:"expiresInSeconds,omitempty" minimum:"0" maximum:"604800" doc:"Default a day"`
	}
}

type inEnvironment struct {
	Environment string `query:"environment" maxLength:"63"`
}

type listWaivers struct {
	Environment string `query:"environment" maxLength:"63"`
	Owed        bool   `query:"owed" doc:"Only those that somebody must still review"`
}

type whereRuns struct {
	Release string `query:"release" maxLength:"63" doc:"Only where this one runs, or is on its way"`
}

type diffEnvironments struct {
	Named
	From string `query:"from" required:"true" maxLength:"63" doc:"The environment it is compared with"`
}

// Difference is how what one environment runs differs from another.
type Difference struct {
	From    string           `json:"from,omitempty" doc:"The release that the one runs"`
	To      string           `json:"to,omitempty" doc:"The release that the other runs"`
	Changes []release.Change `json:"changes"`
}

// promotions registers releases on their way through environments.
func (a *api) promotions() {
	route(a, "POST", "/api/v1/promotions", "startPromotion", "Ask for a release to enter an environment", func(ctx context.Context, in *startPromotion) (*body[promotion.Promotion], error) {
		p, err := a.Promotions.Start(ctx, actorOf(ctx), in.Body.Environment, in.Body.Release, in.Body.Reason)
		return &body[promotion.Promotion]{p}, err
	})
	route(a, "GET", "/api/v1/promotions", "listPromotions", "Promotions, newest first", func(ctx context.Context, in *listPromotions) (*body[list[promotion.Promotion]], error) {
		var before time.Time
		if in.After != "" {
			at, err := time.Parse(time.RFC3339Nano, in.After)
			if err != nil {
				return nil, problem.New(problem.Invalid, "a time reads 2026-12-20T18:00:00Z, not %q", in.After).At("after")
			}
			before = at
		}
		limit := pageOf(in.Limit)
		all, err := a.Promotions.List(ctx, in.Environment, before, limit)
		next := ""
		if len(all) == limit {
			next = all[limit-1].CreatedAt.Format(time.RFC3339Nano)
		}
		return listOf(all, next), err
	})
	route(a, "GET", "/api/v1/promotions/{id}", "getPromotion", "A promotion with everything that is known of it", func(ctx context.Context, in *IDRef) (*body[promotion.Dossier], error) {
		d, err := a.Promotions.Show(ctx, in.ID)
		return &body[promotion.Dossier]{d}, err
	})
	a.promotionWords()
	a.environmentWords()
	a.waivers()
	a.rollouts()
}

// promotionWords registers what people say of a promotion.
func (a *api) promotionWords() {
	for verb, one := range map[string]struct {
		summary string
		do      func(ctx context.Context, in *because) (promotion.Promotion, error)
	}{
		"approve": {"Agree to a promotion that waits", func(ctx context.Context, in *because) (promotion.Promotion, error) {
			return a.Promotions.Approve(ctx, actorOf(ctx), in.ID, in.Body.Reason)
		}},
		"reject": {"Keep its release out of the environment", func(ctx context.Context, in *because) (promotion.Promotion, error) {
			return a.Promotions.Reject(ctx, actorOf(ctx), in.ID, in.Body.Reason)
		}},
		"retry": {"Ask once more for the release of a promotion that has ended", func(ctx context.Context, in *because) (promotion.Promotion, error) {
			return a.Promotions.Retry(ctx, actorOf(ctx), in.ID, in.Body.Reason)
		}},
	} {
		route(a, "POST", "/api/v1/promotions/{id}/"+verb, verb+"Promotion", one.summary, func(ctx context.Context, in *because) (*body[promotion.Promotion], error) {
			p, err := one.do(ctx, in)
			return &body[promotion.Promotion]{p}, err
		})
	}
	route(a, "POST", "/api/v1/promotions/{id}/abort", "abortPromotion", "End a promotion; one that runs is taken back", func(ctx context.Context, in *abort) (*body[promotion.Promotion], error) {
		p, err := a.Promotions.Abort(ctx, actorOf(ctx), in.ID, in.Body.Reason, in.Body.Leave, in.Body.Force)
		return &body[promotion.Promotion]{p}, err
	})
}

// environmentWords registers what people decide of an environment.
func (a *api) environmentWords() {
	const base = "/api/v1/environments/{name}/"
	route(a, "POST", base+"rollback", "rollback", "Take an environment back to the release before", func(ctx context.Context, in *rollBack) (*body[promotion.Promotion], error) {
		p, err := a.Promotions.Rollback(ctx, actorOf(ctx), promotion.Return{Environment: in.Name, To: in.Body.To, Reason: in.Body.Reason, Force: in.Body.Force})
		return &body[promotion.Promotion]{p}, err
	})
	route(a, "POST", base+"verify", "verifyEnvironment", "Look once more at what an environment runs", func(ctx context.Context, in *judgeCurrent) (*body[promotion.Verification], error) {
		judge := a.Promotions.Verify
		if in.Body.Failed {
			judge = a.Promotions.Unverify
		}
		v, err := judge(ctx, actorOf(ctx), in.Name, in.Body.Reason)
		return &body[promotion.Verification]{v}, err
	})
	route(a, "POST", base+"holds", "setHold", "Keep releases out of an environment", func(ctx context.Context, in *setHold) (*body[promotion.Hold], error) {
		h, err := a.Promotions.Hold(ctx, actorOf(ctx), in.Name, in.Body.Reason, in.Body.All, time.Duration(in.Body.ExpiresInSeconds)*time.Second)
		return &body[promotion.Hold]{h}, err
	})
	route(a, "DELETE", "/api/v1/holds/{id}", "endHold", "End a hold", func(ctx context.Context, in *IDRef) (*body[promotion.Hold], error) {
		h, err := a.Promotions.EndHold(ctx, actorOf(ctx), in.ID)
		return &body[promotion.Hold]{h}, err
	})
	route(a, "GET", "/api/v1/holds", "listHolds", "Holds that hold", func(ctx context.Context, in *inEnvironment) (*body[list[promotion.Hold]], error) {
		all, err := a.Promotions.Holds(ctx, in.Environment)
		return listOf(all, ""), err
	})
	route(a, "GET", "/api/v1/rejections", "listRejections", "Releases that are kept out of environments", func(ctx context.Context, in *inEnvironment) (*body[list[promotion.Rejection]], error) {
		all, err := a.Promotions.Rejections(ctx, in.Environment)
		return listOf(all, ""), err
	})
	route(a, "POST", base+"lift", "liftRejection", "Let a rejected release enter again, if it passes what others pass", func(ctx context.Context, in *liftRejection) (*body[promotion.Rejection], error) {
		r, err := a.Promotions.Lift(ctx, actorOf(ctx), in.Name, in.Body.Release, in.Body.Reason)
		return &body[promotion.Rejection]{r}, err
	})
	route(a, "GET", base+"diff", "diffEnvironments", "How what an environment runs differs from what another runs", a.diffEnvironments)
	route(a, "GET", "/api/v1/board", "board", "Environments with what runs there and what wants to", func(ctx context.Context, _ *nothing) (*body[list[promotion.Lane]], error) {
		all, err := a.Promotions.Board(ctx)
		return listOf(all, ""), err
	})
	route(a, "GET", "/api/v1/releases/{name}/verifications", "listVerifications", "The verdicts on a release where it ran, newest first", func(ctx context.Context, in *Named) (*body[list[promotion.Verification]], error) {
		all, err := a.Promotions.Verifications(ctx, in.Name)
		return listOf(all, ""), err
	})
}

func (a *api) diffEnvironments(ctx context.Context, in *diffEnvironments) (*body[Difference], error) {
	c, err := a.Promotions.Compare(ctx, in.From, in.Name)
	if err != nil {
		return nil, err
	}
	d := Difference{From: c.A, To: c.B, Changes: []release.Change{}}
	if c.A == c.B {
		return &body[Difference]{d}, nil
	}
	if c.A == "" || c.B == "" {
		return nil, problem.New(problem.Conflict, "one of the environments runs no release: %s runs %q, %s runs %q", in.From, c.A, in.Name, c.B)
	}
	changes, err := a.Releases.Diff(ctx, c.A, c.B)
	d.Changes = append(d.Changes, changes...)
	return &body[Difference]{d}, err
}

// waivers registers what lets a release enter though it was not verified.
func (a *api) waivers() {
	route(a, "POST", "/api/v1/environments/{name}/waivers", "askWaiver", "Ask that a release may enter once though it was not verified before", func(ctx context.Context, in *askWaiver) (*body[promotion.Waiver], error) {
		b := in.Body
		w, err := a.Promotions.Waive(ctx, actorOf(ctx), promotion.Exception{
			Environment: in.Name, Release: b.Release, Class: b.Class, Ticket: b.Ticket, Reason: b.Reason, Gates: b.Gates, Life: time.Duration(b.ExpiresInSeconds) * time.Second,
		})
		return &body[promotion.Waiver]{w}, err
	})
	route(a, "GET", "/api/v1/waivers", "listWaivers", "Waivers, newest first", func(ctx context.Context, in *listWaivers) (*body[list[promotion.Waiver]], error) {
		all, err := a.Promotions.Waivers(ctx, in.Environment, in.Owed)
		return listOf(all, ""), err
	})
	route(a, "POST", "/api/v1/waivers/{id}/approve", "approveWaiver", "Agree to a waiver that somebody else asked for", func(ctx context.Context, in *IDRef) (*body[promotion.Waiver], error) {
		w, err := a.Promotions.ApproveWaiver(ctx, actorOf(ctx), in.ID)
		return &body[promotion.Waiver]{w}, err
	})
	route(a, "POST", "/api/v1/waivers/{id}/review", "reviewWaiver", "Say what was found when a waiver that was used was looked at", func(ctx context.Context, in *because) (*body[promotion.Waiver], error) {
		w, err := a.Promotions.ReviewWaiver(ctx, actorOf(ctx), in.ID, in.Body.Reason)
		return &body[promotion.Waiver]{w}, err
	})
}

type listRollouts struct {
	Environment string `query:"environment" maxLength:"63"`
	Limit       int    `query:"limit" minimum:"1" maximum:"1000"`
}

// rollouts registers releases on their way onto stamps and devices.
func (a *api) rollouts() {
	route(a, "GET", "/api/v1/rollouts", "listRollouts", "Rollouts, newest first", func(ctx context.Context, in *listRollouts) (*body[list[rollout.Rollout]], error) {
		all, err := a.Rollouts.List(ctx, in.Environment, in.Limit)
		return listOf(all, ""), err
	})
	route(a, "GET", "/api/v1/rollouts/{id}", "getRollout", "A rollout with what its stamps tell now", func(ctx context.Context, in *IDRef) (*body[rollout.View], error) {
		v, err := a.Rollouts.Show(ctx, in.ID)
		return &body[rollout.View]{v}, err
	})
	route(a, "POST", "/api/v1/rollouts/{id}/pause", "pauseRollout", "Tell no further device anything", func(ctx context.Context, in *because) (*body[rollout.Rollout], error) {
		r, err := a.Rollouts.Pause(ctx, actorOf(ctx), in.ID, in.Body.Reason)
		return &body[rollout.Rollout]{r}, err
	})
	route(a, "POST", "/api/v1/rollouts/{id}/resume", "resumeRollout", "Go on after a pause; a wave that had failed is judged anew", func(ctx context.Context, in *because) (*body[rollout.Rollout], error) {
		r, err := a.Rollouts.Resume(ctx, actorOf(ctx), in.ID, in.Body.Reason)
		return &body[rollout.Rollout]{r}, err
	})
	route(a, "POST", "/api/v1/rollouts/{id}/skip", "skipRollout", "Wait no longer for a wave that has not failed, or for the next ring", func(ctx context.Context, in *skipAhead) (*body[rollout.Rollout], error) {
		r, err := a.Rollouts.Skip(ctx, actorOf(ctx), in.ID, in.Body.Stamp, in.Body.Reason)
		return &body[rollout.Rollout]{r}, err
	})
	route(a, "POST", "/api/v1/rollouts/{id}/abort", "abortRollout", "Take a rollout back", func(ctx context.Context, in *abort) (*body[rollout.Rollout], error) {
		r, err := a.Rollouts.Abort(ctx, actorOf(ctx), in.ID, in.Body.Reason, in.Body.Leave, in.Body.Force)
		return &body[rollout.Rollout]{r}, err
	})
	route(a, "GET", "/api/v1/matrix", "matrix", "What runs on each stamp, and on what share of its devices", func(ctx context.Context, in *whereRuns) (*body[list[rollout.Cell]], error) {
		all, err := a.Rollouts.Matrix(ctx, in.Release)
		return listOf(all, ""), err
	})
}
