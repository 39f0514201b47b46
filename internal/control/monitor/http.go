package monitor

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"net/http"
	"net/http/httputil"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/storage"

	"github.com/slipway/slipway/internal/problem"
)

// Prefix is where the HTTP API of Prometheus is.
const Prefix = "/prometheus"

// maxForm bounds the body of a query.
const maxForm = 256 << 10

// Handler serves the HTTP API of Prometheus below Prefix, to those whom its
// caller has let in.
func (m *Monitor) Handler() http.Handler {
	if m.db == nil {
		return m.passedOn()
	}
	mux := http.NewServeMux()
	handle := func(path string, answer func(r *http.Request) (any, []string, error)) {
		serve := func(w http.ResponseWriter, r *http.Request) {
			r.Body = http.MaxBytesReader(w, r.Body, maxForm)
			if err := r.ParseForm(); err != nil {
				write(w, nil, nil, problem.New(problem.Invalid, "the form cannot be read: %s", err))
				return
			}
			data, warnings, err := answer(r)
			write(w, data, warnings, err)
		}
		mux.HandleFunc("GET "+Prefix+"/api/v1/"+path, serve)
		mux.HandleFunc("POST "+Prefix+"/api/v1/"+path, serve)
	}
	handle("query", m.serveQuery)
	handle("query_range", m.serveRange)
	handle("query_exemplars", m.serveExemplars)
	handle("format_query", m.serveFormat)
	handle("series", m.serveSeries)
	handle("labels", m.serveLabels)
	handle("label/{name}/values", m.serveValues)
	handle("metadata", m.serveMetadata)
	handle("targets", m.serveTargets)
	handle("status/buildinfo", func(*http.Request) (any, []string, error) {
		return map[string]string{"version": "3.0.0", "revision": "slipway", "branch": "", "buildUser": "", "buildDate": "", "goVersion": ""}, nil, nil
	})
	mux.HandleFunc("GET "+Prefix+"/federate", m.serveFederate)
	mux.HandleFunc("GET "+Prefix+"/-/healthy", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "Slipway's metrics are there.") })
	mux.HandleFunc("GET "+Prefix+"/-/ready", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "Slipway's metrics are there.") })
	mux.HandleFunc(Prefix+"/", func(w http.ResponseWriter, r *http.Request) {
		write(w, nil, nil, problem.New(problem.NotFound, "Slipway has no %s; see docs/how-to/monitor.md for what of Prometheus' API it serves", r.URL.Path))
	})
	return mux
}

// passedOn asks the Prometheus elsewhere.
func (m *Monitor) passedOn() http.Handler {
	target, err := url.Parse(m.Remote)
	if err != nil {
		return http.NotFoundHandler()
	}
	proxy := &httputil.ReverseProxy{
		Transport: m.Client.Transport,
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(target)
			r.Out.URL.Path = strings.TrimSuffix(target.Path, "/") + strings.TrimPrefix(r.In.URL.Path, Prefix)
			r.Out.URL.RawPath = ""
			r.Out.Header.Del("Authorization") // ours, not theirs
			r.Out.Header.Del("Cookie")
		},
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, err error) {
			write(w, nil, nil, problem.New(problem.NotReady, "the Prometheus at %s did not answer: %s", m.Remote, err))
		},
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		path := strings.TrimPrefix(r.URL.Path, Prefix)
		if !strings.HasPrefix(path, "/api/v1/") || strings.HasPrefix(path, "/api/v1/admin") || strings.Contains(path, "..") {
			write(w, nil, nil, problem.New(problem.NotFound, "only the query API of the Prometheus at %s is passed on", m.Remote))
			return
		}
		proxy.ServeHTTP(w, r)
	})
}

