package stamp

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/slipway/slipway/internal/bus"
	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/stamp/cluster"
	"github.com/slipway/slipway/internal/stamp/hub"
	"github.com/slipway/slipway/internal/tasks"
)

// Together says how a process meets the others of its stamp. They share a
// PostgreSQL database, NATS servers and a directory of files.
type Together struct {
	Process string // what people know this one as
	NATS    bus.External
	Files   string // where they are the same for all
}

// What processes of one stamp ask of each other.
var (
	claimDevice = link.Call[hub.Claim, hub.Claimed]{Name: "device.claim"}
	cutDevice   = link.Call[cut, link.None]{Name: "device.cut"}
	findDevice  = link.Call[find, link.None]{Name: "device.find"}
	invokeThere = link.Call[link.InvokeMethod, hub.Invoked]{Name: "device.invoke"}
)

type cut struct {
	DeviceID string `json:"deviceId"`
	Reason   string `json:"reason"`
}

type find struct {
	DeviceID string        `json:"deviceId"`
	Wait     time.Duration `json:"wait"`
}

// The topics of what they tell each other.
const (
	newsPump    = "pump"    // a device's id
	newsDesired = "desired" // a hub.Change
	newsTouched = "touched" // identities for configurations and releases to look at
	newsSeen    = "seen"    // software.Seen of a process
	newsChanged = "changed" // one of the subjects below
)

// The subjects of which processes keep something in memory.
const (
	policiesChanged       = "policies"
	tenantsChanged        = "tenants"
	authoritiesChanged    = "authorities"
	routesChanged         = "routes"
	releasesChanged       = "releases"
	configurationsChanged = "configurations"
	flagsChanged          = "flags"
	feedbackArrived       = "feedback"
	fileArrived           = "file"
)

// answerWait is how much longer than what is asked for an answer is waited for.
const answerWait = time.Second

// others are the other processes of a stamp, as its hub knows them.
type others struct {
	stamp   *Stamp
	cluster *cluster.Cluster
	logger  *slog.Logger
	gap     chan struct{} // news may have been lost

	mu      sync.Mutex
	touched map[string]struct{}
}

// meet makes the process one of its stamp's.
func (s *Stamp) meet(ctx context.Context, options Options) error {
	o := &others{stamp: s, logger: s.logger, gap: s.gap, touched: map[string]struct{}{}}
	var err error
	o.cluster, err = cluster.Join(ctx, cluster.Options{
		Stamp: s.name, Name: options.Together.Process, Version: options.Version, DB: s.db, Conn: s.own, Logger: s.logger, Now: options.Now,
		Connections: func() int64 {
			if s.hub == nil {
				return 0 // it is not built yet
			}
			return s.hub.Counts().Connected
		},
		Apart: s.letGo, Reach: s.logs.Reach,
		Stood: func() { s.hub.CutAll("the process stood still") },
		Again: func() { s.hub.Together() },
		Gone:  func(ctx context.Context, id string) error { return s.hub.Devices.ResetConnected(ctx, id) },
	})
	s.others = o
	if err == nil {
		s.logs.Fence(o.cluster.Live)
	}
	return err
}

// letGo ends all that is under way for devices: others have them now.
func (s *Stamp) letGo() {
	s.hub.Apart()
	if err := s.own.Abandon(); err != nil {
		s.logger.Warn("messages may still reach the log late", "error", err)
	}
}

// answer serves the other processes' calls, and hears their news.
func (o *others) answer() error {
	h, s, c := o.stamp.hub, o.stamp, o.cluster
	return errors.Join(
		cluster.Answer(c, claimDevice, func(_ context.Context, claim hub.Claim) (hub.Claimed, error) { return h.LetGo(claim), nil }),
		cluster.Answer(c, cutDevice, func(_ context.Context, req cut) (link.None, error) {
			h.CutHere(req.DeviceID, req.Reason)
			return link.None{}, nil
		}),
		cluster.Answer(c, findDevice, func(ctx context.Context, req find) (link.None, error) {
			return link.None{}, h.Takes(ctx, req.DeviceID, req.Wait)
		}),
		cluster.Answer(c, invokeThere, h.InvokeHere),
		cluster.Answer(c, link.RouteStatuses, s.deliveries.States),
		cluster.Answer(c, link.DeadLetterReplay, s.deliveries.Replay),
		cluster.Hear(c, newsPump, h.PumpHere),
		cluster.Hear(c, newsDesired, h.TellHere),
		cluster.Hear(c, newsTouched, func(ids []string) {
			for _, id := range ids {
				s.lookAt(id)
			}
		}),
		cluster.Hear(c, newsSeen, s.software.Hear),
		cluster.Hear(c, newsChanged, func(subject string) { o.reread(context.Background(), subject) }),
	)
}

