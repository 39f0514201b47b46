package fleet

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/slipway/slipway/internal/bus"
	"github.com/slipway/slipway/internal/control/access"
	"github.com/slipway/slipway/internal/control/audit"
	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/problem"
)

// home returns the stamp a device is on, or the one of a module's device. A
// device that a back end made on a stamp itself is looked for there.
func (f *Fleet) home(ctx context.Context, id string) (string, error) {
	owner, _ := link.SplitIdentity(id)
	r, err := provisioningAsk(ctx, f, link.RegistrationGet, link.RegistrationRef{DeviceID: owner})
	if problem.Is(err, problem.NotFound) {
		d, lookErr := f.unregistered(ctx, owner)
		if lookErr == nil {
			return d.Stamp, nil
		}
	}
	if err != nil {
		return "", err
	}
	if r.Stamp == "" {
		return "", problem.New(problem.NotReady, "device %s is on no stamp; it will be assigned one of %s when it registers next", id, r.Environment)
	}
	return r.Stamp, nil
}

// change asks a device's stamp for a change and records that.
func change[Req, Resp any](ctx context.Context, f *Fleet, actor access.Actor, id, action, detail string, call link.Call[Req, Resp], req Req) (resp Resp, err error) {
	stamp, err := f.home(ctx, id)
	if err != nil {
		return resp, err
	}
	err = f.audit.Around(ctx, audit.Entry{Actor: actor.Name, Action: action, Object: "device/" + id, Environment: f.environmentOf(ctx, stamp), Detail: detail}, func(outcome *audit.Entry) error {
		resp, err = stampAsk(ctx, f, stamp, call, req)
		if twin, is := any(resp).(link.Twin); is {
			outcome.After = audit.Digest(twin.Document)
		}
		return err
	})
	return resp, err
}

// environmentOf is a stamp's environment, for the audit log; empty where that
// is not known.
func (f *Fleet) environmentOf(ctx context.Context, stamp string) string {
	s, err := f.environments.Stamp(ctx, stamp)
	if err != nil {
		return ""
	}
	return s.Spec.Environment
}

// Twin returns a device's twin.
func (f *Fleet) Twin(ctx context.Context, id string) (link.Twin, error) {
	stamp, err := f.home(ctx, id)
	if err != nil {
		return link.Twin{}, err
	}
	return stampAsk(ctx, f, stamp, link.TwinGet, link.DeviceRef{DeviceID: id})
}

// maxDetail bounds what the audit log keeps of a change.
const maxDetail = 2000

func detailOf(text []byte) string { return string(text[:min(len(text), maxDetail)]) }

// PatchTwin merges into a device's tags and desired properties.
func (f *Fleet) PatchTwin(ctx context.Context, actor access.Actor, id, ifMatch string, patch json.RawMessage) (link.Twin, error) {
	return change(ctx, f, actor, id, "twin.patch", detailOf(patch), link.TwinPatch, link.PatchTwin{DeviceID: id, IfMatch: ifMatch, Patch: patch})
}

// ReplaceTwin replaces a device's tags and desired properties.
func (f *Fleet) ReplaceTwin(ctx context.Context, actor access.Actor, id, ifMatch string, document json.RawMessage) (link.Twin, error) {
	return change(ctx, f, actor, id, "twin.replace", detailOf(document), link.TwinReplace, link.PatchTwin{DeviceID: id, IfMatch: ifMatch, Patch: document})
}

// InvokeMethod runs a direct method on a device. Payloads are not recorded, as
// they may hold secrets.
func (f *Fleet) InvokeMethod(ctx context.Context, actor access.Actor, req link.InvokeMethod) (link.MethodResult, error) {
	wait := req.ResponseTimeout
	if wait <= 0 {
		wait = 30 * time.Second
	}
	ctx, cancel := context.WithTimeout(ctx, wait+max(0, req.ConnectTimeout)+2*time.Second)
	defer cancel()
	return change(ctx, f, actor, req.DeviceID, "method.invoke", req.Method, link.MethodInvoke, req)
}

// SendMessage queues a cloud-to-device message.
func (f *Fleet) SendMessage(ctx context.Context, actor access.Actor, m link.SendMessage) (link.QueuedMessage, error) {
	return change(ctx, f, actor, m.DeviceID, "message.send", m.MessageID, link.MessageSend, m)
}

// Queued lists what waits for a device.
func (f *Fleet) Queued(ctx context.Context, id string) (link.QueuedMessages, error) {
	stamp, err := f.home(ctx, id)
	if err != nil {
		return link.QueuedMessages{}, err
	}
	return stampAsk(ctx, f, stamp, link.MessageList, link.DeviceRef{DeviceID: id})
}

// PurgeMessages drops what waits for a device.
func (f *Fleet) PurgeMessages(ctx context.Context, actor access.Actor, id string) (link.Purged, error) {
	return change(ctx, f, actor, id, "message.purge", "", link.MessagePurge, link.DeviceRef{DeviceID: id})
}

