package drift

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/resource"
)

// view is everything one look saw.
type view struct {
	now          time.Time
	environments []resource.Environment
	stamps       []resource.Stamp
	running      map[string]Running
	flags        map[string]string
	subjects     []Subject
}

// collect asks everybody what they hold, and puts it beside what is declared.
func (d *Drift) collect(ctx context.Context) ([]Subject, map[string]Likeness, error) {
	v := view{now: d.o.Now().UTC(), running: map[string]Running{}}
	var err error
	if v.environments, err = d.o.Fleet.List(ctx); err != nil {
		return nil, nil, err
	}
	if v.stamps, err = d.o.Fleet.Stamps(ctx); err != nil {
		return nil, nil, err
	}
	running, err := d.o.Running(ctx)
	if err != nil {
		return nil, nil, err
	}
	for _, r := range running {
		v.running[r.Stamp] = r
	}
	if v.flags, err = d.o.Flags(ctx); err != nil {
		return nil, nil, err
	}
	d.ask(ctx, &v)
	for _, look := range []func(context.Context, *view) error{d.templates, d.stamps, d.directory, d.enrolments, d.devices} {
		if err := look(ctx, &v); err != nil {
			return nil, nil, err
		}
	}
	likes, err := d.likenesses(ctx, &v)
	return v.subjects, likes, err
}

// askTime is how long a stamp may take to say what it holds.
const askTime = 5 * time.Second

// ask asks every stamp what it holds. One that does not answer keeps what it
// said last, until that is stale.
func (d *Drift) ask(ctx context.Context, v *view) {
	ctx, done := context.WithTimeout(ctx, askTime)
	defer done()
	answers, failures := make([]link.Held, len(v.stamps)), make([]error, len(v.stamps))
	var asking sync.WaitGroup
	for i, s := range v.stamps {
		asking.Go(func() { answers[i], failures[i] = d.o.Held(ctx, s.Metadata.Name) })
	}
	asking.Wait()
	d.mu.Lock()
	defer d.mu.Unlock()
	for i, s := range v.stamps {
		name := s.Metadata.Name
		last := d.held[name]
		if last.why = ""; failures[i] != nil {
			last.why = problem.Of(failures[i]).Message
		} else {
			last.Held, last.at = answers[i], d.o.Now().UTC()
		}
		d.held[name] = last
	}
	maps.DeleteFunc(d.held, func(name string, _ heldAt) bool {
		return !slices.ContainsFunc(v.stamps, func(s resource.Stamp) bool { return s.Metadata.Name == name })
	})
}

func (d *Drift) heldBy(stamp string) heldAt {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.held[stamp]
}

// sets are the lists whose order says nothing, of all documents of ours.
var sets = []string{
	"/tenants", "/growth/*/stamp/tenants", "/signing/keys", "/promotion/gates", "/promotion/verify", "/promotion/freeze", "/promotion/webhooks",
	"/promotion/gates/*/tests/suites", "/promotion/gates/*/approvals/from", "/promotion/gates/*/flags/except", "/differences", "/regions", "/stamps", "/endpoint/kafka/brokers",
	"/allocation/stamps",
}

// templates holds environments, stamps and routes against their blueprint.
func (d *Drift) templates(ctx context.Context, v *view) error {
	for _, env := range v.environments {
		name := env.Metadata.Name
		want, found, err := d.o.Fleet.Template(ctx, name)
		if err != nil || !found {
			if err != nil {
				return err
			}
			continue
		}
		at := Subject{Environment: name, SeenAt: v.now, Sets: sets}
		at.Kind, at.Object, at.Declared, at.Live, at.ChangedAt = "environment", "environment/"+name, text(want.Environment), text(env.Spec), changed(env.Metadata)
		v.subjects = append(v.subjects, at)
		have := map[string]json.RawMessage{}
		for _, s := range v.stamps {
			if s.Spec.Environment == name {
				have[s.Metadata.Name] = text(stateless(s.Spec))
			}
		}
		wanted := map[string]json.RawMessage{}
		for own, s := range want.Stamps {
			wanted[own] = text(stateless(s))
		}
		v.beside(at, "stamp", "by its blueprint", wanted, have)
		routes, err := d.o.Fleet.LinkedRoutes(ctx, name)
		if err != nil {
			return err
		}
		wanted, have = map[string]json.RawMessage{}, map[string]json.RawMessage{}
		for _, r := range routes {
			have[r.Name] = text(Digested(r.Spec))
		}
		for own, r := range want.Routes {
			wanted[own] = text(Digested(r))
		}
		v.beside(at, "route", "by its blueprint", wanted, have)
	}
	return nil
}

