package alert

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	amalert "github.com/prometheus/alertmanager/alert"
	"github.com/prometheus/alertmanager/config"
	"github.com/prometheus/alertmanager/dispatch"
	"github.com/prometheus/alertmanager/eventrecorder"
	"github.com/prometheus/alertmanager/featurecontrol"
	"github.com/prometheus/alertmanager/inhibit"
	"github.com/prometheus/alertmanager/nflog"
	"github.com/prometheus/alertmanager/notify"
	amlabels "github.com/prometheus/alertmanager/pkg/labels"
	"github.com/prometheus/alertmanager/provider/mem"
	"github.com/prometheus/alertmanager/silence"
	"github.com/prometheus/alertmanager/silence/silencepb"
	"github.com/prometheus/alertmanager/template"
	"github.com/prometheus/alertmanager/timeinterval"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/rules"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/slipway/slipway/internal/control/monitor"
	"github.com/slipway/slipway/internal/resource"
)

// How alerts are grouped and repeated where a receiver says nothing else.
const (
	groupWait   = 10 * time.Second
	groupEvery  = time.Minute
	repeatEvery = 4 * time.Hour
	keepTold    = 5 * 24 * time.Hour // how long it is remembered who was told of what
	sendWithin  = 30 * time.Second
)

var groupBy = []string{"alertname", "environment", "stamp"}

// router decides who is told of which alerts, and when. Its parts are
// Alertmanager's.
type router struct {
	of         *Alerts
	alerts     *mem.Alerts
	silences   *silence.Silences
	silencer   *silence.Silencer
	told       *nflog.Log
	builder    *notify.PipelineBuilder
	template   *template.Template
	inhibitor  *inhibit.Inhibitor
	dispatcher *dispatch.Dispatcher
	ending     chan struct{}
	running    sync.WaitGroup

	known   map[string]string // silences that are set: ours to theirs
	current string            // the receivers that are set, as text
}

func newRouter(a *Alerts) (*router, error) {
	r := &router{of: a, ending: make(chan struct{}), known: map[string]string{}}
	logger, own, flags, recorder := monitor.Quiet(a.Logger, "alerts"), prometheus.NewRegistry(), featurecontrol.NoopFlags{}, eventrecorder.NopRecorder()
	if err := os.MkdirAll(a.Dir, 0o700); err != nil {
		return nil, err
	}
	var err error
	if r.silences, err = silence.New(silence.Options{Retention: keepTold, Logger: logger, Metrics: own}); err != nil {
		return nil, err
	}
	r.silencer = silence.NewSilencer(r.silences, logger, recorder)
	file := filepath.Join(a.Dir, "told")
	if r.told, err = nflog.New(nflog.Options{SnapshotFile: file, Retention: keepTold, Logger: logger, Metrics: own}); err != nil {
		return nil, err
	}
	r.running.Go(func() { r.told.Maintenance(time.Minute, file, r.ending, nil) })
	if r.alerts, err = mem.NewAlerts(context.Background(), 30*time.Minute, 0, r.silencer, logger, recorder, own, flags); err != nil {
		return nil, err
	}
	r.builder = notify.NewPipelineBuilder(own, flags, recorder)
	if r.template, err = template.FromGlobs(nil); err != nil {
		return nil, err
	}
	r.template.ExternalURL, err = url.Parse(a.Address)
	return r, err
}

// takeOver follows what is declared now.
func (r *router) takeOver(receivers []resource.Receiver, silences []Silence) error {
	if err := r.silence(silences); err != nil {
		return err
	}
	text := fmt.Sprintf("%+v", versions(receivers))
	if text == r.current {
		return nil
	}
	r.current = text
	r.end()
	root := &config.Route{Receiver: nobody}
	integrations := map[string][]notify.Integration{nobody: nil}
	for _, one := range receivers {
		if one.Spec.Disabled || one.Spec.Alertmanager != nil {
			continue
		}
		name := one.Metadata.Name
		root.Routes = append(root.Routes, routeTo(name, one.Spec))
		integrations[name] = []notify.Integration{notify.NewIntegration(sender{r.of, name}, resolved(!one.Spec.OnlyFiring), kindOf(one.Spec), 0, name)}
	}
	logger, recorder := monitor.Quiet(r.of.Logger, "alerts"), eventrecorder.NopRecorder()
	intervener := timeinterval.NewIntervener(nil)
	r.inhibitor = inhibit.NewInhibitor(r.alerts, nil, logger, recorder)
	go r.inhibitor.Run()
	r.inhibitor.WaitForLoading()
	pipeline := r.builder.New(integrations, func() time.Duration { return 0 }, r.inhibitor, r.silencer, intervener, r.told, nil)
	within := func(d time.Duration) time.Duration { return max(d, sendWithin) }
	r.dispatcher = dispatch.NewDispatcher(r.alerts, dispatch.NewRoute(root, nil), pipeline, intervener, within, 30*time.Second, nil, logger, recorder, nil, r.template)
	go r.dispatcher.Run(time.Now())
	r.dispatcher.WaitForLoading()
	return nil
}

// nobody is the receiver of alerts that no receiver wants.
const nobody = "(nobody)"

func versions(receivers []resource.Receiver) (all []string) {
	for _, one := range receivers {
		all = append(all, one.Metadata.Name+"@"+one.Metadata.ETag)
	}
	return all
}

