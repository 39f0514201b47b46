package promotion

import (
	"context"
	"time"

	"github.com/slipway/slipway/internal/control/gate"
	"github.com/slipway/slipway/internal/control/rollout"
	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/resource"
	"github.com/slipway/slipway/internal/sqldb"
)

// Lane is an environment on the board, with what runs there and what wants to.
type Lane struct {
	Environment  string         `json:"environment"`
	DisplayName  string         `json:"displayName,omitempty"`
	PromotesFrom string         `json:"promotesFrom,omitempty"`
	Automatic    bool           `json:"automatic,omitempty"`
	Current      *rollout.Stood `json:"current,omitempty" doc:"What it runs"`
	Verification *Verification  `json:"verification,omitempty" doc:"The last verdict on that"`
	Waiting      *Promotion     `json:"waiting,omitempty"`
	Running      *Promotion     `json:"running,omitempty"`
	Rollout      *rollout.View  `json:"rollout,omitempty" doc:"Of the promotion that runs"`
	Last         []Promotion    `json:"last" doc:"The newest that ended"`
	Opening      gate.Opening   `json:"opening" doc:"Whether it takes releases now"`
	Holds        []Hold         `json:"holds,omitempty"`
	Rejections   []Rejection    `json:"rejections,omitempty"`
	Waivers      []Waiver       `json:"waivers,omitempty" doc:"Those that can be used, and those that owe a review"`
	Stamps       []rollout.Cell `json:"stamps" doc:"What runs on each stamp"`
}

// lastOnBoard is how many promotions that ended the board shows of each
// environment.
const lastOnBoard = 5

// Board returns every environment in order of promotion.
func (ps *Promotions) Board(ctx context.Context) ([]Lane, error) {
	environments, err := ps.o.Environments.List(ctx)
	if err != nil {
		return nil, err
	}
	cells, err := ps.o.Rollouts.Matrix(ctx, "")
	if err != nil {
		return nil, err
	}
	lanes := make([]Lane, len(environments))
	for i, env := range environments {
		if lanes[i], err = ps.lane(ctx, env); err != nil {
			return nil, err
		}
		lanes[i].Stamps = []rollout.Cell{}
		for _, c := range cells {
			if c.Environment == env.Metadata.Name {
				lanes[i].Stamps = append(lanes[i].Stamps, c)
			}
		}
	}
	return lanes, nil
}

func (ps *Promotions) lane(ctx context.Context, env resource.Environment) (l Lane, err error) {
	name, policy := env.Metadata.Name, policyOf(env)
	l = Lane{Environment: name, DisplayName: env.Spec.DisplayName, PromotesFrom: env.Spec.PromotesFrom, Automatic: policy.Automatic, Last: []Promotion{}}
	stood, err := ps.o.Rollouts.Stood(ctx, ps.o.DB, name)
	if err != nil {
		return l, err
	}
	if len(stood) > 0 {
		l.Current = &stood[0]
		if l.Verification, err = verdict(ctx, ps.o.DB, name, stood[0].Digest); err != nil {
			return l, err
		}
	}
	if l.Waiting, err = first(ctx, ps.o.DB, "environment = ? AND waiting = 1", name); err != nil {
		return l, err
	}
	if l.Running, err = first(ctx, ps.o.DB, "environment = ? AND running = 1", name); err != nil {
		return l, err
	}
	if l.Running != nil && l.Running.Rollout != "" {
		v, err := ps.o.Rollouts.Show(ctx, l.Running.Rollout)
		if err != nil {
			return l, err
		}
		l.Rollout = &v
	}
	if l.Opening, err = ps.opening(ctx, name, policy, link.Release{}, false); err != nil {
		return l, err
	}
	return l, ps.beside(ctx, name, &l)
}

