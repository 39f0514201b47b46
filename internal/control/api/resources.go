package api

import (
	"context"

	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/resource"
)

// Named is a resource named in the path.
type Named struct {
	Name string `path:"name" maxLength:"128"`
}

type dropNamed struct {
	Named
	IfMatch string `header:"If-Match" doc:"ETag the stored resource must have"`
}

type putNamed[T any] struct {
	Named
	IfMatch string `header:"If-Match" doc:"ETag the stored resource must have; * for any"`
	DryRun  bool   `query:"dryRun" doc:"Check and answer what would be stored, store nothing"`
	Body    T
}

type nothing struct{}

// declared is a resource as people send it.
type declared[Spec any] struct {
	APIVersion string             `json:"apiVersion,omitempty" enum:"slipway/v1"`
	Kind       string             `json:"kind,omitempty"`
	Metadata   *resource.Metadata `json:"metadata,omitempty"`
	Spec       Spec               `json:"spec"`
	Status     any                `json:"status,omitempty" doc:"Ignored"`
}

// resources registers environments, stamps and enrolments.
func (a *api) resources() {
	route(a, "GET", "/api/v1/environments", "listEnvironments", "Environments in order of promotion", func(ctx context.Context, _ *nothing) (*body[list[resource.Environment]], error) {
		all, err := a.Environments.List(ctx)
		return listOf(all, ""), err
	})
	route(a, "GET", "/api/v1/environments/{name}", "getEnvironment", "One environment", func(ctx context.Context, in *Named) (*tagged[resource.Environment], error) {
		env, err := a.Environments.Get(ctx, in.Name)
		return &tagged[resource.Environment]{quote(env.Metadata.ETag), env}, err
	})
	route(a, "PUT", "/api/v1/environments/{name}", "putEnvironment", "Create or replace an environment", func(ctx context.Context, in *putNamed[declared[resource.EnvironmentSpec]]) (*tagged[resource.Environment], error) {
		env, err := a.Environments.Put(ctx, actorOf(ctx), in.Name, in.Body.Spec, in.IfMatch, in.DryRun)
		return &tagged[resource.Environment]{quote(env.Metadata.ETag), env}, err
	})
	route(a, "DELETE", "/api/v1/environments/{name}", "deleteEnvironment", "Delete an environment without stamps", func(ctx context.Context, in *dropNamed) (*nothing, error) {
		return &nothing{}, a.Environments.Delete(ctx, actorOf(ctx), in.Name, in.IfMatch)
	})
	route(a, "GET", "/api/v1/stamps", "listStamps", "Stamps in order of name", func(ctx context.Context, _ *nothing) (*body[list[resource.Stamp]], error) {
		all, err := a.Fleet.Stamps(ctx)
		return listOf(all, ""), err
	})
	route(a, "GET", "/api/v1/stamps/{name}", "getStamp", "One stamp", func(ctx context.Context, in *Named) (*tagged[resource.Stamp], error) {
		s, err := a.Fleet.Stamp(ctx, in.Name)
		return &tagged[resource.Stamp]{quote(s.Metadata.ETag), s}, err
	})
	route(a, "PUT", "/api/v1/stamps/{name}", "putStamp", "Create or replace a stamp", func(ctx context.Context, in *putNamed[declared[resource.StampSpec]]) (*tagged[resource.Stamp], error) {
		s, err := a.Environments.PutStamp(ctx, actorOf(ctx), in.Name, in.Body.Spec, in.IfMatch, in.DryRun)
		return &tagged[resource.Stamp]{quote(s.Metadata.ETag), s}, err
	})
	route(a, "DELETE", "/api/v1/stamps/{name}", "deleteStamp", "Delete a closed stamp without devices", func(ctx context.Context, in *dropNamed) (*nothing, error) {
		return &nothing{}, a.Environments.DeleteStamp(ctx, actorOf(ctx), in.Name, in.IfMatch)
	})
	a.enrollments("enrollments", "Enrollment", link.Individual)
	a.enrollments("enrollment-groups", "EnrollmentGroup", link.Group)
}

