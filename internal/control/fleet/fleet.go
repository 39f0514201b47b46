// Package fleet is every device of the installation as people and programs
// see it: where provisioning has put it, and what its stamp knows of it. It
// asks the other planes; it keeps nothing itself.
package fleet

import (
	"cmp"
	"context"
	"encoding/json"
	"sort"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/slipway/slipway/internal/bus"
	"github.com/slipway/slipway/internal/control/audit"
	"github.com/slipway/slipway/internal/control/environment"
	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/resource"
	"github.com/slipway/slipway/internal/sqldb"
)

// Fleet asks provisioning and stamps on behalf of api and console.
type Fleet struct {
	db           *sqldb.DB
	conn         *bus.Conn
	environments *environment.Environments
	audit        *audit.Log
	now          func() time.Time
	// Declared is told what an enrolment was declared as; nil is that it was
	// deleted.
	Declared func(ctx context.Context, kind link.EnrollmentKind, name string, spec *link.EnrollmentSpec) error
}

// New returns a fleet over the link; db keeps what people save.
func New(db *sqldb.DB, conn *bus.Conn, environments *environment.Environments, log *audit.Log, now func() time.Time) *Fleet {
	return &Fleet{db: db, conn: conn, environments: environments, audit: log, now: now, Declared: func(context.Context, link.EnrollmentKind, string, *link.EnrollmentSpec) error { return nil }}
}

// The states of a device as people see it.
const (
	StatusEnabled  = "enabled"
	StatusDisabled = "disabled"
	StatusMoving   = "moving"  // being taken off a stamp or put on one
	StatusWaiting  = "waiting" // on no stamp until it registers again
)

// Device is one device in a list.
type Device struct {
	DeviceID       string     `json:"deviceId"`
	Environment    string     `json:"environment" doc:"Where it is, or is going"`
	Stamp          string     `json:"stamp,omitempty" doc:"Where it is; none while it waits"`
	Status         string     `json:"status" doc:"enabled, disabled, moving or waiting"`
	Connected      bool       `json:"connected"`
	AssignedAt     *time.Time `json:"assignedAt,omitempty"`
	LastActivity   *time.Time `json:"lastActivity,omitempty"`
	Messages       int64      `json:"messages" doc:"Telemetry messages accepted by its stamp"`
	Enrollment     string     `json:"enrollment"`
	Tenant         string     `json:"tenant" doc:"Whose it is"`
	StampReachable bool       `json:"stampReachable" doc:"false: its stamp did not answer, so what it knows is missing here"`
	Problem        string     `json:"problem,omitempty" doc:"Why the present step of its registration failed last"`
}

// Stay is one entry of a device's history.
type Stay struct {
	Environment string     `json:"environment"`
	Stamp       string     `json:"stamp"`
	From        time.Time  `json:"from"`
	To          *time.Time `json:"to,omitempty"`
	Reason      string     `json:"reason,omitempty" doc:"Why it ended"`
}

// Detail is everything known of one device.
type Detail struct {
	Device
	RegistrationID string            `json:"registrationId"`
	EnrollmentKind string            `json:"enrollmentKind"`
	Phase          link.Phase        `json:"phase"`
	Epoch          int64             `json:"epoch"`
	AuthType       link.AuthType     `json:"authType,omitempty"`
	GenerationID   string            `json:"generationId,omitempty"`
	ModelID        string            `json:"modelId,omitempty"`
	QueuedMessages int               `json:"queuedMessages"`
	ConnectedAt    *time.Time        `json:"connectedAt,omitempty" doc:"When the connection state last changed"`
	CreatedAt      time.Time         `json:"createdAt"`
	History        []Stay            `json:"history"`
	Transitions    []link.Transition `json:"transitions"`
	Twin           json.RawMessage   `json:"twin,omitempty"`
	TwinETag       string            `json:"twinEtag,omitempty"`
}

// Filter selects devices of a list.
type Filter struct {
	Search      string
	Where       string
	Environment string
	Tenant      string
	Stamp       string
	Phase       link.Phase
	After       string
	Limit       int
}

// Gap is a stamp whose part of an answer is missing.
type Gap struct {
	Stamp   string `json:"stamp"`
	Problem string `json:"problem"`
}

