package monitor

import (
	"context"
	"errors"
	"io"
	"math"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/exemplar"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/metadata"
	"github.com/prometheus/prometheus/model/textparse"
	"github.com/prometheus/prometheus/model/value"
	"github.com/prometheus/prometheus/storage"

	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/metrics"
	"github.com/slipway/slipway/internal/resource"
)

// Job is the label "job" of every series that Slipway's own processes tell.
const Job = "slipway"

// silentAfter is how long after its last word a process counts as down.
const silentAfter = 3 * link.MetricsEvery

// forgottenAfter is how long after its last word a process that is one of
// several is no longer expected.
const forgottenAfter = 15 * time.Minute

// target is a process that tells its metrics.
type target struct {
	peer, process string
	labels        labels.Labels
	seen          time.Time // when it told last
	samples       int
	failure       string
	series        map[string]known // by the text that names them
}

// known is a series of a target.
type known struct {
	ref    storage.SeriesRef
	labels labels.Labels
}

// fact is what is known of a metric beside its values.
type fact struct{ Type, Help, Unit string }

// instance names a process among all.
func instance(peer, process string) string {
	if process == "" {
		return peer
	}
	return process
}

// labelsOf are the labels that every series of a process bears beside its own.
func (m *Monitor) labelsOf(ctx context.Context, peer, process string) labels.Labels {
	b := labels.NewBuilder(labels.EmptyLabels())
	b.Set(model.JobLabel, Job).Set(model.InstanceLabel, instance(peer, process)).Set("plane", peer)
	if name, isStamp := link.StampOfPeer(peer); isStamp {
		spec := m.stamp(ctx, name)
		b.Set("plane", "stamp").Set("stamp", name).Set("environment", spec.Environment).Set("region", spec.Region)
	}
	return b.Labels()
}

