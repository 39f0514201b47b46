package console

import (
	"encoding/json"
	"sort"

	"github.com/slipway/slipway/internal/link"
)

// Bounds of what a plot takes from one message.
const (
	maxSeries = 12
	maxDepth  = 3
)

// point is the numbers of one message, for the plot.
type point struct {
	At     int64              `json:"t"` // ms
	Values map[string]float64 `json:"v"`
}

// pointOf picks the numbers out of a message; false if it has none.
func pointOf(r link.LogRecord) (point, bool) {
	values := numbers(r.Body)
	return point{At: r.EnqueuedTime.UnixMilli(), Values: values}, len(values) > 0
}

func pointsOf(records []link.LogRecord) []point {
	points := []point{}
	for _, r := range records {
		if p, ok := pointOf(r); ok {
			points = append(points, p)
		}
	}
	return points
}

// numbers are the numeric fields of a JSON object by their path, such as
// "battery.level"; the first dozen of them in order of name.
func numbers(body json.RawMessage) map[string]float64 {
	var object map[string]any
	if err := json.Unmarshal(body, &object); err != nil {
		return nil // no object, so nothing to plot
	}
	found := map[string]float64{}
	collect(found, "", object, 1)
	return found
}

func collect(found map[string]float64, prefix string, object map[string]any, depth int) {
	names := make([]string, 0, len(object))
	for name := range object {
		names = append(names, name)
	}
	sort.Strings(names)
	for _, name := range names {
		path := prefix + name
		if clock(object[name]) {
			continue
		}
		switch value := object[name].(type) {
		case float64:
			if len(found) < maxSeries {
				found[path] = value
			}
		case map[string]any:
			if depth < maxDepth {
				collect(found, path+".", value, depth+1)
			}
		}
	}
}

// clock reports whether a number is a time of our days in seconds or
// milliseconds since 1970: plotted beside measurements it would flatten them.
func clock(value any) bool {
	n, ok := value.(float64)
	if !ok {
		return false
	}
	const from, to = 1_500_000_000, 4_000_000_000
	return n > from && n < to || n > from*1e3 && n < to*1e3
}

// sequence is what a reader of a log goes on after.
func sequence(records []link.LogRecord) uint64 {
	if len(records) == 0 {
		return 0
	}
	return records[len(records)-1].Sequence
}
