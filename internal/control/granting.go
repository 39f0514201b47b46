package control

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/slipway/slipway/internal/control/access"
	"github.com/slipway/slipway/internal/control/audit"
	"github.com/slipway/slipway/internal/control/gateway"
	"github.com/slipway/slipway/internal/control/grant"
	"github.com/slipway/slipway/internal/outbound"
	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/resource"
)

// granting builds what lets people act for a while where roles are not enough,
// and what records them.
func (p *Plane) granting(o Options, log *audit.Log) {
	people := p.people
	p.grants = grant.New(grant.Options{
		DB: p.db, Audit: log, Environment: p.environments.SpecIn, People: grant.Accounts{Access: people}, Rights: grant.Accounts{Access: people},
		Known: grantable, Alarm: alarms{o.Guard}.tell, Logger: o.Logger, Now: time.Now,
	})
	p.gateway = gateway.New(gateway.Options{
		DB: p.db, Audit: log, Fleet: p.fleet, Grants: p.grants, Still: people.Still, Logger: o.Logger, Now: time.Now,
		Check: func(ctx context.Context, actor access.Actor, permission string, at gateway.Place) error {
			return people.Check(ctx, actor, access.Permission(permission), func(context.Context) ([]access.Place, error) {
				return []access.Place{{Environment: at.Environment, Stamp: at.Stamp, Tenant: at.Tenant}}, nil
			})
		},
		Environment: func(ctx context.Context, name string) error {
			_, err := p.environments.Get(ctx, name)
			return err
		},
		Stamp: func(ctx context.Context, name string) (string, error) {
			s, err := p.environments.Stamp(ctx, name)
			return s.Spec.Environment, err
		},
	})
	people.Granted = func(ctx context.Context, actor access.Actor, place access.Place, permission access.Permission) (bool, error) {
		given, found, err := p.grants.Covering(ctx, actor, place.Environment, string(permission), grant.Target{Stamp: place.Stamp, Tenant: place.Tenant, Device: gateway.Device(ctx)})
		if err != nil || !found {
			return false, err
		}
		if access.Again(ctx) { // it goes on under what lets it, and passes nothing anew
			return gateway.Passes(ctx), nil
		}
		p.grants.Use(given.ID, string(permission))
		return true, p.gateway.Pass(ctx, actor, given)
	}
}

// grantable reports whether a permission is one that a grant can give: what
// everybody has needs none.
func grantable(permission string) bool {
	p := access.Permission(permission)
	return p.Known() && p != access.Own && p != access.Public
}

// offered are the permissions that the console offers to ask for: those for
// which roles are not enough where grants are wanted.
func offered() (all []string) {
	for _, p := range access.Permissions() {
		if !p.Standing() {
			all = append(all, string(p))
		}
	}
	return all
}

// alarms tells those that an environment names when somebody breaks the glass.
type alarms struct{ guard *outbound.Guard }

// alarmed is what they are told.
type alarmed struct {
	Type      string    `json:"type"`
	Timestamp time.Time `json:"timestamp"`
	Data      struct {
		Grant       string       `json:"grant"`
		Environment string       `json:"environment"`
		Person      string       `json:"person"`
		Purpose     string       `json:"purpose"`
		Reason      string       `json:"reason"`
		Ticket      string       `json:"ticket,omitempty"`
		Scope       grant.Extent `json:"scope"`
		Until       *time.Time   `json:"until"`
	} `json:"data"`
}

// tell tells every webhook, and fails if one could not be told.
func (a alarms) tell(ctx context.Context, g grant.Grant, policy resource.GrantPolicy) error {
	said := alarmed{Type: "grant.breakGlass", Timestamp: g.CreatedAt}
	d := &said.Data
	d.Grant, d.Environment, d.Person, d.Purpose, d.Reason, d.Ticket, d.Scope, d.Until = g.ID, g.Environment, g.Name, g.Purpose, g.Reason, g.Ticket, g.Scope, g.Until
	body, err := json.Marshal(said)
	if err != nil {
		return err
	}
	var failed []error
	for _, hook := range policy.Alarms {
		if err := a.post(ctx, hook.URL, body); err != nil {
			failed = append(failed, fmt.Errorf("%s: %w", hook.Name, err))
		}
	}
	if len(failed) > 0 {
		return problem.New(problem.NotReady, "%w", errors.Join(failed...))
	}
	return nil
}

func (a alarms) post(ctx context.Context, url string, body []byte) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := a.guard.Client(alarmPatience).Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, io.LimitReader(resp.Body, 1<<10)); err != nil {
		return err
	}
	if resp.StatusCode >= 300 {
		return fmt.Errorf("it answered %s", resp.Status)
	}
	return nil
}

// alarmPatience is how long one who is told may take to answer.
const alarmPatience = 10 * time.Second
