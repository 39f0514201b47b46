package drift

import (
	"context"
	"encoding/json"
	"maps"
	"slices"
	"strings"

	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/resource"
)

// likenesses puts each environment into the form in which it is held against
// others: without the names that are its own.
func (d *Drift) likenesses(ctx context.Context, v *view) (map[string]Likeness, error) {
	all := map[string]Likeness{}
	for _, env := range v.environments {
		name := env.Metadata.Name
		derivation, err := d.o.Fleet.Derivation(ctx, name)
		if err != nil {
			return nil, err
		}
		l := Likeness{Environment: name, Blueprint: env.Spec.Blueprint, PromotesFrom: env.Spec.PromotesFrom, Differs: derivation.Differs, Areas: map[string]any{}}
		spec := env.Spec
		spec.DisplayName, spec.PromotesFrom, spec.Blueprint, spec.Differences = "", "", "", nil
		l.Areas["environment"] = document(spec)
		if l.Areas["routes"], err = d.routesLike(ctx, name); err != nil {
			return nil, err
		}
		if l.Areas["flags"], err = d.o.FlagsOf(ctx, name); err != nil {
			return nil, err
		}
		configurations, err := d.o.Configurations(ctx, name)
		if err != nil {
			return nil, err
		}
		l.Areas["configurations"] = document(configurationsOf(configurations))
		d.stampsLike(v, &l)
		l.Areas["enrolments"] = enrolmentsLike(v, name)
		all[name] = l
	}
	return all, nil
}

// document is a value as encoding/json reads it, with its numbers as they are.
func document(value any) any {
	v, _ := decoded(text(value))
	return v
}

// Document is JSON in the form in which environments are compared.
func Document(text json.RawMessage) any {
	v, _ := decoded(text)
	return v
}

// ownName is a name without that of the environment before it.
func ownName(environment, name string) string { return strings.TrimPrefix(name, environment+"-") }

func (d *Drift) routesLike(ctx context.Context, environment string) (any, error) {
	routes, err := d.o.Fleet.LinkedRoutes(ctx, environment)
	if err != nil {
		return nil, err
	}
	all := make([]link.ReleaseRoute, len(routes))
	for i, r := range routes {
		r.Spec.Environment = ""
		all[i] = link.ReleaseRoute{Name: ownName(environment, r.Name), Spec: resource.MaskRoute(r.Spec)}
	}
	return document(all), nil
}

// stampsLike takes in the stamps of an environment, and what they run.
func (d *Drift) stampsLike(v *view, l *Likeness) {
	var stamps []map[string]any
	releases, versions, models := map[string]bool{}, map[string]bool{}, map[string]bool{}
	limits := map[string]any{}
	for _, s := range v.stamps {
		if s.Spec.Environment != l.Environment {
			continue
		}
		name := s.Metadata.Name
		one, _ := document(s.Spec).(map[string]any)
		for _, own := range []string{"environment", "state", "host", "local"} {
			delete(one, own)
		}
		one["name"] = ownName(l.Environment, name)
		stamps = append(stamps, one)
		r := v.running[name]
		if r.Base != "" {
			releases[r.Base] = true
		}
		l.Release = max(l.Release, r.Counter)
		if o, told := d.o.Fleet.Observed(name); told {
			versions[o.Version] = true
			limits[ownName(l.Environment, name)] = o.Limits
		}
		if one := d.samples[name]; one != nil {
			for model := range one.shown() {
				if model != "" {
					models[model] = true
				}
			}
		}
	}
	l.Areas["stamps"] = document(stamps)
	l.Areas["release"] = document(map[string]any{"names": slices.Sorted(maps.Keys(releases))})
	l.Areas["versions"] = document(map[string]any{"program": slices.Sorted(maps.Keys(versions))})
	l.Areas["devices"] = document(map[string]any{"models": slices.Sorted(maps.Keys(models))})
	l.Areas["limits"] = document(limits)
}

// enrolmentsLike is how devices come into an environment: which kinds of
// attestation, allocation and re-provisioning there are.
func enrolmentsLike(v *view, environment string) any {
	kinds := map[string]map[string]bool{"attestation": {}, "allocation": {}, "reprovision": {}}
	for _, s := range v.subjects {
		var spec link.EnrollmentSpec
		if s.Kind != "enrolment" || s.Environment != environment || json.Unmarshal(s.Live, &spec) != nil {
			continue
		}
		switch a := spec.Attestation; {
		case a.SymmetricKey != nil:
			kinds["attestation"]["symmetricKey"] = true
		case a.X509 != nil:
			kinds["attestation"]["x509"] = true
		case a.TPM != nil:
			kinds["attestation"]["tpm"] = true
		}
		if spec.Allocation != nil {
			kinds["allocation"][spec.Allocation.Policy] = true
		}
		if spec.Reprovision != "" {
			kinds["reprovision"][spec.Reprovision] = true
		}
	}
	all := map[string]any{}
	for what, names := range kinds {
		if len(names) > 0 {
			all[what] = slices.Sorted(maps.Keys(names))
		}
	}
	return document(all)
}