// routeTo is the way of alerts to a receiver. They go on to others, too.
func routeTo(name string, s resource.ReceiverSpec) *config.Route {
	by := s.GroupBy
	if len(by) == 0 {
		by = groupBy
	}
	route := &config.Route{Receiver: name, Continue: true}
	for _, l := range by {
		route.GroupBy = append(route.GroupBy, model.LabelName(l))
	}
	for l, v := range s.Match {
		// A declared value is no pattern, but for | between several.
		route.Matchers = append(route.Matchers, matcher(l, v))
	}
	slices.SortFunc(route.Matchers, func(a, b *amlabels.Matcher) int { return strings.Compare(a.Name, b.Name) })
	span := func(s resource.Span, otherwise time.Duration) *model.Duration {
		d := model.Duration(s.Duration(otherwise))
		return &d
	}
	route.GroupWait, route.GroupInterval, route.RepeatInterval = span(s.GroupWait, groupWait), span(s.GroupEvery, groupEvery), span(s.RepeatEvery, repeatEvery)
	return route
}

func matcher(name, value string) *amlabels.Matcher {
	parts := strings.Split(value, "|")
	for i, p := range parts {
		parts[i] = quoteMeta(p)
	}
	m, err := amlabels.NewMatcher(amlabels.MatchRegexp, name, strings.Join(parts, "|"))
	if err != nil {
		m, _ = amlabels.NewMatcher(amlabels.MatchEqual, name, value)
	}
	return m
}

type resolved bool

// SendResolved is of Alertmanager.
func (r resolved) SendResolved() bool { return bool(r) }

// silence sets those that were declared, and ends those that are no more.
func (r *router) silence(all []Silence) error {
	now, wanted := r.of.Now(), map[string]bool{}
	for _, s := range all {
		wanted[s.ID] = true
		if _, set := r.known[s.ID]; set || !now.Before(s.EndsAt) {
			continue
		}
		theirs := &silencepb.Silence{
			StartsAt: timestamppb.New(s.StartsAt), EndsAt: timestamppb.New(s.EndsAt), CreatedBy: s.CreatedBy, Comment: s.Reason,
			MatcherSets: []*silencepb.MatcherSet{{Matchers: s.theirs()}},
		}
		if err := r.silences.Set(context.Background(), theirs); err != nil {
			return fmt.Errorf("silence %s: %w", s.ID, err)
		}
		r.known[s.ID] = theirs.Id
	}
	for id, theirs := range r.known {
		if !wanted[id] {
			delete(r.known, id)
			if err := r.silences.Expire(context.Background(), theirs); err != nil {
				return fmt.Errorf("silence %s: %w", id, err)
			}
		}
	}
	return nil
}

// end stops telling anybody.
func (r *router) end() {
	if r.inhibitor != nil {
		r.inhibitor.Stop()
	}
	if r.dispatcher != nil {
		r.dispatcher.Stop()
	}
}

func (r *router) stop() {
	r.end()
	r.alerts.Close()
	close(r.ending)
	r.running.Wait()
}

// found takes what a rule has found.
func (a *Alerts) found(ctx context.Context, expr string, all ...*rules.Alert) {
	batch := make([]*amalert.Alert, 0, len(all))
	raw := make([]outgoing, 0, len(all))
	now := a.Now()
	for _, one := range all {
		ends := one.ValidUntil
		if !one.ResolvedAt.IsZero() {
			ends = one.ResolvedAt
		}
		l, annotations := model.LabelSet{}, model.LabelSet{}
		for k, v := range one.Labels.Map() {
			l[model.LabelName(k)] = model.LabelValue(v)
		}
		for k, v := range one.Annotations.Map() {
			if k != "runbook" {
				annotations[model.LabelName(k)] = model.LabelValue(v)
			}
		}
		if link := a.runbook(one.Annotations.Map()); link != "" {
			annotations["runbook_url"] = model.LabelValue(link)
		}
		generator := a.Address + "/monitor?query=" + url.QueryEscape(expr)
		batch = append(batch, amalert.New(model.Alert{Labels: l, Annotations: annotations, StartsAt: one.FiredAt, EndsAt: ends, GeneratorURL: generator}, now, one.ResolvedAt.IsZero()))
		raw = append(raw, outgoing{Labels: l, Annotations: annotations, StartsAt: one.FiredAt, EndsAt: ends, GeneratorURL: generator})
	}
	if err := a.router.alerts.Put(ctx, batch...); err != nil {
		a.Logger.Error("alerts were not taken", "error", err)
	}
	a.pass(ctx, all)
	select {
	case a.raw <- raw:
	default:
		a.Logger.Warn("alerts come faster than Alertmanagers take them; some are left out until they are told again")
	}
}

// pass tells of alerts that fire, or have ended, whoever keeps that.
func (a *Alerts) pass(ctx context.Context, all []*rules.Alert) {
	if a.Noted == nil {
		return
	}
	silences, err := a.Silences(ctx)
	turns, failure := a.OnCalls(ctx)
	if err = errors.Join(err, failure); err == nil {
		fired := make([]Fired, 0, len(all))
		for _, one := range all {
			f := Fired{Alert: a.shown(one, silences, turns), Fingerprint: one.Labels.String()}
			if f.Since = one.FiredAt.UTC(); !one.ResolvedAt.IsZero() {
				ended := one.ResolvedAt.UTC()
				f.EndedAt = &ended
			}
			fired = append(fired, f)
		}
		err = a.Noted(ctx, fired)
	}
	if err != nil && ctx.Err() == nil {
		a.Logger.Error("that alerts fire was not taken down; it is told again", "error", err)
	}
}
