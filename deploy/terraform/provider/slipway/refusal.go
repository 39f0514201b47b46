package slipway

import (
	"slices"
	"strconv"
	"strings"

	"github.com/hashicorp/terraform-plugin-framework/diag"
	"github.com/hashicorp/terraform-plugin-framework/path"

	"github.com/slipway/slipway/internal/problem"
)

// summaries say what sort of failure an error is, above the sentence that the
// installation says itself.
var summaries = map[problem.Kind]string{
	problem.Invalid: "The installation refuses this", problem.Denied: "The token may not do this", problem.Unauthenticated: "The token is not known",
	problem.Conflict: "The installation is not in a state for this", problem.Stale: "It has changed since the plan was made", problem.NotReady: "The installation does not answer",
	problem.NotFound: "It is not there", problem.TimedOut: "The installation did not answer in time", problem.Busy: "The installation is busy", problem.TooLarge: "It is too large",
}

// remedies say what to do where the sentence does not.
var remedies = map[problem.Kind]string{
	problem.Denied:          "Use a token whose role may, or ask for a grant: `slipway grant request --help`.",
	problem.Unauthenticated: "Give the provider a token that is valid: `slipway token create NAME` makes one.",
	problem.Stale:           "Plan again, look at what would be done now, and apply that.",
}

// refused puts a failure at the attribute that it is about.
func (f field) refused(diagnostics *diag.Diagnostics, err error) {
	p := problem.Of(err)
	summary, known := summaries[p.Kind]
	if !known {
		summary = "The installation failed"
	}
	detail := p.Message
	if remedy := remedies[p.Kind]; remedy != "" {
		detail += "\n\n" + remedy
	}
	if at, ok := f.at(p.Field); ok {
		diagnostics.AddAttributeError(at, summary, detail)
		return
	}
	diagnostics.AddError(summary, detail)
}

// at is the attribute that a field of the API is, as deep as it is known.
func (f field) at(place string) (at path.Path, found bool) {
	here := f
	for _, prefix := range []string{"spec.", "metadata.", "overlay."} {
		place = strings.TrimPrefix(place, prefix)
	}
	for _, segment := range strings.FieldsFunc(place, func(r rune) bool { return r == '.' || r == '[' || r == ']' }) {
		index, err := strconv.Atoi(segment)
		switch {
		case here.form == list && err == nil:
			at, here = at.AtListIndex(index), *here.of
		case here.form == mapping:
			at, here = at.AtMapKey(segment), *here.of
		case here.form == object:
			i := slices.IndexFunc(here.members, func(m field) bool { return m.key == segment })
			if i < 0 {
				return at, found
			}
			here = here.members[i]
			at = at.AtName(here.name)
		default:
			return at, found
		}
		found = true
	}
	return at, found
}

// references are the fields by which resources name others, which the same
// plan may make first.
var references = []string{"spec.environment", "spec.promotesFrom", "spec.autoMove.to", "spec.allocation.stamps", "spec.tenant", "spec.tenants", "spec.stamps", "spec.promotion"}

// refers tells whether a refusal is about another resource that is not there.
func refers(err error) bool {
	p := problem.Of(err)
	return err != nil && p.Kind == problem.Invalid && slices.ContainsFunc(references, func(r string) bool { return p.Field == r || strings.HasPrefix(p.Field, r+"[") })
}