// announce has what changes here told to the others.
func (o *others) announce() {
	s := o.stamp
	s.policies.Changed = o.changed(policiesChanged)
	s.hub.Quotas.Changed = o.changed(tenantsChanged)
	s.trust.Changed = o.changed(authoritiesChanged)
	s.deliveries.Changed = o.changed(routesChanged)
	s.configurations.Changed = o.changed(configurationsChanged)
	s.software.Changed = o.changed(releasesChanged)
	s.features.Changed = o.changed(flagsChanged)
	s.hub.Queues.Arrived.Also = o.changed(feedbackArrived)
	s.uploads.Notified.Also = o.changed(fileArrived)
}

func (o *others) changed(subject string) func() {
	return func() { tell(o, newsChanged, subject) }
}

// tell tells news. That they are lost while the servers are away, is made up
// for when they are back.
func tell[T any](o *others, topic string, news T) {
	if err := cluster.Tell(o.cluster, topic, news); err != nil {
		o.logger.Debug("news not told", "topic", topic, "error", err)
	}
}

// reread brings up to date what the process keeps of a subject.
func (o *others) reread(ctx context.Context, subject string) {
	s := o.stamp
	var err error
	switch subject {
	case policiesChanged:
		err = s.policies.Load(ctx)
	case tenantsChanged:
		err = s.hub.Quotas.Load(ctx)
	case authoritiesChanged:
		err = s.trust.Load(ctx)
	case routesChanged:
		s.deliveries.Wake()
		err = s.deliveries.Look(ctx)
	case releasesChanged:
		err = s.software.Load(ctx)
	case flagsChanged:
		err = s.features.Load(ctx)
	case configurationsChanged:
		s.configurations.Again()
	case feedbackArrived:
		s.hub.Queues.Arrived.Wake()
	case fileArrived:
		s.uploads.Notified.Wake()
	}
	if err != nil {
		o.logger.Warn("what another process has changed was not read", "subject", subject, "error", err)
	}
}

const (
	rereadEvery = 10 * time.Second       // without a reason
	fitEvery    = 250 * time.Millisecond // how soon calls go elsewhere
	touchEvery  = 200 * time.Millisecond // how long touched identities are gathered
	maxTouched  = 1000                   // told at once
)

// run tells and makes up for news until ctx ends.
func (o *others) run(ctx context.Context) error {
	reread, touch := time.NewTicker(rereadEvery), time.NewTicker(touchEvery)
	defer reread.Stop()
	defer touch.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-o.gap:
			if err := o.recover(ctx); err != nil {
				o.logger.Warn("what was missed was not made up for; trying again", "error", err)
				o.stamp.gapped()
			}
		case <-reread.C:
			members := len(o.cluster.Members())
			o.stamp.hub.Quotas.Divide(members)
			o.stamp.hub.Operations.Divide(members)
			for _, subject := range []string{policiesChanged, tenantsChanged, authoritiesChanged, routesChanged, releasesChanged} {
				o.reread(ctx, subject)
			}
		case <-touch.C:
			o.tellTouched()
		}
	}
}

// answerWhileFit has calls of other planes answered here only while the process
// has what that takes, until ctx ends.
func (o *others) answerWhileFit(ctx context.Context) error {
	answers := true
	return tasks.Every(ctx, fitEvery, func() {
		fit, change := o.stamp.Ready() == nil, o.stamp.link.Return
		if fit == answers {
			return
		}
		if !fit {
			change = o.stamp.link.Withdraw
		}
		if err := change(); err != nil {
			o.logger.Warn("calls of other planes come here although they should not, or do not", "error", err)
			return
		}
		answers = fit
	})
}

// Retirement takes the time in which balancers notice that the process is not
// ready any more, and no longer than what people wait for a process to stop.
const (
	noticeFor = 3 * time.Second
	retireFor = 15 * time.Second
)

