package monitor

import (
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/value"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
)

// about is what Prometheus tells of a metric.
type about struct {
	Type string `json:"type"`
	Help string `json:"help"`
	Unit string `json:"unit"`
}

func (m *Monitor) serveMetadata(r *http.Request) (any, []string, error) {
	limit, err := limitOf(r)
	if err != nil {
		return nil, nil, err
	}
	only := r.FormValue("metric")
	m.mu.Lock()
	defer m.mu.Unlock()
	all := map[string][]about{}
	for _, name := range firstOf(slices.Sorted(maps.Keys(m.facts)), limit) {
		f := m.facts[name]
		if f.Type == string(model.MetricTypeCounter) {
			name += "_total" // OpenMetrics names the family without it, and everybody else the series
		}
		if only == "" || only == name {
			all[name] = []about{{f.Type, f.Help, f.Unit}}
		}
	}
	return all, nil, nil
}

// Target is a process that is meant to tell its metrics.
type Target struct {
	Instance    string    `json:"instance"`
	Plane       string    `json:"plane"`
	Stamp       string    `json:"stamp,omitempty"`
	Environment string    `json:"environment,omitempty"`
	Up          bool      `json:"up"`
	Seen        time.Time `json:"seen"`
	Samples     int       `json:"samples"`
	Problem     string    `json:"problem,omitempty"`
}

// Targets are the processes that are meant to tell, in order of name.
func (m *Monitor) Targets() []Target {
	m.mu.Lock()
	defer m.mu.Unlock()
	all := []Target{}
	for _, name := range slices.Sorted(maps.Keys(m.targets)) {
		t := m.targets[name]
		one := Target{
			Instance: name, Plane: t.labels.Get("plane"), Stamp: t.labels.Get("stamp"), Environment: t.labels.Get("environment"),
			Up: m.Now().Sub(t.seen) < silentAfter && t.samples > 0 && t.failure == "", Seen: t.seen.UTC(), Samples: t.samples, Problem: t.failure,
		}
		if !one.Up && one.Problem == "" {
			one.Problem = "it tells nothing"
		}
		all = append(all, one)
	}
	return all
}

// serveTargets tells of processes as Prometheus tells of targets.
func (m *Monitor) serveTargets(*http.Request) (any, []string, error) {
	active := []map[string]any{}
	for _, t := range m.Targets() {
		health := "up"
		if !t.Up {
			health = "down"
		}
		own := map[string]string{model.JobLabel: Job, model.InstanceLabel: t.Instance, "plane": t.Plane}
		if t.Stamp != "" {
			own["stamp"], own["environment"] = t.Stamp, t.Environment
		}
		active = append(active, map[string]any{
			"discoveredLabels": map[string]string{}, "labels": own, "scrapePool": Job, "scrapeUrl": "link:" + t.Instance, "globalUrl": "link:" + t.Instance,
			"lastError": t.Problem, "lastScrape": t.Seen, "lastScrapeDuration": 0, "health": health, "scrapeInterval": "10s", "scrapeTimeout": "10s",
		})
	}
	return map[string]any{"activeTargets": active, "droppedTargets": []any{}, "droppedTargetCounts": map[string]int{}}, nil, nil
}

// serveExemplars tells which traces stand behind series.
func (m *Monitor) serveExemplars(r *http.Request) (any, []string, error) {
	from, to, err := stretch(r, m.Now(), false)
	if err != nil {
		return nil, nil, err
	}
	set, err := m.matchers([]string{r.FormValue("query")})
	if err != nil {
		return nil, nil, err
	}
	q, err := m.db.ExemplarQuerier(r.Context())
	if err != nil {
		return nil, nil, err
	}
	found, err := q.Select(from.UnixMilli(), to.UnixMilli(), set...)
	if err != nil {
		return nil, nil, err
	}
	all := []map[string]any{}
	for _, one := range found {
		exemplars := []map[string]any{}
		for _, e := range one.Exemplars {
			exemplars = append(exemplars, map[string]any{"labels": e.Labels, "value": fmt.Sprint(e.Value), "timestamp": float64(e.Ts) / 1000})
		}
		all = append(all, map[string]any{"seriesLabels": one.SeriesLabels, "exemplars": exemplars})
	}
	return all, nil, nil
}

// serveFederate shows the last value of the series that are selected, for
// another Prometheus to scrape.
func (m *Monitor) serveFederate(w http.ResponseWriter, r *http.Request) {
	if err := r.ParseForm(); err != nil {
		write(w, nil, nil, err)
		return
	}
	now := m.Now()
	r.Form.Set("start", fmt.Sprintf("%.3f", float64(now.Add(-lookBack).UnixMilli())/1000))
	r.Form.Set("end", fmt.Sprintf("%.3f", float64(now.UnixMilli())/1000))
	var lines []string
	err := m.each(r, &storage.SelectHints{}, func(s storage.Series) error {
		var at int64
		var v float64
		it := s.Iterator(nil)
		for it.Next() == chunkenc.ValFloat {
			at, v = it.At()
		}
		if at != 0 && !value.IsStaleNaN(v) {
			lines = append(lines, federated(s.Labels(), v, at))
		}
		return it.Err()
	})
	if err != nil {
		write(w, nil, nil, err)
		return
	}
	slices.Sort(lines)
	w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
	_, _ = w.Write([]byte(strings.Join(slices.Compact(lines), "")))
}

// federated is a series in the text format of Prometheus.
func federated(l labels.Labels, v float64, at int64) string {
	var text strings.Builder
	text.WriteString(l.Get(model.MetricNameLabel) + "{")
	first := true
	l.Range(func(one labels.Label) {
		if one.Name == model.MetricNameLabel {
			return
		}
		if !first {
			text.WriteString(",")
		}
		first = false
		text.WriteString(one.Name + `="` + strings.NewReplacer(`\`, `\\`, "\n", `\n`, `"`, `\"`).Replace(one.Value) + `"`)
	})
	fmt.Fprintf(&text, "} %s %d\n", model.SampleValue(v), at)
	return text.String()
}