// Page is a page of devices. Next is the After of the following one.
type Page struct {
	Items      []Device `json:"items"`
	Next       string   `json:"next,omitempty"`
	Incomplete []Gap    `json:"incomplete,omitempty"`
}

func stampAsk[Req, Resp any](ctx context.Context, f *Fleet, stamp string, call link.Call[Req, Resp], req Req) (Resp, error) {
	return bus.Ask(ctx, f.conn, link.StampPeer(stamp), call, req)
}

func provisioningAsk[Req, Resp any](ctx context.Context, f *Fleet, call link.Call[Req, Resp], req Req) (Resp, error) {
	return bus.Ask(ctx, f.conn, link.ProvisioningPeer, call, req)
}

// DefaultPage is how many items a page has when nobody says.
const DefaultPage = 100

func limitOf(limit int) int {
	if limit <= 0 {
		return DefaultPage
	}
	return min(limit, link.MaxPage)
}

// List returns a page of devices in order of id.
func (f *Fleet) List(ctx context.Context, filter Filter) (Page, error) {
	filter.Limit = limitOf(filter.Limit)
	if filter.Where != "" {
		return f.listWhere(ctx, filter)
	}
	found, err := provisioningAsk(ctx, f, link.RegistrationList, link.ListRegistrations{
		Environment: filter.Environment, Tenant: filter.Tenant, Stamp: filter.Stamp, Phase: filter.Phase, Search: filter.Search, After: filter.After, Limit: filter.Limit,
	})
	if err != nil {
		return Page{}, err
	}
	page := f.join(ctx, found.Items, found.More)
	if filter.Phase != "" && filter.Phase != link.PhaseAssigned {
		return page, nil
	}
	return f.addUnregistered(ctx, page, filter)
}