// beside adds a subject for each name that is declared or there.
func (v *view) beside(like Subject, kind, where string, declared, live map[string]json.RawMessage) {
	names := maps.Clone(declared)
	maps.Copy(names, live)
	for _, name := range slices.Sorted(maps.Keys(names)) {
		s := like
		s.Kind, s.Object, s.Declared, s.Live = kind, strings.TrimSpace(kind+"/"+name+" "+where), declared[name], live[name]
		v.subjects = append(v.subjects, s)
	}
}

func changed(m resource.Metadata) time.Time {
	if m.UpdatedAt == nil {
		return time.Time{}
	}
	return *m.UpdatedAt
}

// stateless is a stamp without its state, which is how it is operated.
func stateless(s resource.StampSpec) resource.StampSpec {
	s.State = ""
	return s
}

// Digested is a route with digests in the places of its secrets, so that it
// can be compared where they may not be known.
func Digested(s link.RouteSpec) link.RouteSpec {
	out, err := resource.Secrets(s, func(secret string) (string, error) {
		if _, named := resource.IsReference(secret); named {
			return secret, nil
		}
		sum := sha256.Sum256([]byte(link.SecretSalt + secret))
		return "sha256:" + hex.EncodeToString(sum[:]), nil
	})
	if err != nil {
		return link.RouteSpec{}
	}
	return out
}

// stamps holds what each stamp holds and tells against what it is to have.
func (d *Drift) stamps(ctx context.Context, v *view) error {
	for _, s := range v.stamps {
		name := s.Metadata.Name
		held := d.heldBy(name)
		like := Subject{Environment: s.Spec.Environment, Stamp: name, SeenAt: held.at, Unseen: held.why, ChangedAt: changed(s.Metadata), Sets: sets}
		if held.at.IsZero() || v.now.Sub(held.at) > staleAfter {
			like.Kind, like.Object = "stamp", "stamp/"+name
			v.subjects = append(v.subjects, like) // stale: nothing else can be said of it
			continue
		}
		on := "on " + name
		wanted, err := d.o.Fleet.Wanted(ctx, name)
		if err != nil {
			return err
		}
		v.beside(like, "route", on, routesOf(wanted.Routes), heldRoutes(held.Routes))
		one := func(kind, object string, declared, live any) {
			s := like
			s.Kind, s.Object, s.Declared, s.Live = kind, object+" "+on, text(declared), text(live)
			v.subjects = append(v.subjects, s)
		}
		r := v.running[name]
		one("release", "release", map[string]any{"base": r.Base, "rollout": r.Release}, map[string]any{"base": held.Base, "rollout": held.Rollout})
		if version, known := v.flags[name]; known {
			one("flags", "flags", version, held.Flags)
		}
		if o, told := d.o.Fleet.Observed(name); told && o.Version != "" && d.o.Version != "" {
			one("version", "program", d.o.Version, o.Version)
		}
		if s.Spec.Host != "" && s.Status != nil {
			one("stamp", "host", s.Spec.Host, bare(s.Status.Host))
		}
		configurations, err := d.o.Configurations(ctx, s.Spec.Environment)
		if err != nil {
			return err
		}
		v.beside(like, "configuration", on, configurationsOf(configurations), configurationsOf(held.Configurations))
	}
	return d.tenants(ctx, v)
}

