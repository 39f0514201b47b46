// Package configuration keeps what devices are configured with beside releases:
// documents that are checked against a schema, have versions, and are promoted
// from environment to environment like releases. What an environment has in
// force follows from these records alone, and goes back by one command.
package configuration

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/slipway/slipway/internal/control/gate"
	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/resource"
)

// The limits of configurations.
const (
	maxContent  = 64 << 10 // of a version, as JSON
	maxMembers  = 200
	maxPriority = 1_000_000
	maxText     = 2000
	maxTarget   = 4000
)

// Definition says what a configuration may hold, and which devices it is for.
type Definition struct {
	Name        string          `json:"name"`
	Description string          `json:"description,omitempty" maxLength:"2000"`
	Owner       string          `json:"owner,omitempty" maxLength:"200" doc:"Who answers for it"`
	Schema      json.RawMessage `json:"schema,omitempty" doc:"JSON Schema (2020-12) that each version must meet"`
	Target      string          `json:"target,omitempty" maxLength:"4000" doc:"Which devices it is for, such as tags.site = 'north'; default * for all"`
	Priority    int64           `json:"priority,omitempty" doc:"Of several that target a device the one with the highest is in force"`
	ETag        string          `json:"etag,omitempty" doc:"Read only"`
}

// check holds a definition against the rules and returns it with defaults.
func (d Definition) check() (Definition, error) {
	if err := resource.CheckName(resource.KindRoute, d.Name); err != nil {
		return d, problem.New(problem.Invalid, "%s", strings.Replace(problem.Of(err).Message, "a name", "a configuration's name", 1)).At("name")
	}
	if d.Target = strings.TrimSpace(d.Target); d.Target == "" {
		d.Target = "*"
	}
	switch {
	case len(d.Description) > maxText || len(d.Owner) > 200 || len(d.Target) > maxTarget:
		return d, problem.New(problem.Invalid, "a description has at most %d characters, an owner 200, a target %d", maxText, maxTarget).At("description")
	case d.Priority < 0 || d.Priority > maxPriority:
		return d, problem.New(problem.Invalid, "a priority is 0 to %d, not %d", maxPriority, d.Priority).At("priority")
	}
	_, err := compile(d.Schema)
	return d, err
}

// Version is one content of a configuration. It never changes.
type Version struct {
	Name    string          `json:"name"`
	Number  int64           `json:"number" doc:"Grows with each version"`
	Content json.RawMessage `json:"content" doc:"Desired properties of each device that it is for"`
	By      string          `json:"by"`
	Reason  string          `json:"reason"`
	At      time.Time       `json:"at"`
}

// checkContent holds a version against the rules and its schema.
func checkContent(d Definition, content json.RawMessage) error {
	if len(content) > maxContent {
		return problem.New(problem.TooLarge, "a configuration has at most %d bytes, not %d", maxContent, len(content)).At("content")
	}
	var members map[string]json.RawMessage
	if err := json.Unmarshal(content, &members); err != nil || len(members) == 0 || len(members) > maxMembers {
		return problem.New(problem.Invalid, "a configuration is a JSON object of 1 to %d desired properties", maxMembers).At("content")
	}
	for name := range members {
		if name == "" || strings.ContainsAny(name, "$. ") || name == link.UpdateProperty || name == link.FlagsProperty {
			return problem.New(problem.Invalid, "%q cannot be a property: names have no '$', '.' and blanks, and %s and %s are Slipway's own", name, link.UpdateProperty, link.FlagsProperty).At("content")
		}
	}
	schema, err := compile(d.Schema)
	if err != nil || schema == nil {
		return err
	}
	return schema.validate(content)
}

// State is where a change stands.
type State string

// The states. Those after Waiting are for good.
const (
	Waiting    State = "waiting" // for what must be true
	InForce    State = "inForce" // it came into force
	Withdrawn  State = "withdrawn"
	Superseded State = "superseded" // another one came before it could
)

// Change is a version asking to be in force in an environment.
type Change struct {
	ID          string        `json:"id"`
	Sequence    int64         `json:"sequence"`
	Environment string        `json:"environment"`
	Name        string        `json:"name"`
	Number      int64         `json:"number" doc:"The version; 0 takes the configuration away"`
	From        int64         `json:"from,omitempty" doc:"The version that was in force; 0 is none"`
	Back        bool          `json:"back,omitempty" doc:"It leads to an earlier version, and asks no gate"`
	State       State         `json:"state" enum:"waiting,inForce,withdrawn,superseded"`
	Blocks      []string      `json:"blocks,omitempty" doc:"What keeps it"`
	Gates       []gate.Result `json:"gates,omitempty" doc:"The last verdicts"`
	By          string        `json:"by"`
	Person      string        `json:"person,omitempty" doc:"Who answers for that, where a program asked"`
	Reason      string        `json:"reason"`
	At          time.Time     `json:"at"`
	EndedAt     *time.Time    `json:"endedAt,omitempty" doc:"When it came into force, or did not"`
	EndedBy     string        `json:"endedBy,omitempty"`
}

// facts are what is so beside a change that waits.
type facts struct {
	upstream  string // the environment before; empty is none
	inForceUp int64  // the version that is in force there
	gates     []gate.Result
	opening   gate.Opening
	newer     int64 // sequence of a later change of the same configuration there
}

// step is what becomes of a change that waits.
func step(c Change, f facts, now time.Time) Change {
	if c.State != Waiting {
		return c
	}
	c.Gates, c.Blocks = f.gates, nil
	if f.newer > c.Sequence {
		c.State, c.EndedAt, c.EndedBy = Superseded, &now, "slipway"
		return c
	}
	if f.upstream != "" && c.Number != 0 && f.inForceUp != c.Number {
		c.Blocks = append(c.Blocks, fmt.Sprintf("version %d is not in force in %s; promote it there first", c.Number, f.upstream))
	}
	if !f.opening.Open {
		c.Blocks = append(c.Blocks, f.opening.Reason)
	}
	for _, r := range gate.Stopping(f.gates) {
		c.Blocks = append(c.Blocks, fmt.Sprintf("gate %s: %s", r.Gate, r.Reason))
	}
	if len(c.Blocks) == 0 {
		c.State, c.EndedAt, c.EndedBy = InForce, &now, "slipway"
	}
	return c
}

// Standing is which version of a configuration an environment has.
type Standing struct {
	Environment string    `json:"environment"`
	Name        string    `json:"name"`
	Number      int64     `json:"number"`
	Since       time.Time `json:"since"`
	Change      string    `json:"change" doc:"The change that brought it"`
}

// ID is what a version is called on stamps. Its content stays as it was
// created there, so each version has a name of its own.
func (v Version) ID() string {
	return fmt.Sprintf("%s%s-%d", link.ConfigurationPrefix, v.Name, v.Number)
}

// held is a version as stamps have it.
func (v Version) held(d Definition) (link.HeldConfiguration, error) {
	var members map[string]any
	err := json.Unmarshal(v.Content, &members)
	content := make(map[string]any, len(members))
	for name, value := range members {
		content["properties.desired."+name] = value
	}
	return link.HeldConfiguration{ID: v.ID(), Target: d.Target, Priority: d.Priority, Content: content}, err
}
