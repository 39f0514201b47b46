package api

import (
	"context"

	"github.com/slipway/slipway/internal/control/featureflag"
	"github.com/slipway/slipway/internal/flag"
	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/resource"
)

// FlagRef names a flag of an environment, in the path.
type FlagRef struct {
	Named
	Flag string `path:"flag" maxLength:"128"`
}

type setFlag struct {
	FlagRef
	IfMatch string `header:"If-Match" doc:"ETag that what the environment says must have"`
	Body    struct {
		Overlay flag.Overlay `json:"overlay" doc:"What the environment says; nothing leaves the flag as it is defined"`
		Reason  string       `json:"reason" minLength:"1" maxLength:"2000"`
	}
}

type killFlag struct {
	FlagRef
	Body struct {
		Variant string `json:"variant,omitempty" maxLength:"200" doc:"What everybody gets; default the variant that is off, or false"`
		Reason  string `json:"reason" minLength:"1" maxLength:"2000"`
	}
}

type reviveFlag struct {
	FlagRef
	Body struct {
		Reason string `json:"reason" minLength:"1" maxLength:"2000"`
	}
}

type evaluateFlag struct {
	FlagRef
	Stamp string `query:"stamp" maxLength:"63" doc:"As that stamp has it, which may run another release"`
	Body  struct {
		Context map[string]any `json:"context,omitempty" doc:"Who asks, with a targetingKey"`
	}
}

type promoteFlags struct {
	Named
	Body struct {
		From   string   `json:"from" maxLength:"63" doc:"The environment whose state is carried over"`
		Flags  []string `json:"flags,omitempty" maxItems:"1000" doc:"Which; none means all that differ"`
		Reason string   `json:"reason" minLength:"1" maxLength:"2000"`
		Force  bool     `json:"force,omitempty" doc:"Though not all variants were exercised there"`
	}
}

type flagHistory struct {
	Named
	Limit int `query:"limit" minimum:"1" maximum:"1000"`
}

type flagExposures struct {
	Named
	Days int `query:"days" minimum:"1" maximum:"366" default:"30"`
}

// flags registers feature flags: their definitions, and what environments say.
func (a *api) flags() {
	route(a, "GET", "/api/v1/flags", "listFlags", "Flags that are declared beside releases, in order of key", func(ctx context.Context, _ *nothing) (*body[list[resource.Flag]], error) {
		all, err := a.Flags.Declared(ctx)
		return listOf(all, ""), err
	})
	route(a, "GET", "/api/v1/flags/{name}", "getFlag", "One flag that is declared", func(ctx context.Context, in *Named) (*tagged[resource.Flag], error) {
		f, err := a.Flags.Get(ctx, in.Name)
		return &tagged[resource.Flag]{quote(f.Metadata.ETag), f}, err
	})
	route(a, "PUT", "/api/v1/flags/{name}", "putFlag", "Declare a flag beside releases, or declare it anew", func(ctx context.Context, in *putNamed[declared[flag.Flag]]) (*tagged[resource.Flag], error) {
		f, err := a.Flags.Put(ctx, actorOf(ctx), in.Name, in.Body.Spec, in.IfMatch, in.DryRun)
		return &tagged[resource.Flag]{quote(f.Metadata.ETag), f}, err
	})
	route(a, "DELETE", "/api/v1/flags/{name}", "deleteFlag", "Take a declared flag away", func(ctx context.Context, in *dropNamed) (*nothing, error) {
		return &nothing{}, a.Flags.Delete(ctx, actorOf(ctx), in.Name, in.IfMatch)
	})
	route(a, "GET", "/api/v1/flags/{name}/history", "flagHistory", "What environments said of a flag, newest first", func(ctx context.Context, in *flagHistory) (*body[list[featureflag.Turn]], error) {
		all, err := a.Flags.History(ctx, in.Name, pageOf(in.Limit))
		return listOf(all, ""), err
	})
	route(a, "GET", "/api/v1/flags/{name}/exposures", "flagExposures", "How often each variant was given out, by day", func(ctx context.Context, in *flagExposures) (*body[list[featureflag.Exposure]], error) {
		all, err := a.Flags.Exposures(ctx, in.Name, in.Days)
		return listOf(all, ""), err
	})
	route(a, "GET", "/api/v1/flag-matrix", "flagMatrix", "Every flag with what it is in each environment, and what is amiss with it", func(ctx context.Context, _ *nothing) (*body[list[featureflag.Overview]], error) {
		all, err := a.Flags.List(ctx)
		return listOf(all, ""), err
	})
	a.environmentFlags()
}

// environmentFlags registers what is done with the flags of one environment.
func (a *api) environmentFlags() {
	const base = "/api/v1/environments/{name}/flags"
	route(a, "PUT", base+"/{flag}", "setFlag", "Say what a flag is in an environment", func(ctx context.Context, in *setFlag) (*tagged[featureflag.Said], error) {
		s, err := a.Flags.Set(ctx, actorOf(ctx), featureflag.Edit{Environment: in.Name, Flag: in.Flag, Overlay: in.Body.Overlay, Reason: in.Body.Reason, IfMatch: in.IfMatch})
		return &tagged[featureflag.Said]{quote(s.ETag), s}, err
	})
	route(a, "POST", base+"/{flag}/kill", "killFlag", "Give everybody one variant, at once", func(ctx context.Context, in *killFlag) (*body[featureflag.Said], error) {
		s, err := a.Flags.Kill(ctx, actorOf(ctx), in.Name, in.Flag, in.Body.Variant, in.Body.Reason)
		return &body[featureflag.Said]{s}, err
	})
	route(a, "POST", base+"/{flag}/revive", "reviveFlag", "Take a kill switch back", func(ctx context.Context, in *reviveFlag) (*body[featureflag.Said], error) {
		s, err := a.Flags.Revive(ctx, actorOf(ctx), in.Name, in.Flag, in.Body.Reason)
		return &body[featureflag.Said]{s}, err
	})
	route(a, "POST", base+"/{flag}/evaluate", "evaluateFlag", "What somebody gets for a flag", func(ctx context.Context, in *evaluateFlag) (*body[flag.Evaluation], error) {
		s, err := a.Flags.Of(featureflag.Scope{Environment: in.Name, Stamp: in.Stamp})
		if err != nil {
			return nil, err
		}
		r := s.Set.Evaluate(in.Flag, in.Body.Context, a.Flags.Now())
		if r.ErrorCode == flag.CodeNotFound {
			return nil, problem.New(problem.NotFound, "there is no flag %q in %s", in.Flag, in.Name)
		}
		return &body[flag.Evaluation]{r}, nil
	})
	route(a, "GET", base+"/diff", "diffFlags", "How the flags of an environment differ from those of another", func(ctx context.Context, in *diffEnvironments) (*body[list[featureflag.Variance]], error) {
		all, err := a.Flags.Diff(ctx, in.From, in.Name)
		return listOf(all, ""), err
	})
	route(a, "POST", base+"/promote", "promoteFlags", "Carry the state of flags over from another environment", func(ctx context.Context, in *promoteFlags) (*body[list[featureflag.Said]], error) {
		all, err := a.Flags.Promote(ctx, actorOf(ctx), in.Body.From, in.Name, in.Body.Flags, in.Body.Reason, in.Body.Force)
		return listOf(all, ""), err
	})
}
