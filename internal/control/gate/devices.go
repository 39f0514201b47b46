package gate

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/resource"
)

// devices wants a condition to hold for devices, as their stamps know them.
func (g *Gates) devices(ctx context.Context, gate resource.DevicesGate, s Subject) Result {
	environment, stamp := cmp.Or(gate.Environment, s.Upstream, s.Environment), ""
	if s.Stamp != "" && gate.Environment == "" {
		environment, stamp = s.Environment, s.Stamp
	}
	asked, holding := counting(gate.Where), counting(both(gate.Where, gate.Must))
	r := Result{Query: holding, Threshold: fmt.Sprintf(">= %d devices and >= %s of those asked about", max(gate.AtLeast, 1), percent(cmp.Or(gate.Share, 1)))}
	all, err := g.countDevices(ctx, environment, stamp, asked)
	if err == nil {
		var hold int64
		if hold, err = g.countDevices(ctx, environment, stamp, holding); err == nil {
			return heldBy(gate, r, environment, all, hold)
		}
	}
	r.Verdict, r.Reason = Error, reasonOf(err)
	return r
}

// both is a condition that holds where two do.
func both(where, must string) string {
	if strings.TrimSpace(where) == "" {
		return must
	}
	return "(" + where + ") AND (" + must + ")"
}

func counting(where string) string {
	if strings.TrimSpace(where) == "" {
		return "SELECT COUNT() AS n FROM devices"
	}
	return "SELECT COUNT() AS n FROM devices WHERE " + where
}

// countDevices adds up what stamps answer. One that is away leaves the count
// unknown.
func (g *Gates) countDevices(ctx context.Context, environment, stamp, query string) (sum int64, err error) {
	answers, err := g.Query(ctx, environment, stamp, link.RunQuery{Query: query, Limit: 1})
	if err != nil {
		return 0, err
	}
	for _, a := range answers {
		if a.Problem != "" {
			return 0, problem.New(problem.NotReady, "stamp %s did not answer: %s", a.Stamp, a.Problem)
		}
		for _, row := range a.Items {
			var counted struct {
				N int64 `json:"n"`
			}
			if err := json.Unmarshal(row, &counted); err != nil {
				return 0, problem.New(problem.NotReady, "stamp %s answered no count: %s", a.Stamp, err)
			}
			sum += counted.N
		}
	}
	return sum, nil
}

// heldBy is the verdict on a condition that holds for some of the devices.
func heldBy(gate resource.DevicesGate, r Result, environment string, all, hold int64) Result {
	least, share := int64(max(gate.AtLeast, 1)), cmp.Or(gate.Share, 1)
	r.Samples, r.Evidence = all, evidenceOf(map[string]any{"environment": environment, "devices": all, "hold": hold})
	if all == 0 {
		r.Verdict, r.Reason = Inconclusive, fmt.Sprintf("%s has no device to ask about", environment)
		return r
	}
	is := float64(hold) / float64(all)
	r.Value = &is
	switch {
	case is < share:
		r.Verdict, r.Reason = Fail, fmt.Sprintf("it holds for %d of %d devices in %s, which is %s", hold, all, environment, percent(is))
	case hold < least:
		r.Verdict, r.Reason = Pending, fmt.Sprintf("it holds for %d devices in %s, and must for %d", hold, environment, least)
	default:
		r.Verdict, r.Reason = Pass, fmt.Sprintf("it holds for %d of %d devices in %s", hold, all, environment)
	}
	return r
}
