package dpsservice

import (
	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/provisioning/dpswire"
)

func (e *Edge) getRegistration(c *call) (answer, error) {
	op, err := e.Registrations.Lookup(c.ctx(), c.name)
	return answer{body: dpswire.One(op)}, err
}

// deleteRegistration takes the device off its stamp; it has to register again.
// The record stays, with its history.
func (e *Edge) deleteRegistration(c *call) (answer, error) {
	return answer{}, e.Registrations.Release(c.ctx(), c.name, "its registration was deleted by a back end")
}

// queryRegistrations lists the registrations made through a group.
func (e *Edge) queryRegistrations(c *call) (answer, error) {
	after, limit, err := c.page("enrollmentGroups")
	if err != nil {
		return answer{}, err
	}
	group, err := e.Enrollments.Get(c.ctx(), link.EnrollmentRef{Kind: link.Group, Name: c.name})
	if err != nil {
		return answer{}, err
	}
	ops, more, err := e.Registrations.Enrolled(c.ctx(), link.Group, group.Name, after, limit)
	if err != nil {
		return answer{}, err
	}
	views, header := []dpswire.StateOfOne{}, map[string]string{"X-Ms-Item-Type": "registrations"}
	for _, op := range ops {
		views = append(views, dpswire.One(op))
	}
	if more {
		header[continuationHeader] = c.next(ops[len(ops)-1].Record.DeviceID)
	}
	return answer{body: views, header: header}, nil
}