// listWhere asks every stamp in question for its matches and merges them.
func (f *Fleet) listWhere(ctx context.Context, filter Filter) (Page, error) {
	names, err := f.stampNames(ctx, filter)
	if err != nil {
		return Page{}, err
	}
	var mu sync.Mutex
	var ids []string
	matched := map[string]link.Device{}
	var gaps []Gap
	more := false
	group, groupCtx := errgroup.WithContext(ctx)
	for _, name := range names {
		group.Go(func() error {
			found, err := stampAsk(groupCtx, f, name, link.DeviceQuery, link.QueryDevices{Where: filter.Where, Tenant: filter.Tenant, After: filter.After, Limit: filter.Limit})
			mu.Lock()
			defer mu.Unlock()
			switch {
			case problem.Is(err, problem.Invalid):
				return problem.Of(err).At("where")
			case err != nil:
				gaps = append(gaps, Gap{name, problem.Of(err).Message})
			}
			for _, d := range found.Items {
				ids = append(ids, d.DeviceID)
				matched[d.DeviceID] = d
			}
			more = more || found.More
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return Page{}, err
	}
	sort.Strings(ids)
	if len(ids) > filter.Limit {
		ids, more = ids[:filter.Limit], true
	}
	if len(ids) == 0 {
		return Page{Items: []Device{}, Incomplete: gaps}, nil
	}
	found, err := provisioningAsk(ctx, f, link.RegistrationList, link.ListRegistrations{
		DeviceIDs: ids, Limit: len(ids), Environment: filter.Environment, Tenant: filter.Tenant, Stamp: filter.Stamp, Phase: filter.Phase, Search: filter.Search,
	})
	if err != nil {
		return Page{}, err
	}
	page := f.join(ctx, found.Items, false)
	if filter.Phase == "" || filter.Phase == link.PhaseAssigned {
		page.Items = f.addMatches(ctx, page.Items, ids, matched, filter)
	}
	if more {
		page.Next = ids[len(ids)-1]
	}
	page.Incomplete = append(page.Incomplete, gaps...)
	return page, nil
}

// stampNames are the stamps a filter speaks of.
func (f *Fleet) stampNames(ctx context.Context, filter Filter) ([]string, error) {
	all, err := f.environments.Stamps(ctx)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, s := range all {
		if (filter.Stamp == "" || filter.Stamp == s.Metadata.Name) && (filter.Environment == "" || filter.Environment == s.Spec.Environment) {
			names = append(names, s.Metadata.Name)
		}
	}
	return names, nil
}

// join adds to registrations what the devices' stamps know.
func (f *Fleet) join(ctx context.Context, registrations []link.Registration, more bool) Page {
	byStamp := map[string][]string{}
	for _, r := range registrations {
		if r.Stamp != "" {
			byStamp[r.Stamp] = append(byStamp[r.Stamp], r.DeviceID)
		}
	}
	var mu sync.Mutex
	known, answered := map[string]link.Device{}, map[string]bool{}
	page := Page{Items: make([]Device, 0, len(registrations))}
	var asking sync.WaitGroup
	for stamp, ids := range byStamp {
		asking.Go(func() {
			found, err := stampAsk(ctx, f, stamp, link.DeviceLookup, link.DeviceRefs{DeviceIDs: ids})
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				page.Incomplete = append(page.Incomplete, Gap{stamp, problem.Of(err).Message})
				return
			}
			answered[stamp] = true
			for _, d := range found.Items {
				known[d.DeviceID] = d
			}
		})
	}
	asking.Wait()
	for _, r := range registrations {
		d, ok := known[r.DeviceID]
		ok = ok && d.Stamp == r.Stamp
		page.Items = append(page.Items, summary(r, d, ok, r.Stamp == "" || answered[r.Stamp]))
	}
	if more && len(registrations) > 0 {
		page.Next = registrations[len(registrations)-1].DeviceID
	}
	return page
}

// summary puts the two halves of a device together.
func summary(r link.Registration, d link.Device, here, reachable bool) Device {
	s := Device{
		DeviceID: r.DeviceID, Environment: r.Environment, Stamp: r.Stamp, AssignedAt: r.AssignedAt,
		Enrollment: r.Enrollment, Tenant: r.Tenant, StampReachable: reachable, Problem: r.Problem, Status: statusOf(r.Phase),
	}
	if here {
		s.Connected, s.LastActivity, s.Messages = d.Connected, d.LastActivity, d.Messages
		if r.Phase == link.PhaseAssigned {
			s.Status = d.Status
		}
	}
	return s
}

func statusOf(p link.Phase) string {
	switch p {
	case link.PhaseWaiting:
		return StatusWaiting
	case link.PhaseAssigned:
		return StatusEnabled
	}
	return StatusMoving
}

// Show returns everything known of one device.
func (f *Fleet) Show(ctx context.Context, id string) (Detail, error) {
	r, err := provisioningAsk(ctx, f, link.RegistrationGet, link.RegistrationRef{DeviceID: id})
	if problem.Is(err, problem.NotFound) {
		d, lookErr := f.unregistered(ctx, id)
		if lookErr != nil {
			return Detail{}, err
		}
		r, err = f.asRegistration(ctx, d)
	}
	if err != nil {
		return Detail{}, err
	}
	detail := Detail{
		RegistrationID: r.RegistrationID, EnrollmentKind: r.EnrollmentKind, Phase: r.Phase, Epoch: r.Epoch, CreatedAt: r.CreatedAt,
		History: Stays(r.History), Transitions: r.History,
	}
	if r.Stamp == "" {
		detail.Device = summary(r, link.Device{}, false, true)
		return detail, nil
	}
	d, err := stampAsk(ctx, f, r.Stamp, link.DeviceGet, link.DeviceRef{DeviceID: id})
	here := err == nil
	detail.Device = summary(r, d, here, here || problem.Is(err, problem.NotFound))
	if !here {
		return detail, nil
	}
	detail.AuthType, detail.GenerationID, detail.ModelID, detail.QueuedMessages, detail.ConnectedAt = d.AuthType, d.GenerationID, d.ModelID, d.QueuedMessages, d.ConnectedAt
	if twin, err := stampAsk(ctx, f, r.Stamp, link.TwinGet, link.DeviceRef{DeviceID: id}); err == nil {
		detail.Twin, detail.TwinETag = twin.Document, twin.ETag
	}
	return detail, nil
}

// Stays folds a transition log into one entry for each stay on a stamp.
func Stays(log []link.Transition) []Stay {
	stays, asked := []Stay{}, ""
	for _, t := range log {
		switch t.Step {
		case "requested":
			asked = t.Reason // what somebody said is worth more than what we say
		case "assigned":
			stays = append(stays, Stay{Environment: t.Environment, Stamp: t.Stamp, From: t.At})
		case "removed":
			if n := len(stays); n > 0 && stays[n-1].To == nil {
				at := t.At
				stays[n-1].To, stays[n-1].Reason = &at, t.Reason
				if asked != "" {
					stays[n-1].Reason = asked
				}
			}
			asked = ""
		}
	}
	return stays
}

// Place is one stamp of the overview.
type Place struct {
	resource.Stamp
	AgeSeconds float64 `json:"ageSeconds" doc:"Since the stamp last told of itself; -1: never"`
}

// Level is one environment of the overview with its stamps.
type Level struct {
	Name        string  `json:"name"`
	DisplayName string  `json:"displayName"`
	Stamps      []Place `json:"stamps"`
	Devices     int     `json:"devices"`
	Connected   int64   `json:"connected"`
	Capacity    int     `json:"capacity"`
	Rate        float64 `json:"rate"`
	Waiting     int     `json:"waiting"`
}

// Overview returns every environment in order of promotion with its stamps.
func (f *Fleet) Overview(ctx context.Context) ([]Level, error) {
	environments, err := f.environments.List(ctx)
	if err != nil {
		return nil, err
	}
	stamps, err := f.environments.Stamps(ctx)
	if err != nil {
		return nil, err
	}
	waiting := map[string]int{}
	counts, err := provisioningAsk(ctx, f, link.RegistrationCount, link.None{})
	if err != nil {
		return nil, err // no number is better than a wrong one
	}
	assigned := byStamp(counts)
	for _, c := range counts.Waiting {
		waiting[c.Environment] = c.Count
	}
	levels := make([]Level, len(environments))
	for i, env := range environments {
		level := Level{Name: env.Metadata.Name, DisplayName: env.Spec.DisplayName, Stamps: []Place{}, Waiting: waiting[env.Metadata.Name]}
		if level.DisplayName == "" {
			level.DisplayName = level.Name
		}
		for _, s := range stamps {
			if s.Spec.Environment == level.Name {
				level.add(f.place(s, assigned[s.Metadata.Name]))
			}
		}
		levels[i] = level
	}
	return levels, nil
}

func byStamp(counts link.RegistrationCounts) map[string]int {
	assigned := map[string]int{}
	for _, c := range counts.ByStamp {
		assigned[c.Stamp] = c.Count
	}
	return assigned
}

// Stamps returns every stamp with its state. While provisioning, which counts
// the places, is away, the devices that stamps tell of are counted instead.
func (f *Fleet) Stamps(ctx context.Context) ([]resource.Stamp, error) {
	all, err := f.environments.Stamps(ctx)
	if err != nil {
		return nil, err
	}
	counts, err := provisioningAsk(ctx, f, link.RegistrationCount, link.None{})
	away := problem.Is(err, problem.NotReady) || problem.Is(err, problem.TimedOut)
	if err != nil && !away {
		return nil, err
	}
	assigned := byStamp(counts)
	for i, s := range all {
		n := assigned[s.Metadata.Name]
		if o, seen := f.environments.Observed(s.Metadata.Name); away && seen {
			n = int(o.Devices)
		}
		all[i] = f.place(s, n).Stamp
	}
	return all, nil
}

// Stamp returns one stamp with its state.
func (f *Fleet) Stamp(ctx context.Context, name string) (resource.Stamp, error) {
	if s, err := f.environments.Stamp(ctx, name); err != nil {
		return s, err
	}
	all, err := f.Stamps(ctx)
	for _, s := range all {
		if s.Metadata.Name == name {
			return s, err
		}
	}
	return resource.Stamp{}, cmp.Or(err, error(problem.New(problem.NotFound, "there is no stamp %q", name)))
}

func (f *Fleet) place(s resource.Stamp, assigned int) Place {
	p := Place{Stamp: s, AgeSeconds: -1}
	p.Status.Assigned = assigned
	p.Status.State = resource.StateOf(p.Spec, *p.Status)
	if p.Status.SeenAt != nil {
		p.AgeSeconds = max(0, f.now().Sub(*p.Status.SeenAt).Seconds())
	}
	return p
}

func (l *Level) add(p Place) {
	l.Stamps = append(l.Stamps, p)
	l.Devices += p.Status.Assigned
	l.Connected += p.Status.Connected
	l.Capacity += p.Spec.Capacity
	l.Rate += p.Status.Rate
}
