package access

import (
	"context"
	"testing"
	"time"

	"github.com/slipway/slipway/internal/problem"
)

// open begins something that goes on for an actor who may read devices.
func (o *office) open(who Actor) context.Context {
	o.t.Helper()
	ctx, letGo := o.Hold(o.t.Context(), who)
	o.t.Cleanup(letGo)
	Keep(ctx, func(ctx context.Context, now Actor) error { return o.Check(ctx, now, DeviceRead, Anywhere) })
	return ctx
}

func (o *office) must(err error) {
	o.t.Helper()
	if err != nil {
		o.t.Fatal(err)
	}
}

// TestWhatGoesOnEndsWithTheRight takes each thing away by which somebody may
// go on, and looks at what is open of theirs and of somebody else's.
func TestWhatGoesOnEndsWithTheRight(t *testing.T) {
	t.Parallel()
	binding := func(o *office, account string) string {
		all, err := o.Bindings(t.Context())
		o.must(err)
		for _, b := range all {
			if b.Account == account {
				return b.ID
			}
		}
		t.Fatalf("%s has no role", account)
		return ""
	}
	viewer := Binding{Role: Viewer}
	for name, of := range map[string]struct {
		take func(o *office, who Actor)
		kind problem.Kind
	}{
		"token":   {func(o *office, who Actor) { o.must(o.Revoke(t.Context(), boss, who.TokenID)) }, problem.Unauthenticated},
		"role":    {func(o *office, _ Actor) { o.must(o.Unbind(t.Context(), boss, binding(o, "robot"))) }, problem.Denied},
		"account": {func(o *office, _ Actor) { o.must(o.RemoveAccount(t.Context(), boss, "robot")) }, problem.Unauthenticated},
		"disabled": {func(o *office, _ Actor) {
			_, err := o.SetDisabled(t.Context(), boss, "robot", true)
			o.must(err)
		}, problem.Unauthenticated},
		"sponsor": {func(o *office, _ Actor) {
			_, err := o.SetDisabled(t.Context(), boss, "ada", true)
			o.must(err)
		}, problem.Unauthenticated},
		"expiry": {func(o *office, _ Actor) { o.now = o.now.Add(time.Hour) }, problem.Unauthenticated},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := newOffice(t)
			_, err := o.Bootstrap(t.Context())
			o.must(err)
			o.add(Human, "ada", "")
			o.add(Human, "bob", "")
			o.add(Service, "robot", "ada", viewer)
			o.add(Service, "other", "bob", viewer)
			_, mine := o.token(boss, NewToken{Name: "t1", Account: "robot", Life: time.Hour})
			_, others := o.token(boss, NewToken{Name: "t2", Account: "other"})
			who := o.bearer(mine)
			one, two := o.open(who), o.open(o.bearer(others))
			seen := o.Look(t.Context(), -1)
			if one.Err() != nil || two.Err() != nil {
				t.Fatalf("cut though nothing was taken: %v, %v", context.Cause(one), context.Cause(two))
			}
			of.take(o, who)
			o.Look(t.Context(), seen)
			if err := Cut(one); !problem.Is(err, of.kind) {
				t.Errorf("it went on, or ended by %v", err)
			}
			if two.Err() != nil {
				t.Errorf("another's ended: %v", context.Cause(two))
			}
		})
	}
}

// TestASessionTakesItsStreamsAlong ends sessions in all ways that there are.
func TestASessionTakesItsStreamsAlong(t *testing.T) {
	t.Parallel()
	o := newOffice(t)
	_, err := o.Bootstrap(t.Context())
	o.must(err)
	o.add(Human, "ada", "", Binding{Role: Viewer})
	seen := int64(-1)
	for name, end := range map[string]func(s Session, cookie string){
		"ended":      func(s Session, _ string) { o.must(o.EndSession(t.Context(), boss, s.Session, "")) },
		"logged out": func(_ Session, cookie string) { o.must(o.Logout(t.Context(), cookie)) },
		"too many": func(Session, string) {
			for range maxSessions {
				o.now = o.now.Add(time.Second)
				o.session("ada", ByPasskey, true)
			}
		},
		"too old": func(Session, string) { o.now = o.now.Add(sessionLife) },
	} {
		cookie := o.session("ada", ByPasskey, true)
		s, err := o.Session(t.Context(), cookie)
		o.must(err)
		ctx := o.open(s.Actor)
		if seen = o.Look(t.Context(), seen); ctx.Err() != nil {
			t.Fatalf("%s: %v", name, context.Cause(ctx))
		}
		end(s, cookie)
		if seen = o.Look(t.Context(), seen); !problem.Is(Cut(ctx), problem.Unauthenticated) {
			t.Errorf("%s: it went on: %v", name, context.Cause(ctx))
		}
	}
}

// TestAGroupTakesItsStreamsAlong has the provider take a person out of a group.
func TestAGroupTakesItsStreamsAlong(t *testing.T) {
	t.Parallel()
	o := newOffice(t)
	_, err := o.Bootstrap(t.Context())
	o.must(err)
	_, err = o.Bind(t.Context(), boss, Binding{Role: Viewer, Group: "ops"})
	o.must(err)
	vouch := func(groups ...string) {
		_, err := o.Vouch(t.Context(), Vouched{Subject: "s", ID: "ada", Groups: groups, Until: o.now.Add(time.Hour)})
		o.must(err)
	}
	vouch("ops", "all")
	s, err := o.Session(t.Context(), o.session("ada", ByOIDC, true))
	o.must(err)
	ctx := o.open(s.Actor)
	seen := o.Look(t.Context(), -1)
	vouch("all", "ops")
	if seen = o.Look(t.Context(), seen); ctx.Err() != nil {
		t.Fatalf("the same groups: %v", context.Cause(ctx))
	}
	vouch("all")
	if seen = o.Look(t.Context(), seen); !problem.Is(Cut(ctx), problem.Denied) {
		t.Fatalf("out of the group, and it went on: %v", context.Cause(ctx))
	}
	vouch("ops")
	ctx = o.open(s.Actor)
	o.must(o.PutOut(t.Context(), "ada"))
	if o.Look(t.Context(), seen); !problem.Is(Cut(ctx), problem.Unauthenticated) {
		t.Fatalf("nobody vouches, and it went on: %v", context.Cause(ctx))
	}
}

// TestWhatCannotBeAskedCutsNothing has another plane not answer where a device
// is.
func TestWhatCannotBeAskedCutsNothing(t *testing.T) {
	t.Parallel()
	o := newOffice(t)
	secret, err := o.Bootstrap(t.Context())
	o.must(err)
	ctx, letGo := o.Hold(t.Context(), o.bearer(secret))
	Keep(ctx, func(context.Context, Actor) error { return problem.New(problem.NotReady, "nobody answers") })
	if o.Look(t.Context(), -1); ctx.Err() != nil {
		t.Fatalf("cut by %v", context.Cause(ctx))
	}
	letGo()
	if Cut(ctx) != nil || len(o.list()) != 0 {
		t.Errorf("%v; %d are kept", context.Cause(ctx), len(o.list()))
	}
}

func (o *office) list() []*Hold { return o.Access.open.list() }
