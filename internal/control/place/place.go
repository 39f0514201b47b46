// Package place holds what each route asks for: a permission, and where the
// place is in which that must hold. The edges keep a table of such lines, and
// this package finds the environment, stamp and tenant of what a request names.
package place

import (
	"context"

	"github.com/slipway/slipway/internal/control/access"
	"github.com/slipway/slipway/internal/problem"
)

// Said is what a request says in one of its fields; nothing if it has none.
type Said func(field string) []string

func (s Said) one(field string) string {
	if all := s(field); len(all) > 0 {
		return all[0]
	}
	return ""
}

// Where finds the places that a request is about, by the fields it names.
type Where struct {
	fields []string
	find   func(ctx context.Context, f *Finder, said Said) ([]access.Place, error)
}

// Line is what one route asks for.
type Line struct {
	Needs access.Permission
	Where
	secrets *Where            // where secret.read is asked for too, when the request wants secrets
	trial   access.Permission // asked for instead, when the request only tries
	// Else is a permission that lets pass, too.
	Else access.Permission
}

// The fields that make a request ask for more, or for less.
const (
	secretsField = "secrets"
	trialField   = "dryRun"
)

// Asking makes a line.
func Asking(p access.Permission, where Where) Line { return Line{Needs: p, Where: where} }

// OrSecrets is the line of a route that answers with the secrets of some
// places if it is told to.
func (l Line) OrSecrets(where Where) Line {
	l.secrets = &where
	return l
}

// OrTrial is the line of a route that changes nothing if it is told so, and
// then is like reading.
func (l Line) OrTrial(p access.Permission) Line {
	l.trial = p
	return l
}

// OrElse is the line of a route that another permission opens as well.
func (l Line) OrElse(p access.Permission) Line {
	l.Else = p
	return l
}

// Fields are those that the line reads; a route must have them all.
func (l Line) Fields() []string {
	fields := append([]string(nil), l.fields...)
	if l.secrets != nil {
		fields = append(append(fields, l.secrets.fields...), secretsField)
	}
	if l.trial != "" {
		fields = append(fields, trialField)
	}
	return fields
}

// Check lets an actor pass or says what is missing.
func (l Line) Check(ctx context.Context, people Checker, f *Finder, actor access.Actor, said Said) error {
	needs := l.Needs
	if l.trial != "" && said.one(trialField) == "true" {
		needs = l.trial
	}
	err := people.Check(ctx, actor, needs, l.in(f, said))
	if problem.Is(err, problem.Denied) && l.Else != "" && people.Check(ctx, actor, l.Else, l.in(f, said)) == nil {
		err = nil
	}
	if err != nil {
		return err
	}
	if l.secrets != nil && said.one(secretsField) == "true" {
		return people.Check(ctx, actor, access.SecretRead, l.secrets.in(f, said))
	}
	return nil
}

// CheckOn is Check for a request that may go on: it ends once the line would
// not let the actor pass any more.
func (l Line) CheckOn(ctx context.Context, people Checker, f *Finder, actor access.Actor, said Said) error {
	err := l.Check(ctx, people, f, actor, said)
	if err == nil {
		access.Keep(ctx, func(ctx context.Context, actor access.Actor) error { return l.Check(ctx, people, f, actor, said) })
	}
	return err
}

func (w Where) in(f *Finder, said Said) access.Find {
	if w.find == nil {
		return access.Anywhere
	}
	return func(ctx context.Context) ([]access.Place, error) { return w.find(ctx, f, said) }
}

// Checker decides; it is access.Access.
type Checker interface {
	Check(ctx context.Context, actor access.Actor, p access.Permission, find access.Find) error
}