// Retire hands what the process does over to the others of its stamp, so that
// nobody notices when it stops. It returns at once where there are none.
func (s *Stamp) Retire() {
	if s.others == nil || len(s.others.cluster.Members()) < 2 {
		s.hub.SendAway()
		return
	}
	s.logger.Info("handing over to the other processes of the stamp")
	noticed := time.After(noticeFor)
	ctx, cancel := context.WithTimeout(context.Background(), retireFor)
	defer cancel()
	if err := s.link.Leave(); err != nil {
		s.logger.Warn("calls of other planes may still come here", "error", err)
	}
	s.hub.Retire(ctx)
	if err := s.link.Idle(ctx); err != nil {
		s.logger.Warn("calls of other planes were still under way", "error", err)
	}
	<-noticed
}

// recover makes up for news that were lost.
func (o *others) recover(ctx context.Context) error {
	for _, subject := range []string{policiesChanged, tenantsChanged, authoritiesChanged, routesChanged, releasesChanged, flagsChanged, configurationsChanged, feedbackArrived, fileArrived} {
		o.reread(ctx, subject)
	}
	o.stamp.software.Again()
	return o.stamp.hub.Recheck(ctx)
}

// touch has the process that leads look whether configurations and releases are
// for an identity.
func (o *others) touch(id string) {
	if o.cluster.Leads() {
		o.stamp.lookAt(id)
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.touched[id] = struct{}{}
}

func (o *others) tellTouched() {
	o.mu.Lock()
	touched := o.touched
	o.touched = map[string]struct{}{}
	o.mu.Unlock()
	ids := make([]string, 0, min(len(touched), maxTouched))
	for id := range touched {
		if ids = append(ids, id); len(ids) == maxTouched {
			tell(o, newsTouched, ids)
			ids = ids[:0]
		}
	}
	if len(ids) > 0 {
		tell(o, newsTouched, ids)
	}
}

// Live is hub.Others'.
func (o *others) Live() bool { return o.cluster.Live() }

// Admits is hub.Others'.
func (o *others) Admits() bool { return o.cluster.Admits() }

// Claim is hub.Others'.
func (o *others) Claim(ctx context.Context, claim hub.Claim) (all hub.Claimed, err error) {
	answers, err := cluster.Require(ctx, o.cluster, claimDevice, claim)
	for _, answer := range answers {
		all.Lost = all.Lost || answer.Lost
		all.Had = all.Had || answer.Had
	}
	return all, err
}

// Cut is hub.Others'.
func (o *others) Cut(ctx context.Context, id, reason string) error {
	return cluster.Everywhere(ctx, o.cluster, cutDevice, cut{id, reason})
}

// Pump is hub.Others'.
func (o *others) Pump(id string) { tell(o, newsPump, id) }

// Tell is hub.Others'.
func (o *others) Tell(c hub.Change) { tell(o, newsDesired, c) }

// Find is hub.Others'.
func (o *others) Find(ctx context.Context, id string, wait time.Duration) string {
	ctx, cancel := context.WithTimeout(ctx, wait+answerWait)
	defer cancel()
	return cluster.First(ctx, o.cluster, findDevice, find{id, wait})
}

// Invoke is hub.Others'.
func (o *others) Invoke(ctx context.Context, process string, req link.InvokeMethod) (hub.Invoked, error) {
	ctx, cancel := context.WithTimeout(ctx, req.ResponseTimeout+answerWait)
	defer cancel()
	return cluster.Ask(ctx, o.cluster, process, invokeThere, req)
}

// atLeader has a call answered by the process that leads.
func atLeader[Req, Resp any](s *Stamp, call link.Call[Req, Resp], fn func(context.Context, Req) (Resp, error)) func(context.Context, Req) (Resp, error) {
	return func(ctx context.Context, req Req) (Resp, error) {
		if s.others == nil || s.others.cluster.Leads() {
			return fn(ctx, req)
		}
		return cluster.AskLeader(ctx, s.others.cluster, call, req)
	}
}

// lead runs what one process of the stamp does for all.
func (s *Stamp) lead(ctx context.Context, all ...tasks.Task) error {
	run := func(ctx context.Context) error { return tasks.Run(ctx, all...) }
	if s.others == nil {
		return run(ctx)
	}
	return s.others.cluster.Lead(ctx, run)
}

// gapped notes that news may have been lost.
func (s *Stamp) gapped() {
	select {
	case s.gap <- struct{}{}:
	default:
	}
}

// Leads reports whether this process does what one of the stamp's does for all.
func (s *Stamp) Leads() bool { return s.others == nil || s.others.cluster.Leads() }
