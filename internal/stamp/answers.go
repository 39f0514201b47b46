package stamp

import (
	"context"
	"errors"
	"io"
	"math"
	"sync"
	"time"

	"github.com/slipway/slipway/internal/bus"
	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/problem"
)

// answer serves the calls of the other planes.
func (s *Stamp) answer() error {
	peer := link.StampPeer(s.name)
	return errors.Join(
		bus.Answer(s.link, peer, link.IdentityPut, s.hub.PutIdentity),
		bus.Answer(s.link, peer, link.IdentityRemove, s.hub.RemoveIdentity),
		bus.Answer(s.link, peer, link.DeviceGet, s.getDevice),
		bus.Answer(s.link, peer, link.DeviceLookup, s.lookup),
		bus.Answer(s.link, peer, link.DeviceQuery, s.query),
		bus.Answer(s.link, peer, link.TwinGet, s.hub.Twin),
		bus.Answer(s.link, peer, link.TwinPatch, s.hub.PatchTwin),
		bus.Answer(s.link, peer, link.TwinReplace, s.hub.ReplaceTwin),
		bus.Answer(s.link, peer, link.MethodInvoke, s.hub.Invoke),
		bus.Answer(s.link, peer, link.MessageSend, s.hub.Send),
		bus.Answer(s.link, peer, link.MessageList, s.queued),
		bus.Answer(s.link, peer, link.MessagePurge, s.purge),
		bus.Answer(s.link, peer, link.UploadList, s.listUploads),
		bus.AnswerFeed(s.link, peer, link.UploadRead, s.readUpload),
		bus.Answer(s.link, peer, link.PolicyList, s.policies.Answer),
		bus.Answer(s.link, peer, link.PolicyRotate, s.policies.AnswerRotate),
		bus.Answer(s.link, peer, link.TelemetryRead, s.logs.ReadTelemetry),
		bus.Answer(s.link, peer, link.EventRead, s.logs.ReadEvents),
		bus.AnswerFeed(s.link, peer, link.TelemetryWatch, s.logs.WatchTelemetry),
		bus.AnswerFeed(s.link, peer, link.EventWatch, s.logs.WatchEvents),
		bus.Answer(s.link, peer, link.QueryRun, s.runQuery),
		bus.Answer(s.link, peer, link.JobList, s.listJobs),
		bus.Answer(s.link, peer, link.JobCancel, s.cancelJob),
		bus.Answer(s.link, peer, link.ConfigurationList, s.listConfigurations),
		bus.Answer(s.link, peer, link.RoutesPut, s.deliveries.Put),
		bus.Answer(s.link, peer, link.HeldRead, s.held),
		bus.Answer(s.link, peer, link.ConfigurationsPut, func(ctx context.Context, want link.WantedConfigurations) (link.None, error) {
			return link.None{}, s.configurations.Settle(ctx, want.Items, s.hub.Now())
		}),
		bus.Answer(s.link, peer, link.ReleasesPut, s.software.Put),
		bus.Answer(s.link, peer, link.FlagsPut, s.features.Put),
		bus.Answer(s.link, peer, link.UpdateList, s.software.List),
		bus.Answer(s.link, peer, link.UpdateTokenRead, s.updates.Token),
		bus.Answer(s.link, peer, link.UpdateGatewaySet, s.updates.SetGateway),
		bus.Answer(s.link, peer, link.AuthoritiesPut, s.trust.Put),
		bus.Answer(s.link, peer, link.TenantsPut, s.hub.Quotas.Put),
		bus.Answer(s.link, peer, link.RouteTry, s.deliveries.Try),
		bus.Answer(s.link, peer, link.RouteStatuses, atLeader(s, link.RouteStatuses, s.deliveries.States)),
		bus.Answer(s.link, peer, link.DeadLetterList, s.deliveries.DeadLetters),
		bus.Answer(s.link, peer, link.DeadLetterReplay, atLeader(s, link.DeadLetterReplay, s.deliveries.Replay)),
		bus.Answer(s.link, peer, link.DeadLetterPurge, s.deliveries.Purge),
		bus.Answer(s.link, peer, link.BackupTake, atLeader(s, link.BackupTake, s.backups.Take)),
		bus.Answer(s.link, peer, link.BackupStatus, atLeader(s, link.BackupStatus, s.backups.Status)),
		s.answerCare(peer),
		bus.Answer(s.link, peer, link.ConsumerRead, s.consumers.Read),
		bus.Answer(s.link, peer, link.ConsumerAck, s.consumers.Ack),
		bus.Answer(s.link, peer, link.ConsumerSeek, s.consumers.Seek),
		bus.Answer(s.link, peer, link.ConsumerList, s.consumers.List),
		bus.Answer(s.link, peer, link.ConsumerDelete, s.consumers.Delete),
	)
}

func (s *Stamp) getDevice(ctx context.Context, ref link.DeviceRef) (link.Device, error) {
	found, err := s.lookup(ctx, link.DeviceRefs{DeviceIDs: []string{ref.DeviceID}})
	if err != nil {
		return link.Device{}, err
	}
	if len(found.Items) == 0 {
		return link.Device{}, problem.New(problem.NotFound, "device %s is not on stamp %s", ref.DeviceID, s.name)
	}
	return found.Items[0], nil
}