// beside adds what people have decided of an environment.
func (ps *Promotions) beside(ctx context.Context, name string, l *Lane) (err error) {
	if l.Holds, err = ps.Holds(ctx, name); err != nil {
		return err
	}
	if l.Rejections, err = ps.Rejections(ctx, name); err != nil {
		return err
	}
	waivers, err := ps.Waivers(ctx, name, false)
	if err != nil {
		return err
	}
	for _, w := range waivers {
		if w.Owed() || w.UsedBy == "" && ps.o.Now().Before(w.Until) {
			l.Waivers = append(l.Waivers, w)
		}
	}
	ended, err := sqldb.Rows(ctx, ps.o.DB, scanRecord, selectPromotions+" WHERE environment = ? AND waiting = 0 AND running = 0 ORDER BY created_at DESC, id DESC LIMIT ?", name, lastOnBoard)
	for _, p := range ended {
		l.Last = append(l.Last, p.Promotion)
	}
	return err
}

// Dossier is a promotion with everything that is known of it.
type Dossier struct {
	Promotion
	Approvals    []gate.Approval `json:"approvals" doc:"People's words on it, oldest first"`
	Verification *Verification   `json:"upstreamVerification,omitempty" doc:"The last verdict on its release upstream"`
	View         *rollout.View   `json:"view,omitempty" doc:"Its rollout"`
}

// Show returns a promotion with everything that is known of it.
func (ps *Promotions) Show(ctx context.Context, id string) (d Dossier, err error) {
	p, err := readPromotion(ctx, ps.o.DB, id)
	if err != nil {
		return d, err
	}
	d = Dossier{Promotion: p.Promotion}
	if d.Approvals, err = ps.o.Gates.Approvals(ctx, id); err != nil {
		return d, err
	}
	if d.Approvals == nil {
		d.Approvals = []gate.Approval{}
	}
	if p.Upstream != "" {
		if d.Verification, err = verdict(ctx, ps.o.DB, p.Upstream, p.Digest); err != nil {
			return d, err
		}
	}
	if p.Rollout == "" {
		return d, nil
	}
	v, err := ps.o.Rollouts.Show(ctx, p.Rollout)
	d.View = &v
	return d, err
}

// List returns promotions that were asked for before a moment (zero: the
// newest), newest first, of an environment if one is named.
func (ps *Promotions) List(ctx context.Context, environment string, before time.Time, limit int) ([]Promotion, error) {
	if limit <= 0 || limit > link.MaxPage {
		limit = 100
	}
	at := int64(1) << 62
	if !before.IsZero() {
		at = sqldb.Micros(before)
	}
	records, err := sqldb.Rows(ctx, ps.o.DB, scanRecord, selectPromotions+" WHERE (? = '' OR environment = ?) AND created_at < ? ORDER BY created_at DESC, id DESC LIMIT ?", environment, environment, at, limit)
	all := make([]Promotion, len(records))
	for i, r := range records {
		all[i] = r.Promotion
	}
	return all, err
}

// Verifications returns the verdicts on a release, newest first.
func (ps *Promotions) Verifications(ctx context.Context, release string) ([]Verification, error) {
	r, err := ps.o.Releases.Get(ctx, release)
	if err != nil {
		return nil, err
	}
	return sqldb.Rows(ctx, ps.o.DB, scanned[Verification], "SELECT document FROM verification WHERE digest = ? ORDER BY sequence DESC LIMIT 1000", r.Digest)
}

// Compared are the releases that two environments run.
type Compared struct {
	A, B string // names; empty where none runs
}

// Compare returns the releases that two environments run.
func (ps *Promotions) Compare(ctx context.Context, a, b string) (c Compared, err error) {
	for _, side := range []struct {
		environment string
		release     *string
	}{{a, &c.A}, {b, &c.B}} {
		if _, err := ps.o.Environments.Get(ctx, side.environment); err != nil {
			return c, err
		}
		stood, err := ps.o.Rollouts.Stood(ctx, ps.o.DB, side.environment)
		if err != nil {
			return c, err
		}
		if len(stood) > 0 {
			*side.release = stood[0].Release
		}
	}
	return c, nil
}