func bare(host string) string {
	name, _, _ := strings.Cut(host, ":")
	return name
}

func routesOf(all []link.Route) map[string]json.RawMessage {
	out := map[string]json.RawMessage{}
	for _, r := range all {
		r.Spec.Environment = "" // it is the stamp's
		out[r.Name] = text(Digested(r.Spec))
	}
	return out
}

// heldRoutes are routes as a stamp tells of them: with digests already.
func heldRoutes(all []link.Route) map[string]json.RawMessage {
	out := map[string]json.RawMessage{}
	for _, r := range all {
		r.Spec.Environment = ""
		out[r.Name] = text(r.Spec)
	}
	return out
}

func configurationsOf(all []link.HeldConfiguration) map[string]json.RawMessage {
	out := map[string]json.RawMessage{}
	for _, c := range all {
		out[c.ID] = text(c)
	}
	return out
}

// tenants holds the tenants of each stamp, and of provisioning, against those
// declared.
func (d *Drift) tenants(ctx context.Context, v *view) error {
	want, err := d.o.Fleet.Directory(ctx)
	if err != nil {
		return err
	}
	for _, s := range v.stamps {
		held := d.heldBy(s.Metadata.Name)
		if held.at.IsZero() || v.now.Sub(held.at) > staleAfter {
			continue
		}
		like := Subject{Environment: s.Spec.Environment, Stamp: s.Metadata.Name, SeenAt: held.at, Sets: sets}
		v.beside(like, "tenant", "on "+s.Metadata.Name, tenantsOf(want.Tenants), tenantsOf(held.Tenants))
	}
	return nil
}

func tenantsOf(all []link.Tenant) map[string]json.RawMessage {
	out := map[string]json.RawMessage{}
	for _, t := range all {
		out[t.Name] = text(t)
	}
	return out
}

// directory holds provisioning's copy against what is declared.
func (d *Drift) directory(ctx context.Context, v *view) error {
	want, err := d.o.Fleet.Directory(ctx)
	if err != nil {
		return err
	}
	asking, done := context.WithTimeout(ctx, askTime)
	defer done()
	have, err := d.o.HeldDirectory(asking)
	if err != nil {
		v.subjects = append(v.subjects, Subject{Kind: "directory", Object: "provisioning's directory", Unseen: problem.Of(err).Message})
		return nil
	}
	like := Subject{SeenAt: v.now, Sets: sets}
	for _, env := range v.environments {
		own := like
		own.Environment, own.ChangedAt = env.Metadata.Name, changed(env.Metadata)
		v.beside(own, "environment", "at provisioning", inDirectory(want, env.Metadata.Name), inDirectory(have, env.Metadata.Name))
	}
	names := map[string]bool{}
	for _, s := range slices.Concat(want.Stamps, have.Stamps) {
		if names[s.Name] {
			continue
		}
		names[s.Name] = true
		own := like
		own.Environment, own.Stamp = s.Environment, s.Name
		v.beside(own, "stamp", "at provisioning", stampIn(want, s.Name), stampIn(have, s.Name))
	}
	v.beside(like, "tenant", "at provisioning", tenantsOf(want.Tenants), tenantsOf(have.Tenants))
	return nil
}

func inDirectory(d link.Directory, name string) map[string]json.RawMessage {
	out := map[string]json.RawMessage{}
	for _, e := range d.Environments {
		if e.Name == name {
			out[name] = text(e)
		}
	}
	return out
}

func stampIn(d link.Directory, name string) map[string]json.RawMessage {
	out := map[string]json.RawMessage{}
	for _, s := range d.Stamps {
		if s.Name == name {
			s.Local = false // who starts it is control's alone
			out[name] = text(s)
		}
	}
	return out
}