func (s *Stamp) lookup(ctx context.Context, refs link.DeviceRefs) (link.Devices, error) {
	if len(refs.DeviceIDs) > link.MaxPage {
		return link.Devices{}, problem.New(problem.Invalid, "at most %d devices can be looked up at once, not %d", link.MaxPage, len(refs.DeviceIDs)).At("deviceIds")
	}
	items, err := s.hub.Devices.Lookup(ctx, refs.DeviceIDs)
	return s.overlay(link.Devices{Items: items}), err
}

func (s *Stamp) query(ctx context.Context, req link.QueryDevices) (link.Devices, error) {
	page, err := s.hub.Devices.Query(ctx, req)
	return s.overlay(page), err
}

func (s *Stamp) overlay(page link.Devices) link.Devices {
	for i := range page.Items {
		s.hub.Overlay(&page.Items[i])
	}
	return page
}

func (s *Stamp) queued(ctx context.Context, ref link.DeviceRef) (link.QueuedMessages, error) {
	items, err := s.hub.Queues.List(ctx, ref.DeviceID, s.hub.Now())
	return link.QueuedMessages{Items: items}, err
}

func (s *Stamp) purge(ctx context.Context, ref link.DeviceRef) (link.Purged, error) {
	return s.hub.Purge(ctx, ref.DeviceID)
}

func (s *Stamp) listUploads(ctx context.Context, req link.ListUploads) (link.Uploads, error) {
	limit := req.Limit
	if limit <= 0 || limit > link.MaxPage {
		limit = link.MaxPage
	}
	items, err := s.uploads.List(ctx, req.DeviceID, limit)
	return link.Uploads{Items: items}, err
}

// uploadChunk is how much of a file goes over the link at once.
const uploadChunk = 64 << 10

func (s *Stamp) readUpload(ctx context.Context, req link.ReadUpload, send func(link.UploadChunk) error) (err error) {
	blob, file, err := s.uploads.Find(ctx, req.Blob)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	buffer := make([]byte, uploadChunk)
	for {
		n, err := file.Read(buffer)
		if n > 0 || blob.Size == 0 {
			if err := send(link.UploadChunk{Size: blob.Size, Data: buffer[:n]}); err != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// observeEvery is how often a stamp tells of itself.
const observeEvery = time.Second

// observe tells whoever listens how the stamp is, until ctx ends.
func (s *Stamp) observe(ctx context.Context) error {
	tick := time.NewTicker(observeEvery)
	defer tick.Stop()
	for {
		o, err := s.observed(ctx)
		if err == nil {
			err = bus.Tell(s.link, link.ObservedSubject(link.StampPeer(s.name)), o)
		}
		if err != nil && ctx.Err() == nil && !problem.Is(err, problem.NotReady) {
			s.logger.Warn("observation not told", "error", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

func (s *Stamp) observed(ctx context.Context) (link.Observed, error) {
	devices, err := s.census.count(ctx, s.hub.Devices.Count)
	if err != nil {
		return link.Observed{}, err
	}
	messages, bytes, err := s.logs.Accepted(ctx)
	if err != nil {
		return link.Observed{}, err
	}
	now, counts := s.hub.Now(), s.hub.Counts()
	host := ""
	if told := s.told.Load(); told != nil {
		host = *told
	}
	sockets := int64(0)
	if open := s.sockets.Load(); open != nil {
		sockets = (*open)()
	}
	observed := link.Observed{
		Host: host, Limits: s.limits, Stamp: s.name, At: now.UTC(), Devices: devices, Connected: counts.Connected, Sockets: sockets,
		Messages: messages, Rate: s.rate.observe(now, counts.Accepted),
		Admission: (*link.Admission)(&counts.Admission),
		Refused:   counts.Refused, Throttled: counts.Throttled, OverQuota: s.hub.Quotas.Exceeded(), BytesStored: bytes,
		Version: s.version, StartedAt: s.started,
	}
	if s.others != nil {
		observed.Process, observed.Leads = s.others.cluster.ID(), s.others.cluster.Leads()
		seen := s.software.Here()
		seen.Process = observed.Process
		tell(s.others, newsSeen, seen)
	}
	if s.Leads() {
		observed.Releases, err = s.software.Progress(ctx)
	}
	return observed, err
}

// census is how many devices there are. Counting looks at every one of them,
// so that the more there are the less often it is done.
type census struct {
	mu   sync.Mutex
	n    int64
	next time.Time
}

// countShare bounds how much of the time is spent on counting: one part in so
// many.
const countShare = 50

func (c *census) count(ctx context.Context, all func(context.Context) (int64, error)) (int64, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	began := time.Now()
	if began.Before(c.next) {
		return c.n, nil
	}
	n, err := all(ctx)
	if err == nil {
		ended := time.Now()
		c.n, c.next = n, ended.Add(countShare*ended.Sub(began))
	}
	return n, err
}

// rateMeter turns a counter into a rate, smoothed over some seconds.
type rateMeter struct {
	mu      sync.Mutex
	at      time.Time
	counted uint64
	rate    float64
}

const rateMemory = 5 * time.Second

func (m *rateMeter) observe(now time.Time, counter uint64) float64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	elapsed := now.Sub(m.at)
	switch {
	case m.at.IsZero():
		m.at, m.counted = now, counter
	case elapsed >= observeEvery/2:
		fresh := float64(counter-m.counted) / elapsed.Seconds()
		keep := math.Exp(-elapsed.Seconds() / rateMemory.Seconds())
		m.rate = m.rate*keep + fresh*(1-keep)
		m.at, m.counted = now, counter
	}
	return math.Round(m.rate*100) / 100
}
