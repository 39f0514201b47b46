package monitor

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/slipway/slipway/internal/problem"
)

// Line is a series over a stretch of time, to be drawn.
type Line struct {
	Labels map[string]string
	Points []Point
}

// Point is a value with its time.
type Point struct {
	At    time.Time
	Value float64
}

// maxLines bounds the series that are drawn at a time.
const maxLines = 40

// Lines answers a query about a stretch of time, wherever metrics are kept. Of
// more series than can be told apart it returns the first, and says so.
func (m *Monitor) Lines(ctx context.Context, expression string, from, to time.Time, step time.Duration) (lines []Line, more bool, err error) {
	seconds := func(t time.Time) string { return strconv.FormatFloat(float64(t.UnixMilli())/1000, 'f', 3, 64) }
	status, text, err := m.Ask(ctx, "query_range", url.Values{"query": {expression}, "start": {seconds(from)}, "end": {seconds(to)}, "step": {strconv.FormatFloat(step.Seconds(), 'f', 3, 64)}})
	if err != nil {
		return nil, false, err
	}
	var answer struct {
		Error string
		Data  struct {
			Result []struct {
				Metric map[string]string
				Values [][2]any
			}
		}
	}
	if err := json.Unmarshal(text, &answer); err != nil {
		return nil, false, problem.New(problem.NotReady, "metrics are not to be had: the answer cannot be read")
	}
	if status != http.StatusOK {
		kind := problem.Invalid
		if status >= http.StatusInternalServerError {
			kind = problem.NotReady
		}
		return nil, false, problem.New(kind, "%s", answer.Error)
	}
	for _, one := range answer.Data.Result {
		if len(lines) == maxLines {
			return lines, true, nil
		}
		l := Line{Labels: one.Metric}
		for _, pair := range one.Values {
			at, _ := pair[0].(float64)
			v, err := strconv.ParseFloat(fmt.Sprint(pair[1]), 64)
			if err == nil && v == v {
				l.Points = append(l.Points, Point{time.UnixMilli(int64(at * 1000)).UTC(), v})
			}
		}
		lines = append(lines, l)
	}
	return lines, false, nil
}