// Ask answers a call of the API without a network between, as its text.
func (m *Monitor) Ask(ctx context.Context, path string, form url.Values) (status int, text []byte, err error) {
	r, err := http.NewRequestWithContext(ctx, "POST", Prefix+"/api/v1/"+path, strings.NewReader(form.Encode()))
	if err != nil {
		return 0, nil, err
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	w := &kept{header: http.Header{}, status: http.StatusOK}
	m.Handler().ServeHTTP(w, r)
	return w.status, w.body.Bytes(), nil
}

// kept is an answer that goes nowhere.
type kept struct {
	header http.Header
	status int
	body   bytes.Buffer
}

// Header is the answer's.
func (k *kept) Header() http.Header { return k.header }

// WriteHeader keeps the status.
func (k *kept) WriteHeader(status int) { k.status = status }

// Write keeps what is written.
func (k *kept) Write(text []byte) (int, error) { return k.body.Write(text) }

// response is an answer as Prometheus gives it.
type response struct {
	Status    string   `json:"status"`
	Data      any      `json:"data,omitempty"`
	ErrorType string   `json:"errorType,omitempty"`
	Error     string   `json:"error,omitempty"`
	Warnings  []string `json:"warnings,omitempty"`
}

func write(w http.ResponseWriter, data any, warnings []string, err error) {
	answer, status := response{Status: "success", Data: data, Warnings: warnings}, http.StatusOK
	if err != nil {
		p := problem.Of(err)
		answer = response{Status: "error", ErrorType: errorType(p.Kind), Error: p.Error()}
		status = statusOf(p.Kind)
	}
	text, failure := json.Marshal(answer)
	if failure != nil {
		status, text = http.StatusInternalServerError, []byte(`{"status":"error","errorType":"internal","error":"the answer cannot be written"}`)
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(text)
}

func errorType(kind problem.Kind) string {
	switch kind {
	case problem.Invalid, problem.TooLarge:
		return "bad_data"
	case problem.TimedOut:
		return "timeout"
	case problem.NotFound:
		return "not_found"
	case problem.Busy, problem.NotReady:
		return "unavailable"
	}
	return "internal"
}

func statusOf(kind problem.Kind) int {
	switch kind {
	case problem.Invalid:
		return http.StatusBadRequest
	case problem.TooLarge:
		return http.StatusUnprocessableEntity
	case problem.NotFound:
		return http.StatusNotFound
	case problem.TimedOut, problem.Busy, problem.NotReady, problem.Conflict:
		return http.StatusServiceUnavailable
	}
	return http.StatusInternalServerError
}

// data is the result of a query.
type data struct {
	Type   string `json:"resultType"`
	Result any    `json:"result"`
}

func shown(a Answer, err error) (any, []string, error) {
	if err != nil {
		return nil, nil, err
	}
	result := any(a.Value)
	if v, ok := a.Value.(promql.Vector); ok && len(v) == 0 {
		result = []any{}
	}
	return data{string(a.Value.Type()), result}, a.Warnings, nil
}

func (m *Monitor) serveQuery(r *http.Request) (any, []string, error) {
	at, err := timeOf(r, "time", m.Now())
	if err != nil {
		return nil, nil, err
	}
	ctx, cancel, err := limited(r)
	if err != nil {
		return nil, nil, err
	}
	defer cancel()
	return shown(m.Query(ctx, r.FormValue("query"), at))
}

func (m *Monitor) serveRange(r *http.Request) (any, []string, error) {
	from, to, err := stretch(r, m.Now(), false)
	if err != nil {
		return nil, nil, err
	}
	step, err := durationOf(r.FormValue("step"))
	if err != nil {
		return nil, nil, problem.Of(err).At("step")
	}
	ctx, cancel, err := limited(r)
	if err != nil {
		return nil, nil, err
	}
	defer cancel()
	return shown(m.QueryRange(ctx, r.FormValue("query"), from, to, step))
}

func (m *Monitor) serveFormat(r *http.Request) (any, []string, error) {
	e, err := m.parser.ParseExpr(r.FormValue("query"))
	if err != nil {
		return nil, nil, problem.New(problem.Invalid, "%s", err).At("query")
	}
	return e.Pretty(0), nil, nil
}

// limited is the context of a request, as long as it says itself that it waits.
func limited(r *http.Request) (context.Context, context.CancelFunc, error) {
	within := queryTimeout
	if text := r.FormValue("timeout"); text != "" {
		asked, err := durationOf(text)
		if err != nil {
			return nil, nil, problem.Of(err).At("timeout")
		}
		within = min(within, asked)
	}
	ctx, cancel := context.WithTimeout(r.Context(), within)
	return ctx, cancel, nil
}

// stretch is the time between start and end. Without them it is all there is.
func stretch(r *http.Request, now time.Time, optional bool) (from, to time.Time, err error) {
	if !optional && (r.FormValue("start") == "" || r.FormValue("end") == "") {
		return from, to, problem.New(problem.Invalid, "start and end are needed")
	}
	if from, err = timeOf(r, "start", time.UnixMilli(0)); err != nil {
		return from, to, err
	}
	to, err = timeOf(r, "end", now.Add(time.Hour))
	return from, to, err
}

func timeOf(r *http.Request, name string, otherwise time.Time) (time.Time, error) {
	text := r.FormValue(name)
	if text == "" {
		return otherwise, nil
	}
	if seconds, err := strconv.ParseFloat(text, 64); err == nil && math.Abs(seconds) < 1e12 {
		whole, part := math.Modf(seconds)
		return time.UnixMilli(int64(whole)*1000 + int64(math.Round(part*1000))), nil
	}
	t, err := time.Parse(time.RFC3339Nano, text)
	if err != nil {
		return t, problem.New(problem.Invalid, "a time is seconds since 1970 or reads 2026-01-02T15:04:05Z, not %q", text).At(name)
	}
	return t, nil
}

func durationOf(text string) (time.Duration, error) {
	if seconds, err := strconv.ParseFloat(text, 64); err == nil && seconds > 0 && seconds < 1e9 {
		return time.Duration(seconds * float64(time.Second)), nil
	}
	d, err := model.ParseDuration(text)
	if err != nil {
		return 0, problem.New(problem.Invalid, "a duration is seconds or reads 15s, 5m, 1h, not %q", text)
	}
	return time.Duration(d), nil
}

// limitOf is how many items are asked for; 0 is all.
func limitOf(r *http.Request) (int, error) {
	text := r.FormValue("limit")
	if text == "" {
		return 0, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 0 {
		return 0, problem.New(problem.Invalid, "a limit is a number from 0, not %q", text).At("limit")
	}
	return n, nil
}

func firstOf[T any](all []T, limit int) []T {
	if limit > 0 && len(all) > limit {
		return all[:limit]
	}
	return all
}

// maxListed bounds the series that one request lists.
const maxListed = 100_000

func (m *Monitor) serveSeries(r *http.Request) (any, []string, error) {
	if len(r.Form["match[]"]) == 0 {
		return nil, nil, problem.New(problem.Invalid, "say which series, for example match[]=up").At("match[]")
	}
	limit, err := limitOf(r)
	if err != nil {
		return nil, nil, err
	}
	found := map[string]labels.Labels{}
	err = m.each(r, &storage.SelectHints{Func: "series"}, func(s storage.Series) error {
		if len(found) >= maxListed {
			return problem.New(problem.TooLarge, "more than %d series match; select fewer", maxListed)
		}
		found[s.Labels().String()] = s.Labels()
		return nil
	})
	all := make([]labels.Labels, 0, len(found))
	for _, name := range slices.Sorted(maps.Keys(found)) {
		all = append(all, found[name])
	}
	return firstOf(all, limit), nil, err
}

// each calls fn for the series that a request selects.
func (m *Monitor) each(r *http.Request, hints *storage.SelectHints, fn func(storage.Series) error) error {
	from, to, err := stretch(r, m.Now(), true)
	if err != nil {
		return err
	}
	sets, err := m.matchers(r.Form["match[]"])
	if err != nil {
		return err
	}
	q, err := m.querier(from, to)
	if err != nil {
		return err
	}
	defer q.Close()
	hints.Start, hints.End = from.UnixMilli(), to.UnixMilli()
	for _, set := range sets {
		found := q.Select(r.Context(), true, hints, set...)
		for found.Next() {
			if err := fn(found.At()); err != nil {
				return err
			}
		}
		if found.Err() != nil {
			return found.Err()
		}
	}
	return nil
}

func (m *Monitor) serveLabels(r *http.Request) (any, []string, error) {
	return m.names(r, func(q storage.Querier, set []*labels.Matcher) ([]string, error) {
		names, _, err := q.LabelNames(r.Context(), nil, set...)
		return names, err
	})
}

func (m *Monitor) serveValues(r *http.Request) (any, []string, error) {
	name := r.PathValue("name")
	if !model.UTF8Validation.IsValidLabelName(name) {
		return nil, nil, problem.New(problem.Invalid, "%q is no label's name", name)
	}
	return m.names(r, func(q storage.Querier, set []*labels.Matcher) ([]string, error) {
		values, _, err := q.LabelValues(r.Context(), name, nil, set...)
		return values, err
	})
}

// names lists what ask finds for each selector of a request, once each.
func (m *Monitor) names(r *http.Request, ask func(storage.Querier, []*labels.Matcher) ([]string, error)) (any, []string, error) {
	from, to, err := stretch(r, m.Now(), true)
	if err != nil {
		return nil, nil, err
	}
	limit, err := limitOf(r)
	if err != nil {
		return nil, nil, err
	}
	sets, err := m.matchers(r.Form["match[]"])
	if err != nil {
		return nil, nil, err
	}
	if len(sets) == 0 {
		sets = [][]*labels.Matcher{nil}
	}
	q, err := m.querier(from, to)
	if err != nil {
		return nil, nil, err
	}
	defer q.Close()
	found := map[string]bool{}
	for _, set := range sets {
		names, err := ask(q, set)
		if err != nil {
			return nil, nil, err
		}
		for _, n := range names {
			found[strings.Clone(n)] = true
		}
	}
	all := slices.Sorted(maps.Keys(found))
	if all == nil {
		all = []string{}
	}
	return firstOf(all, limit), nil, nil
}