// Telemetry reads a page of a device's telemetry on its present stamp.
func (f *Fleet) Telemetry(ctx context.Context, stamp string, req link.ReadLog) (link.LogPage, error) {
	return readLog(ctx, f, link.TelemetryRead, stamp, req)
}

// Events reads a page of a device's events on its present stamp.
func (f *Fleet) Events(ctx context.Context, stamp string, req link.ReadLog) (link.LogPage, error) {
	return readLog(ctx, f, link.EventRead, stamp, req)
}

// readLog reads from the stamp named, or else from the one the device is on.
func readLog(ctx context.Context, f *Fleet, call link.Call[link.ReadLog, link.LogPage], stamp string, req link.ReadLog) (link.LogPage, error) {
	stamp, err := f.logHome(ctx, stamp, req.DeviceID)
	if err != nil {
		return link.LogPage{}, err
	}
	return stampAsk(ctx, f, stamp, call, req)
}

func (f *Fleet) logHome(ctx context.Context, stamp, id string) (string, error) {
	if stamp == "" {
		return f.home(ctx, id)
	}
	_, err := f.environments.Stamp(ctx, stamp)
	return stamp, err
}

// FollowTelemetry calls each for a device's telemetry as it comes, wherever
// the device is: when it moves, so does what is followed.
func (f *Fleet) FollowTelemetry(ctx context.Context, stamp string, req link.WatchLog, each func(link.LogRecord) error) error {
	return f.follow(ctx, link.TelemetryWatch, stamp, req, each)
}

// FollowEvents is FollowTelemetry for events.
func (f *Fleet) FollowEvents(ctx context.Context, stamp string, req link.WatchLog, each func(link.LogRecord) error) error {
	return f.follow(ctx, link.EventWatch, stamp, req, each)
}

// homeEvery is how often a follower looks whether its device has moved.
const homeEvery = 2 * time.Second

func (f *Fleet) follow(ctx context.Context, feed link.Feed[link.WatchLog, link.LogRecord], stamp string, req link.WatchLog, each func(link.LogRecord) error) error {
	if stamp != "" || req.DeviceID == "" {
		stamp, err := f.logHome(ctx, stamp, req.DeviceID)
		if err != nil {
			return err
		}
		return bus.Follow(ctx, f.conn, link.StampPeer(stamp), feed, req, each)
	}
	for ctx.Err() == nil {
		home, err := f.home(ctx, req.DeviceID)
		if err != nil && !problem.Is(err, problem.NotReady) {
			return err
		}
		if err == nil {
			if err := f.followAt(ctx, feed, home, req, each); err != nil && !problem.Is(err, problem.NotReady) {
				return err
			}
			req.After = 0 // sequences are a stamp's own
		}
		select {
		case <-ctx.Done():
		case <-time.After(homeEvery):
		}
	}
	return nil
}

// followAt follows on one stamp until the device is no longer there.
func (f *Fleet) followAt(ctx context.Context, feed link.Feed[link.WatchLog, link.LogRecord], stamp string, req link.WatchLog, each func(link.LogRecord) error) error {
	here, leave := context.WithCancel(ctx)
	defer leave()
	watching := make(chan struct{})
	go func() {
		defer close(watching)
		tick := time.NewTicker(homeEvery)
		defer tick.Stop()
		for {
			select {
			case <-here.Done():
				return
			case <-tick.C:
				if home, err := f.home(here, req.DeviceID); home != stamp && (err == nil || problem.Is(err, problem.NotReady)) {
					leave()
					return
				}
			}
		}
	}()
	err := bus.Follow(here, f.conn, link.StampPeer(stamp), feed, req, each)
	leave()
	<-watching
	return err
}

// Scope names the provisioning endpoint's id scope.
func (f *Fleet) Scope(ctx context.Context) (link.Scope, error) {
	return provisioningAsk(ctx, f, link.ProvisioningInfo, link.None{})
}

// StartMove moves devices to another environment or stamp.
func (f *Fleet) StartMove(ctx context.Context, actor access.Actor, req link.StartMove) (m link.Move, err error) {
	req.Actor = actor.Name
	if req.To != "" {
		if _, err := f.environments.Get(ctx, req.To); err != nil {
			return m, problem.New(problem.Invalid, "%s", problem.Of(err).Message).At("to")
		}
	}
	if req.Where != "" {
		// Stamps read conditions; ask one before thousands are asked in vain.
		if _, err := f.listWhere(ctx, Filter{Where: req.Where, Limit: 1}); err != nil {
			return m, err
		}
	}
	object, environment := "environment/"+req.To, req.To
	if req.To == "" {
		stamp := cmp.Or(req.Stamp, req.From)
		object, environment = "stamp/"+stamp, f.environmentOf(ctx, stamp)
	}
	detail := fmt.Sprintf("from %q to %q: %d named, where %q", req.From, cmp.Or(req.Stamp, req.To), len(req.Devices), req.Where)
	err = f.audit.Around(ctx, audit.Entry{Actor: actor.Name, Action: "move.start", Object: object, Environment: environment, Reason: req.Reason, Detail: detail}, func(*audit.Entry) error {
		m, err = provisioningAsk(ctx, f, link.MoveStart, req)
		return err
	})
	return m, err
}

