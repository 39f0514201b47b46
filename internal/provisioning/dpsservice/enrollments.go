package dpsservice

import (
	"encoding/json"
	"net/http"
	"strings"

	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/provisioning/dpswire"
)

func (c *call) ref() link.EnrollmentRef { return link.EnrollmentRef{Kind: c.kind, Name: c.name} }

func (e *Edge) getEnrollment(c *call) (answer, error) {
	found, err := e.Enrollments.Get(c.ctx(), c.ref())
	if err != nil {
		return answer{}, err
	}
	return e.shown(c, found), nil
}

// shown adds to an individual enrolment how its registration stands.
func (e *Edge) shown(c *call, found link.Enrollment) answer {
	view := show(found, e.Directory.Current())
	if found.Kind == link.Individual {
		if op, err := e.Registrations.Lookup(c.ctx(), found.Name); err == nil {
			state := dpswire.One(op)
			view.Registration = &state
		}
	}
	return answer{body: view, header: map[string]string{"ETag": `"` + found.ETag + `"`}}
}

func (e *Edge) putEnrollment(c *call) (answer, error) {
	var sent enrolment
	if err := json.Unmarshal(c.body, &sent); err != nil {
		return answer{}, problem.New(problem.Invalid, "the body is not an enrolment: %w", err)
	}
	for _, id := range []string{sent.RegistrationID, sent.GroupID} {
		if id != "" && !strings.EqualFold(id, c.name) {
			return answer{}, problem.New(problem.Invalid, "the body is about another enrolment than the path")
		}
	}
	stored, err := e.put(c, c.name, sent, c.ifMatch())
	if err != nil {
		return answer{}, err
	}
	return e.shown(c, stored), nil
}

// put creates an enrolment, or with an ETag replaces one.
func (e *Edge) put(c *call, name string, sent enrolment, ifMatch string) (link.Enrollment, error) {
	var before *link.EnrollmentSpec
	if ifMatch != "" {
		found, err := e.Enrollments.Get(c.ctx(), link.EnrollmentRef{Kind: c.kind, Name: name})
		if err != nil {
			return found, err
		}
		before = &found.Spec
	}
	if link.IsProbe(name) {
		return link.Enrollment{}, problem.New(problem.Invalid, "the name %s is for Slipway's own probes", name).At("name")
	}
	spec, err := sent.spec(before, e.Directory.Current())
	if err != nil {
		return link.Enrollment{}, err
	}
	return e.Enrollments.Put(c.ctx(), link.PutEnrollment{Kind: c.kind, Name: name, Spec: spec, IfMatch: ifMatch, New: ifMatch == ""})
}

func (e *Edge) deleteEnrollment(c *call) (answer, error) {
	ref := c.ref()
	ref.IfMatch = c.ifMatch()
	return answer{}, e.Enrollments.Delete(c.ctx(), ref)
}

func (e *Edge) getAttestation(c *call) (answer, error) {
	found, err := e.Enrollments.Get(c.ctx(), c.ref())
	return answer{body: showAttestation(found.Spec.Attestation, true)}, err
}

func (e *Edge) queryEnrollments(c *call) (answer, error) {
	source := "enrollments"
	if c.kind == link.Group {
		source = "enrollmentGroups"
	}
	after, limit, err := c.page(source)
	if err != nil {
		return answer{}, err
	}
	page, err := e.Enrollments.List(c.ctx(), link.ListEnrollments{Kind: c.kind, After: after, Limit: limit})
	if err != nil {
		return answer{}, err
	}
	views, header := []enrolment{}, map[string]string{"X-Ms-Item-Type": source}
	for _, found := range page.Items {
		views = append(views, show(found, e.Directory.Current()))
	}
	if page.More {
		header[continuationHeader] = c.next(page.Items[len(page.Items)-1].Name)
	}
	return answer{body: views, header: header}, nil
}

// maxBulk is how many enrolments one request changes.
const maxBulk = 10_000

type bulkError struct {
	RegistrationID string `json:"registrationId,omitempty"`
	GroupID        string `json:"enrollmentGroupId,omitempty"`
	ErrorCode      int    `json:"errorCode"`
	ErrorStatus    string `json:"errorStatus"`
}

// bulk does one thing to many enrolments; what fails does not stop the others.
func (e *Edge) bulk(c *call) (answer, error) {
	var sent struct {
		Mode        string      `json:"mode"`
		Individuals []enrolment `json:"enrollments"`
		Groups      []enrolment `json:"enrollmentGroups"`
	}
	if err := json.Unmarshal(c.body, &sent); err != nil {
		return answer{}, problem.New(problem.Invalid, "the body is not a bulk operation: %w", err)
	}
	all := append(sent.Individuals, sent.Groups...)
	if len(all) == 0 || len(all) > maxBulk {
		return answer{}, problem.New(problem.Invalid, "one request changes 1 to %d enrolments, not %d", maxBulk, len(all))
	}
	failed := []bulkError{}
	for _, one := range all {
		name := one.RegistrationID + one.GroupID // one of the two is there
		if err := e.bulkOne(c, strings.ToLower(sent.Mode), name, one); err != nil {
			f := bulkError{ErrorCode: dpswire.ErrorCode(err), ErrorStatus: problem.Of(err).Error(), RegistrationID: one.RegistrationID, GroupID: one.GroupID}
			failed = append(failed, f)
		}
	}
	a := answer{body: map[string]any{"isSuccessful": len(failed) == 0, "errors": failed}}
	if len(failed) == len(all) {
		a.status = http.StatusBadRequest
	}
	return a, nil
}

func (e *Edge) bulkOne(c *call, mode, name string, one enrolment) error {
	etag := strings.Trim(one.ETag, `"`)
	var err error
	switch mode {
	case "create":
		_, err = e.put(c, name, one, "")
	case "update":
		_, err = e.put(c, name, one, "*")
	case "updateifmatchetag":
		if etag == "" {
			return problem.New(problem.Invalid, "the ETag is missing").At("etag")
		}
		_, err = e.put(c, name, one, etag)
	case "delete":
		err = e.Enrollments.Delete(c.ctx(), link.EnrollmentRef{Kind: c.kind, Name: name})
	default:
		err = problem.New(problem.Invalid, "a mode is create, update, updateIfMatchETag or delete, not %q", mode).At("mode")
	}
	return err
}
