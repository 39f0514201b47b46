package gate

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/resource"
)

// The limits of what a Prometheus is asked and answers.
const (
	askTimeout = 30 * time.Second
	maxAnswer  = 8 << 20
	maxSeries  = 200
	maxPoints  = 11_000 // of a series, as Prometheus itself allows
)

// series is one line of an answer: its labels and its values, oldest first.
type series struct {
	Labels map[string]string
	Values []float64
}

// promAnswer is what the HTTP API of Prometheus answers.
type promAnswer struct {
	Status   string   `json:"status"`
	Error    string   `json:"error"`
	Warnings []string `json:"warnings"`
	Data     struct {
		Type   string          `json:"resultType"`
		Result json.RawMessage `json:"result"`
	} `json:"data"`
}

// askRange asks for the values of a query at even steps up to now.
func (g *Gates) askRange(ctx context.Context, prometheus, query string, now time.Time, window, step time.Duration) ([]series, error) {
	return g.ask(ctx, prometheus, "query_range", url.Values{
		"query": {query}, "start": {unix(now.Add(step - window))}, "end": {unix(now)}, "step": {strconv.FormatFloat(step.Seconds(), 'f', 3, 64)},
	})
}

// askNow asks for the value of a query now.
func (g *Gates) askNow(ctx context.Context, prometheus, query string, now time.Time) ([]series, error) {
	return g.ask(ctx, prometheus, "query", url.Values{"query": {query}, "time": {unix(now)}})
}

func unix(t time.Time) string { return strconv.FormatFloat(float64(t.UnixMilli())/1000, 'f', 3, 64) }

func (g *Gates) ask(ctx context.Context, prometheus, path string, form url.Values) ([]series, error) {
	base := cmp.Or(prometheus, g.Prometheus)
	if base == "" {
		return g.askOurs(ctx, path, form)
	}
	req, err := http.NewRequestWithContext(ctx, "POST", strings.TrimSuffix(base, "/")+"/api/v1/"+path, strings.NewReader(form.Encode()))
	if err != nil {
		return nil, problem.New(problem.Invalid, "%s: %w", base, err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	answer, err := g.prometheus.Do(req)
	if err != nil {
		return nil, problem.New(problem.NotReady, "%s did not answer: %w", base, err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(io.LimitReader(answer.Body, maxAnswer+1))
	if err != nil {
		return nil, problem.New(problem.NotReady, "%s did not answer to the end: %w", base, err)
	}
	if len(text) > maxAnswer {
		return nil, problem.New(problem.TooLarge, "%s answered with more than %d bytes; aggregate the query, or shorten its window", base, maxAnswer)
	}
	return readAnswer(answer.StatusCode, text)
}

// askOurs asks what the installation keeps itself.
func (g *Gates) askOurs(ctx context.Context, path string, form url.Values) ([]series, error) {
	if g.Metrics == nil {
		return nil, problem.New(problem.Conflict, "the gate names no Prometheus and the installation has none; start with --prometheus URL")
	}
	status, text, err := g.Metrics(ctx, path, form)
	if err != nil {
		return nil, err
	}
	if len(text) > maxAnswer {
		return nil, problem.New(problem.TooLarge, "the answer has more than %d bytes; aggregate the query, or shorten its window", maxAnswer)
	}
	return readAnswer(status, text)
}

// readAnswer reads what a Prometheus said. What it has only partly, it has not.
func readAnswer(status int, text []byte) ([]series, error) {
	var a promAnswer
	if err := json.Unmarshal(text, &a); err != nil {
		return nil, problem.New(problem.NotReady, "the Prometheus answered %d and no JSON", status)
	}
	switch {
	case a.Status != "success" || status != http.StatusOK:
		return nil, problem.New(problem.Invalid, "the Prometheus answered %d: %s", status, shortened(cmp.Or(a.Error, a.Status), maxMessage))
	case len(a.Warnings) > 0:
		return nil, problem.New(problem.NotReady, "the Prometheus warns that its answer may not be whole: %s", shortened(strings.Join(a.Warnings, "; "), maxMessage))
	}
	switch a.Data.Type {
	case "scalar":
		var one point
		if err := json.Unmarshal(a.Data.Result, &one); err != nil {
			return nil, problem.New(problem.NotReady, "the Prometheus answered what cannot be read: %s", err)
		}
		return []series{{Values: []float64{float64(one)}}}, nil
	case "vector", "matrix":
		return readSeries(a.Data.Result)
	}
	return nil, problem.New(problem.Invalid, "the query gives a %s, and must give numbers", shortened(a.Data.Type, 50))
}

func readSeries(text json.RawMessage) ([]series, error) {
	var lines []struct {
		Metric map[string]string `json:"metric"`
		Value  *point            `json:"value"`
		Values []point           `json:"values"`
	}
	if err := json.Unmarshal(text, &lines); err != nil {
		return nil, problem.New(problem.NotReady, "the Prometheus answered what cannot be read: %s", err)
	}
	if len(lines) > maxSeries {
		return nil, problem.New(problem.TooLarge, "the query gives %d series, and may give %d; aggregate it", len(lines), maxSeries)
	}
	var all []series
	for _, line := range lines {
		s := series{Labels: line.Metric}
		if line.Value != nil {
			line.Values = append(line.Values, *line.Value)
		}
		if len(line.Values) > maxPoints {
			return nil, problem.New(problem.TooLarge, "a series has %d values, and may have %d", len(line.Values), maxPoints)
		}
		for _, v := range line.Values {
			s.Values = append(s.Values, float64(v))
		}
		all = append(all, s)
	}
	return all, nil
}

// point is a value with its time, of which the value counts: [1700000000, "1.5"].
type point float64

// UnmarshalJSON reads the pair.
func (p *point) UnmarshalJSON(text []byte) error {
	var pair []json.RawMessage
	if err := json.Unmarshal(text, &pair); err != nil {
		return err
	}
	if len(pair) != 2 {
		return fmt.Errorf("a value comes as a pair, not as %d", len(pair))
	}
	var value string
	if err := json.Unmarshal(pair[1], &value); err != nil {
		return err
	}
	number, err := strconv.ParseFloat(value, 64)
	if err != nil {
		return fmt.Errorf("%q is no number", shortened(value, 50))
	}
	*p = point(number)
	return nil
}

// filled puts what names stand for into a query, each quoted as PromQL reads
// strings, so that no name can be more than a name.
func filled(query string, s Subject, window time.Duration) string {
	return resource.Placeholder.ReplaceAllStringFunc(query, func(found string) string {
		switch resource.Placeholder.FindStringSubmatch(found)[1] {
		case "environment":
			return strconv.Quote(s.Environment)
		case "upstream":
			return strconv.Quote(s.Upstream)
		case "stamp":
			return strconv.Quote(s.Stamp)
		case "release":
			return strconv.Quote(s.Release.Name)
		case "window":
			return fmt.Sprintf("%dms", window.Milliseconds())
		}
		return found
	})
}
