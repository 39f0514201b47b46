package rollout

import (
	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/resource"
)

// Standing is what a stamp is to run, apart from how far a rollout has come.
type Standing struct {
	Stamp       string
	Environment string
	Version     int64  // of the stamp's document; grows with each change of it
	Base        string // a release; empty leaves devices as they are
	Rollout     string // the one in effect; empty where none is
	Since       int64  // when the base came, in microseconds
}

// shape is all of a stamp's document that can change; the rest follows from
// what never does.
type shape struct {
	base, rollout, release string
	wave                   int
	paused                 bool
}

// shapeOf is the shape of a stamp's document. r is the rollout that is in
// effect there, if one is.
func shapeOf(s Standing, r *Rollout) shape {
	out := shape{base: s.Base}
	if s.Rollout == "" || r == nil || r.ID != s.Rollout {
		return out
	}
	for _, one := range r.Stamps {
		if one.Name != s.Stamp || one.State != Moving && one.State != Done {
			continue
		}
		out.rollout, out.release, out.wave = r.ID, r.Release, one.Wave
		out.paused = r.State == Paused || r.State == Left
	}
	return out
}

// runs is the release that a stamp's own part, beside its devices, is to run.
func (s shape) runs() string {
	if s.rollout != "" {
		return s.release
	}
	return s.base
}

// Document is what a stamp is to run: a function of what is stored alone.
// releases has the contents of the base and of the rollout's release.
func Document(s Standing, r *Rollout, releases func(name string) *link.Release) link.Releases {
	form := shapeOf(s, r)
	doc := link.Releases{Version: s.Version, Environment: s.Environment}
	if form.base != "" {
		doc.Base = releases(form.base)
	}
	if form.rollout == "" {
		return doc
	}
	release := releases(form.release)
	if release == nil {
		return doc
	}
	doc.Rollout = &link.Rollout{
		ID: r.ID, Release: *release, Wave: form.wave, Reach: Reach(r.Policy.Waves, form.wave), Paused: form.paused,
		Parallel: r.Policy.Parallel, Attempts: r.Policy.Attempts, DeadlineSeconds: int64(r.Policy.Deadline.Duration(resource.DefaultDeadline).Seconds()),
	}
	if h := r.Policy.Health; h != nil {
		doc.Rollout.Halt = &link.Halt{Failures: h.MaxFailures, MinDevices: h.MinDevices}
	}
	return doc
}

// Settle is the standing of a stamp after a rollout has gone from one state to
// the next. The version is the store's to raise.
func Settle(s Standing, r Rollout) Standing {
	i := r.find(s.Stamp)
	if i < 0 {
		return s
	}
	one := r.Stamps[i]
	switch {
	case r.Back:
		s.Base, s.Rollout = r.Release, ""
	case one.State == Back:
		if s.Rollout == r.ID {
			s.Rollout = ""
		}
	case r.State == Succeeded && one.State == Done:
		s.Base, s.Rollout = r.Release, ""
	case (one.State == Moving || one.State == Done) && s.Rollout != r.ID:
		if s.Rollout != "" {
			s.Base = "" // another rollout was left: devices stay as they are until this one reaches them
		}
		s.Rollout = r.ID
	}
	return s
}

func (r Rollout) find(stamp string) int {
	for i, s := range r.Stamps {
		if s.Name == stamp {
			return i
		}
	}
	return -1
}
