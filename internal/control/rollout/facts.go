package rollout

import (
	"bytes"
	"context"
	"encoding/json"
	"maps"
	"time"

	"github.com/slipway/slipway/internal/control/gate"
	"github.com/slipway/slipway/internal/resource"
	"github.com/slipway/slipway/internal/sqldb"
)

// same reports whether nothing has changed that is stored.
func (r record) same(next Rollout) (bool, error) {
	text, err := json.Marshal(next)
	return bytes.Equal(text, []byte(r.text)), err
}

// Facts are what is so of the stamps of an environment, for a rollout that is
// about to begin there.
func (rs *Rollouts) Facts(ctx context.Context, environment string) (Facts, error) {
	return rs.facts(ctx, Rollout{Environment: environment})
}

// facts gathers what a rollout is stepped by.
func (rs *Rollouts) facts(ctx context.Context, r Rollout) (Facts, error) {
	stamps, err := rs.o.Fleet.Stamps(ctx)
	if err != nil {
		return nil, err
	}
	tenants, err := rs.paces(ctx)
	if err != nil {
		return nil, err
	}
	standings, err := rs.standings(ctx)
	if err != nil {
		return nil, err
	}
	facts := Facts{}
	for _, s := range stamps {
		name := s.Metadata.Name
		if s.Spec.Environment != r.Environment {
			continue
		}
		standing := standings[name]
		f := StampFacts{Ring: s.Spec.RingOf(), Base: standing.Base, Version: standing.Version}
		if o, seen := rs.o.Fleet.Observed(name); seen {
			f.Progress, f.SeenAt = o.Releases, o.At
		}
		f.NotBefore, f.Held = pace(s, tenants, r, standing)
		f.Shut, f.ShutBy = shut(s, tenants, r, rs.o.Now())
		f.Gates = rs.judge(ctx, r, name)
		facts[name] = f
	}
	return facts, nil
}

func (rs *Rollouts) standings(ctx context.Context) (map[string]Standing, error) {
	all, err := sqldb.Rows(ctx, rs.o.DB, scanStanding, selectStandings)
	byStamp := make(map[string]Standing, len(all))
	for _, s := range all {
		byStamp[s.Stamp] = s
	}
	return byStamp, err
}

// paces are how often tenants take releases.
func (rs *Rollouts) paces(ctx context.Context) (map[string]resource.Pace, error) {
	all, err := rs.o.Fleet.Tenants(ctx)
	paces := map[string]resource.Pace{}
	for _, t := range all {
		if t.Spec.Pace != nil {
			paces[t.Metadata.Name] = *t.Spec.Pace
		}
	}
	return paces, err
}

// pace is when a release may come to a stamp at the earliest, and whose wish
// that is: the stamp's own, or that of a tenant it is kept for.
func pace(s resource.Stamp, tenants map[string]resource.Pace, r Rollout, standing Standing) (at time.Time, held string) {
	last := time.Time{}
	if standing.Base != "" {
		last = sqldb.Time(standing.Since)
	}
	if s.Spec.Pace != nil {
		if at = s.Spec.Pace.Earliest(r.Kind, last, r.CreatedAt); at.After(r.CreatedAt) {
			held = "the pace of stamp " + s.Metadata.Name
		}
	}
	for _, tenant := range s.Spec.Tenants {
		if p, has := tenants[tenant]; has {
			if wished := p.Earliest(r.Kind, last, r.CreatedAt); wished.After(at) && wished.After(r.CreatedAt) {
				at, held = wished, "the pace of tenant "+tenant
			}
		}
	}
	return at, held
}

// shut is until when the maintenance windows of a stamp, or of a tenant it is
// kept for, keep it shut, and whose they are; the zero time is that they do not.
func shut(s resource.Stamp, tenants map[string]resource.Pace, r Rollout, now time.Time) (until time.Time, by string) {
	look := func(p resource.Pace, whose string) {
		latest := p.Latest(r.CreatedAt)
		if len(p.Windows) == 0 || !p.Binds(r.Kind) || r.CreatedAt.IsZero() || !now.Before(latest) {
			return
		}
		opening := gate.Open(now, p.Calendar(), nil, resource.WorkRelease)
		if opening.Open {
			return
		}
		if opening.Next != nil && opening.Next.Before(latest) {
			latest = *opening.Next
		}
		if latest.After(until) {
			until, by = latest, "the maintenance windows of "+whose
		}
	}
	if s.Spec.Pace != nil {
		look(*s.Spec.Pace, "stamp "+s.Metadata.Name)
	}
	for _, tenant := range s.Spec.Tenants {
		look(tenants[tenant], "tenant "+tenant)
	}
	return until, by
}

// judgement names a wave that gates are evaluated for.
type judgement struct {
	rollout, stamp string
	wave           int
}

// judged are the verdicts on a wave.
type judged struct {
	at      time.Time
	results []gate.Result
}

// judgeEvery is how often the gates of a wave are evaluated.
const judgeEvery = 10 * time.Second

// judge evaluates the gates of the wave that a stamp is in.
func (rs *Rollouts) judge(ctx context.Context, r Rollout, stamp string) []gate.Result {
	i := r.find(stamp)
	if i < 0 || len(r.Policy.Gates) == 0 || r.State != Running || r.Stamps[i].State != Moving {
		return nil
	}
	key, now := judgement{r.ID, stamp, r.Stamps[i].Wave}, rs.o.Now().UTC()
	rs.mu.Lock()
	known, found := rs.judged[key]
	rs.mu.Unlock()
	if found && now.Sub(known.at) < judgeEvery {
		return known.results
	}
	release, err := rs.release(ctx, r.Release)
	if err != nil {
		return unread(r.Policy.Gates, err, now)
	}
	subject := gate.Subject{Environment: r.Environment, Stamp: stamp, Release: *release, Promotion: r.Promotion, Since: r.CreatedAt}
	results := make([]gate.Result, len(r.Policy.Gates))
	for i, g := range r.Policy.Gates {
		results[i] = rs.o.Judge(ctx, now, g, subject)
		results[i].Key = true
	}
	rs.mu.Lock()
	defer rs.mu.Unlock()
	maps.DeleteFunc(rs.judged, func(k judgement, j judged) bool {
		return k.rollout == r.ID && k.stamp == stamp || now.Sub(j.at) > time.Hour
	})
	rs.judged[key] = judged{now, results}
	return results
}

// unread are the results of gates that could not be evaluated.
func unread(gates []resource.Gate, err error, now time.Time) []gate.Result {
	results := make([]gate.Result, len(gates))
	for i, g := range gates {
		results[i] = gate.Result{Gate: g.Name, Kind: g.Kind(), Key: true, Verdict: gate.Error, Reason: err.Error(), At: now}
	}
	return results
}