type getEnrollment struct {
	Named
	Secrets bool `query:"secrets" doc:"Answer with the symmetric keys; recorded in the audit log"`
}

type listEnrollments struct {
	After   string `query:"after"`
	Limit   int    `query:"limit" minimum:"1" maximum:"1000"`
	Secrets bool   `query:"secrets" doc:"Answer with the symmetric keys; recorded in the audit log"`
}

// enrollments registers the routes of one of the two kinds.
func (a *api) enrollments(plural, name string, kind link.EnrollmentKind) {
	base := "/api/v1/" + plural
	route(a, "GET", base, "list"+name+"s", "Enrolments in order of name", func(ctx context.Context, in *listEnrollments) (*body[list[resource.Enrollment]], error) {
		page, err := a.Fleet.Enrollments(ctx, link.ListEnrollments{Kind: kind, After: in.After, Limit: in.Limit})
		if err != nil {
			return nil, err
		}
		if in.Secrets {
			if err := a.Fleet.SecretsRead(ctx, actorOf(ctx), link.EnrollmentRef{Kind: kind, Name: "*"}); err != nil {
				return nil, err
			}
		}
		var items []resource.Enrollment
		next := ""
		for _, e := range page.Items {
			items = append(items, shownEnrollment(e, in.Secrets))
			if page.More {
				next = e.Name
			}
		}
		return listOf(items, next), nil
	})
	route(a, "GET", base+"/{name}", "get"+name, "One enrolment", func(ctx context.Context, in *getEnrollment) (*tagged[resource.Enrollment], error) {
		ref := link.EnrollmentRef{Kind: kind, Name: in.Name}
		e, err := a.Fleet.Enrollment(ctx, ref)
		if err == nil && in.Secrets {
			err = a.Fleet.SecretsRead(ctx, actorOf(ctx), ref)
		}
		return &tagged[resource.Enrollment]{quote(e.ETag), shownEnrollment(e, in.Secrets)}, err
	})
	route(a, "PUT", base+"/{name}", "put"+name, "Create or replace an enrolment", func(ctx context.Context, in *putNamed[declared[link.EnrollmentSpec]]) (*tagged[resource.Enrollment], error) {
		if err := resource.CheckName(string(kind), in.Name); err != nil {
			return nil, err
		}
		e, err := a.Fleet.PutEnrollment(ctx, actorOf(ctx), link.PutEnrollment{Kind: kind, Name: in.Name, IfMatch: in.IfMatch, Spec: in.Body.Spec, DryRun: in.DryRun})
		return &tagged[resource.Enrollment]{quote(e.ETag), shownEnrollment(e, false)}, err
	})
	route(a, "DELETE", base+"/{name}", "delete"+name, "Delete an enrolment; its devices stay", func(ctx context.Context, in *dropNamed) (*nothing, error) {
		return &nothing{}, a.Fleet.DeleteEnrollment(ctx, actorOf(ctx), link.EnrollmentRef{Kind: kind, Name: in.Name, IfMatch: in.IfMatch})
	})
}

// shownEnrollment shows an enrolment without its keys unless they are asked
// for. An empty symmetricKey keeps the stored keys when it is applied again.
func shownEnrollment(e link.Enrollment, secrets bool) resource.Enrollment {
	if e.Spec.Attestation.SymmetricKey != nil && !secrets {
		e.Spec.Attestation.SymmetricKey = &link.SymmetricKey{}
	}
	created, updated := e.CreatedAt, e.UpdatedAt
	return resource.Enrollment{
		APIVersion: resource.APIVersion, Kind: string(e.Kind), Spec: e.Spec, Status: &resource.EnrollmentStatus{Devices: e.Devices},
		Metadata: resource.Metadata{Name: e.Name, ETag: e.ETag, CreatedAt: &created, UpdatedAt: &updated},
	}
}