// stamp is what control knows of one.
func (m *Monitor) stamp(ctx context.Context, name string) resource.StampSpec {
	m.mu.Lock()
	spec, found := m.stamps[name]
	m.mu.Unlock()
	if found {
		return spec
	}
	if err := m.expect(ctx); err != nil {
		m.Logger.Warn("stamps could not be looked up", "error", err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.stamps[name]
}

// take keeps what a process tells now.
func (m *Monitor) take(ctx context.Context, peer, process string, text []byte, skew time.Duration) error {
	own, now := m.labelsOf(ctx, peer, process), m.Now()
	m.mu.Lock()
	defer m.mu.Unlock()
	t := m.targets[instance(peer, process)]
	if t == nil || !labels.Equal(t.labels, own) {
		t = &target{peer: peer, process: process, labels: own, series: map[string]known{}}
		m.targets[instance(peer, process)] = t
	}
	began := time.Now()
	app := m.db.AppenderV2(ctx)
	samples, err := m.append(app, t, text, now.UnixMilli())
	if err != nil {
		t.failure = err.Error()
		return errors.Join(err, app.Rollback())
	}
	t.seen, t.samples, t.failure = now, samples, ""
	err = errors.Join(
		m.report(app, t, "up", 1, now),
		m.report(app, t, "slipway_clock_skew_seconds", skew.Seconds(), now),
		m.report(app, t, "scrape_samples_scraped", float64(samples), now),
		m.report(app, t, "scrape_duration_seconds", time.Since(began).Seconds(), now),
	)
	if err != nil {
		return errors.Join(err, app.Rollback())
	}
	return app.Commit()
}

// append adds every sample of a text, and says of series that the process had
// and has no more that they have ended.
func (m *Monitor) append(app storage.AppenderV2, t *target, text []byte, at int64) (samples int, err error) {
	parser, err := textparse.New(text, string(metrics.Format), nil, textparse.ParserOptions{})
	if err != nil {
		return 0, err
	}
	fresh := make(map[string]known, len(t.series))
	for {
		entry, err := parser.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return 0, err
		}
		m.learn(entry, parser)
		if entry != textparse.EntrySeries {
			continue
		}
		name, _, v := parser.Series()
		one, seen := t.series[string(name)]
		if !seen {
			var l labels.Labels
			parser.Labels(&l)
			one.labels = withOwn(l, t.labels)
		}
		family := m.facts[one.labels.Get(model.MetricNameLabel)]
		if one.ref, err = app.Append(one.ref, one.labels, 0, at, v, nil, nil, storage.AppendV2Options{
			Exemplars: exemplars(parser, at), Metadata: metadata.Metadata{Type: model.MetricType(family.Type), Help: family.Help},
		}); err != nil && !partial(err) {
			return 0, err
		}
		fresh[string(name)] = one
		samples++
	}
	for name, one := range t.series {
		if _, still := fresh[name]; !still {
			if err := end(app, one, at); err != nil {
				return 0, err
			}
		}
	}
	t.series = fresh
	return samples, nil
}

// partial reports whether an error is about exemplars alone.
func partial(err error) bool {
	var p *storage.AppendPartialError
	return errors.As(err, &p)
}

// end says that a series has ended.
func end(app storage.AppenderV2, one known, at int64) error {
	_, err := app.Append(one.ref, one.labels, 0, at, math.Float64frombits(value.StaleNaN), nil, nil, storage.AppendV2Options{})
	if errors.Is(err, storage.ErrOutOfOrderSample) || errors.Is(err, storage.ErrDuplicateSampleForTimestamp) {
		return nil
	}
	return err
}

// withOwn adds a target's labels. Those that the series has itself are kept: what
// control counts of stamps is about those stamps.
func withOwn(l, own labels.Labels) labels.Labels {
	b := labels.NewBuilder(l)
	own.Range(func(o labels.Label) {
		if !l.Has(o.Name) {
			b.Set(o.Name, o.Value)
		}
	})
	return b.Labels()
}

func exemplars(parser textparse.Parser, at int64) (all []exemplar.Exemplar) {
	for {
		var e exemplar.Exemplar
		if !parser.Exemplar(&e) {
			return all
		}
		if !e.HasTs {
			e.Ts, e.HasTs = at, true
		}
		all = append(all, e)
	}
}

// learn keeps what a text says of its metrics beside their values.
func (m *Monitor) learn(entry textparse.Entry, parser textparse.Parser) {
	switch entry {
	case textparse.EntryType:
		name, kind := parser.Type()
		f := m.facts[string(name)]
		f.Type = string(kind)
		m.facts[string(name)] = f
	case textparse.EntryHelp:
		name, help := parser.Help()
		f := m.facts[string(name)]
		f.Help = string(help)
		m.facts[string(name)] = f
	}
}

func (m *Monitor) report(app storage.AppenderV2, t *target, name string, v float64, now time.Time) error {
	b := labels.NewBuilder(t.labels)
	b.Set(model.MetricNameLabel, name)
	_, err := app.Append(0, b.Labels(), 0, now.UnixMilli(), v, nil, nil, storage.AppendV2Options{})
	return err
}

// noticeSilence says of processes that are meant to tell and do not that they
// are down, and of what they told that it has ended.
func (m *Monitor) noticeSilence(ctx context.Context) error {
	if err := m.expect(ctx); err != nil {
		return err
	}
	now := m.Now()
	m.mu.Lock()
	defer m.mu.Unlock()
	app := m.db.AppenderV2(ctx)
	for name, t := range m.targets {
		silent := now.Sub(t.seen)
		if silent < silentAfter {
			continue
		}
		for _, one := range t.series {
			if err := end(app, one, now.UnixMilli()); err != nil {
				return errors.Join(err, app.Rollback())
			}
		}
		t.series = map[string]known{}
		if !m.expected(t.peer) || t.process != "" && silent > forgottenAfter {
			delete(m.targets, name)
			continue
		}
		if err := m.report(app, t, "up", 0, now); err != nil {
			return errors.Join(err, app.Rollback())
		}
	}
	return app.Commit()
}

// expected reports whether a peer is meant to tell. The caller holds mu.
func (m *Monitor) expected(peer string) bool {
	name, isStamp := link.StampOfPeer(peer)
	_, declared := m.stamps[name]
	return !isStamp || declared
}

// expect notes which stamps there are, and that each of them is meant to tell.
func (m *Monitor) expect(ctx context.Context) error {
	all, err := m.Stamps(ctx)
	if err != nil {
		return err
	}
	peers := []string{link.ControlPeer, link.ProvisioningPeer}
	m.mu.Lock()
	m.stamps = map[string]resource.StampSpec{}
	for _, s := range all {
		m.stamps[s.Metadata.Name] = s.Spec
		peers = append(peers, link.StampPeer(s.Metadata.Name))
	}
	have := map[string]bool{}
	for _, t := range m.targets {
		have[t.peer] = true
	}
	m.mu.Unlock()
	for _, peer := range peers {
		if !have[peer] {
			own := m.labelsOf(ctx, peer, "")
			m.mu.Lock()
			m.targets[peer] = &target{peer: peer, labels: own, seen: m.Now(), series: map[string]known{}}
			m.mu.Unlock()
		}
	}
	return nil
}
