package gate

import (
	"math"

	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/resource"
)

// Comparison is the evidence, gathered look by look, that updated devices do
// worse than the others. For each rate it holds the logarithms of likelihood
// ratios, one for each of the ratios that the updated devices' rate might have
// to the others'; their mean is an e-value: while the rate is tolerable it
// exceeds 1/alpha at any time whatever with a chance of at most alpha. So it
// can be looked at as often as one likes. docs/decisions/027 says why.
type Comparison struct {
	Updated    link.Health `json:"updated"` // as last taken in
	Others     link.Health `json:"others"`
	Reconnects []float64   `json:"reconnects,omitempty"` // for more reconnects
	Louder     []float64   `json:"louder,omitempty"`     // for more messages
	Quieter    []float64   `json:"quieter,omitempty"`    // for fewer messages
}

// excess are the ratios beyond the tolerated one that are watched for.
var excess = [...]float64{1.1, 1.2, 1.35, 1.6, 2, 3, 6, 15}

// Next takes in how the two groups have done by now.
func (c Comparison) Next(policy resource.Comparison, updated, others link.Health) Comparison {
	du, do := minus(updated, c.Updated), minus(others, c.Others)
	next := Comparison{Updated: updated, Others: others, Reconnects: c.Reconnects, Louder: c.Louder, Quieter: c.Quieter}
	switch {
	case !grew(du) || !grew(do):
		if seconds(updated, others) > seconds(c.Updated, c.Others)/10 {
			// A process of the stamp is not heard for a moment. When it is
			// again, what it has seen must not count twice.
			next.Updated, next.Others = c.Updated, c.Others
		}
		// Otherwise the stamp was started again, and counts from nothing.
	default:
		next.Reconnects = grown(c.Reconnects, policy.Reconnects, du.Reconnects, do.Reconnects, du.DeviceSeconds, do.DeviceSeconds)
		next.Louder = grown(c.Louder, policy.Messages, du.Messages, do.Messages, du.DeviceSeconds, do.DeviceSeconds)
		// Fewer messages of the updated are more of the others.
		next.Quieter = grown(c.Quieter, policy.Messages, do.Messages, du.Messages, do.DeviceSeconds, du.DeviceSeconds)
	}
	return next
}

// minus is what came between two looks.
func minus(after, before link.Health) link.Health {
	return link.Health{
		DeviceSeconds: after.DeviceSeconds - before.DeviceSeconds, Reconnects: after.Reconnects - before.Reconnects, Messages: after.Messages - before.Messages,
	}
}

func grew(d link.Health) bool { return d.DeviceSeconds >= 0 && d.Reconnects >= 0 && d.Messages >= 0 }

func seconds(a, b link.Health) float64 { return a.DeviceSeconds + b.DeviceSeconds }

// grown adds what one stretch says to the logarithms. Of all n events in it,
// each fell to the first group with a chance that depends on the ratio of the
// rates and on the time each group was watched alone, not on how busy the
// stretch was: a storm that hits everybody says nothing.
func grown(logs []float64, tolerated float64, first, second int64, timeFirst, timeSecond float64) []float64 {
	if len(logs) != len(excess) {
		logs = make([]float64, len(excess))
	}
	if timeFirst <= 0 || timeSecond <= 0 || first+second == 0 {
		return logs
	}
	next := make([]float64, len(excess))
	share := func(ratio float64) (of, rest float64) {
		all := ratio*timeFirst + timeSecond
		return ratio * timeFirst / all, timeSecond / all
	}
	p, q := share(tolerated)
	for i, beyond := range excess {
		p1, q1 := share(tolerated * beyond)
		next[i] = logs[i] + float64(first)*math.Log(p1/p) + float64(second)*math.Log(q1/q)
	}
	return next
}

// evidence is the logarithm of the e-value.
func evidence(logs []float64) float64 {
	if len(logs) == 0 {
		return 0
	}
	top := logs[0]
	for _, l := range logs {
		top = max(top, l)
	}
	sum := 0.0
	for _, l := range logs {
		sum += math.Exp(l - top)
	}
	return top + math.Log(sum/float64(len(logs)))
}

// question is one thing that a comparison asks.
type question struct {
	what  string
	logs  func(Comparison) []float64
	count func(link.Health) int64
}

var questions = []question{
	{"reconnect more often", func(c Comparison) []float64 { return c.Reconnects }, reconnects},
	{"send more messages", func(c Comparison) []float64 { return c.Louder }, messages},
	{"send fewer messages", func(c Comparison) []float64 { return c.Quieter }, messages},
}

func reconnects(h link.Health) int64 { return h.Reconnects }
func messages(h link.Health) int64   { return h.Messages }

// worst is the question to which the answer is the worst, and the logarithm of
// its e-value.
func (c Comparison) worst() (asked question, found float64) {
	found = math.Inf(-1)
	for _, q := range questions {
		if e := evidence(q.logs(c)); e > found {
			asked, found = q, e
		}
	}
	return asked, found
}