// Move returns a move with its census.
func (f *Fleet) Move(ctx context.Context, id string) (link.Move, error) {
	return provisioningAsk(ctx, f, link.MoveGet, link.MoveRef{ID: id})
}

// Moves returns the newest moves.
func (f *Fleet) Moves(ctx context.Context, limit int) (link.Moves, error) {
	return provisioningAsk(ctx, f, link.MoveList, link.ListMoves{Limit: limitOf(limit)})
}

// MoveDevices returns a page of a move's devices.
func (f *Fleet) MoveDevices(ctx context.Context, req link.ListMoveDevices) (link.MovedDevices, error) {
	req.Limit = limitOf(req.Limit)
	return provisioningAsk(ctx, f, link.MoveDevices, req)
}

// PutEnrollment creates or replaces an enrolment. The keys are not recorded.
func (f *Fleet) PutEnrollment(ctx context.Context, actor access.Actor, req link.PutEnrollment) (stored link.Enrollment, err error) {
	if link.IsProbe(req.Name) || link.IsProbe(req.Spec.DeviceID) {
		return stored, problem.New(problem.Invalid, "names that begin with %s are for Slipway's own probes", link.Probe("")).At("name")
	}
	if _, err := f.environments.Get(ctx, req.Spec.Environment); err != nil {
		return stored, problem.New(problem.Invalid, "%s", problem.Of(err).Message).At("spec.environment")
	}
	if err := f.environments.CheckTenant(ctx, "spec.tenant", req.Spec.Tenant); err != nil {
		return stored, err
	}
	if req.DryRun {
		return provisioningAsk(ctx, f, link.EnrollmentPut, req)
	}
	err = f.audit.Around(ctx, audit.Entry{Actor: actor.Name, Action: "enrollment.put", Object: string(req.Kind) + "/" + req.Name, Environment: req.Spec.Environment}, func(*audit.Entry) error {
		if stored, err = provisioningAsk(ctx, f, link.EnrollmentPut, req); err != nil {
			return err
		}
		return f.Declared(ctx, req.Kind, req.Name, &stored.Spec)
	})
	return stored, err
}

// ImportDevices takes over devices that exist already. What they are is not
// recorded, but how many there were.
func (f *Fleet) ImportDevices(ctx context.Context, actor access.Actor, req link.ImportDevices) (result link.ImportedDevices, err error) {
	if _, err := f.environments.Get(ctx, req.Environment); err != nil {
		return result, err
	}
	if req.DryRun {
		return provisioningAsk(ctx, f, link.DevicesImport, req)
	}
	err = f.audit.Around(ctx, audit.Entry{Actor: actor.Name, Action: "device.import", Object: "environment/" + req.Environment, Environment: req.Environment}, func(outcome *audit.Entry) error {
		result, err = provisioningAsk(ctx, f, link.DevicesImport, req)
		counts := map[string]int{}
		for _, one := range result.Items {
			counts[one.Result]++
		}
		outcome.Detail = fmt.Sprintf("%d created, %d unchanged, %d refused", counts[link.ImportCreated], counts[link.ImportUnchanged], counts[link.ImportRefused])
		return err
	})
	return result, err
}

// Enrollment returns an enrolment with its keys.
func (f *Fleet) Enrollment(ctx context.Context, ref link.EnrollmentRef) (link.Enrollment, error) {
	return provisioningAsk(ctx, f, link.EnrollmentGet, ref)
}

// SecretsRead records that somebody asked for the keys of an enrolment.
func (f *Fleet) SecretsRead(ctx context.Context, actor access.Actor, ref link.EnrollmentRef) error {
	return f.audit.Write(ctx, audit.Entry{Actor: actor.Name, Action: "enrollment.readKeys", Object: string(ref.Kind) + "/" + ref.Name})
}

// Enrollments returns a page of enrolments with their keys.
func (f *Fleet) Enrollments(ctx context.Context, req link.ListEnrollments) (link.Enrollments, error) {
	req.Limit = limitOf(req.Limit)
	return provisioningAsk(ctx, f, link.EnrollmentList, req)
}

// DeleteEnrollment removes an enrolment; devices registered through it stay.
func (f *Fleet) DeleteEnrollment(ctx context.Context, actor access.Actor, ref link.EnrollmentRef) error {
	return f.audit.Around(ctx, audit.Entry{Actor: actor.Name, Action: "enrollment.delete", Object: string(ref.Kind) + "/" + ref.Name}, func(*audit.Entry) error {
		if _, err := provisioningAsk(ctx, f, link.EnrollmentDelete, ref); err != nil {
			return err
		}
		return f.Declared(ctx, ref.Kind, ref.Name, nil)
	})
}
