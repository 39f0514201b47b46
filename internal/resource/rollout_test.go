package resource_test

import (
	"strings"
	"testing"
	"time"

	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/resource"
)

func TestARolloutThatIsWrongSaysWhere(t *testing.T) {
	head := "apiVersion: slipway/v1\nkind: Environment\nmetadata: { name: production }\nspec:\n  promotion:\n    rollout:\n"
	for text, want := range map[string]string{
		"      waves: [{ share: 0.5 }, { share: 0.1 }]":              "f.yaml:7:31: spec.promotion.rollout.waves[1]: a wave reaches at least as far",
		"      waves: [{ share: 1.5 }]":                              "f.yaml:7:24: spec.promotion.rollout.waves[0].share: a share is from 0 to 1",
		"      waves: [{ soak: 1h }]":                                "spec.promotion.rollout.waves[0]: a wave has a share, a count or a condition",
		"      waves: [{ share: 1, soak: soon }]":                    "spec.promotion.rollout.waves[0].soak: must be a length of time",
		"      waves: [{ share: 1 }]\n      exponential: {}":         "f.yaml:8:20: spec.promotion.rollout.exponential: say waves or exponential",
		"      exponential: { factor: 1 }":                           "spec.promotion.rollout.exponential.factor: a factor is from 1.1",
		"      onFailure: panic":                                     "f.yaml:7:18: spec.promotion.rollout.onFailure: must be rollback or pause",
		"      health: { maxFailures: 2 }":                           "f.yaml:7:30: spec.promotion.rollout.health.maxFailures: the share that may fail",
		"      rings: { atOnce: -1 }":                                "spec.promotion.rollout.rings.atOnce: 1 to 1000 stamps",
		"      gates: [{ name: who, approvals: {} }]":                "f.yaml:7:39: spec.promotion.rollout.gates[0].approvals: a rollout's gates ask something of the present",
		"      rings: {}\n    verify: [{ name: x }]":                 "spec.promotion.verify[0].name: x: a gate has one of",
		"      rings: {}\n    webhooks: [{ name: x, url: ftp://x }]": "spec.promotion.webhooks[0].url: x: must be a URL",
		"      rings: {}\n    verifyWithin: never":                   "spec.promotion.verifyWithin: must be a length of time",
		"      wave: []":                                             "f.yaml:7:7: spec.promotion.rollout.wave: no such field",
	} {
		_, err := resource.Decode("f.yaml", []byte(head+text))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s:\n got %v\nwant %s", text, err, want)
		}
	}
}

func TestWavesEndWithAll(t *testing.T) {
	for name, one := range map[string]struct {
		spec  resource.RolloutSpec
		first bool
		want  []float64
	}{
		"first":       {resource.RolloutSpec{}, true, []float64{1}},
		"usual":       {resource.RolloutSpec{}, false, []float64{0.01, 0.1, 0.5, 1}},
		"declared":    {resource.RolloutSpec{Waves: []resource.Wave{{Share: 0.2}}}, false, []float64{0.2, 1}},
		"exponential": {resource.RolloutSpec{Exponential: &resource.Exponential{First: 0.05, Factor: 4}}, false, []float64{0.05, 0.2, 0.8, 1}},
	} {
		waves := one.spec.Whole(one.first).Waves
		if len(waves) != len(one.want) {
			t.Errorf("%s: %v", name, waves)
			continue
		}
		for i, w := range waves {
			if d := w.Share - one.want[i]; d > 1e-9 || d < -1e-9 {
				t.Errorf("%s: wave %d reaches %g, not %g", name, i, w.Share, one.want[i])
			}
		}
	}
}

func TestPaceHoldsBackWhatIsNotForSecurity(t *testing.T) {
	begun := time.Unix(1_800_000_000, 0)
	p := resource.Pace{Interval: "14d", Delay: "2d", Limit: "5d"}
	for name, one := range map[string]struct {
		kind string
		last time.Time
		want time.Duration
	}{
		"never had one":  {link.ReleaseFeature, time.Time{}, 48 * time.Hour},
		"had one lately": {link.ReleaseFeature, begun.Add(-10 * 24 * time.Hour), 4 * 24 * time.Hour},
		"at the limit":   {link.ReleaseFeature, begun.Add(-time.Hour), 5 * 24 * time.Hour},
		"security":       {link.ReleaseSecurity, begun.Add(-time.Hour), 0},
		"mixed":          {link.ReleaseMixed, begun.Add(-time.Hour), 0},
	} {
		if got := p.Earliest(one.kind, one.last, begun).Sub(begun); got != one.want {
			t.Errorf("%s: %s, not %s", name, got, one.want)
		}
	}
}

func TestAPaceRefusesWindowsThatAreNone(t *testing.T) {
	for says, m := range map[string]resource.Maintenance{
		"pace.windows[0].duration": {Start: "2026-01-03T22:00:00"},
		"pace.windows[0].start":    {Start: "tonight", Duration: "4h"},
		"pace.windows[0].timezone": {Start: "2026-01-03T22:00:00", Duration: "4h", Timezone: "Mars/Olympus"},
		"pace.windows[0].rrule":    {Start: "2026-01-03T22:00:00", Duration: "4h", RRule: "FREQ=NOW"},
	} {
		err := (&resource.Pace{Windows: []resource.Maintenance{m}}).Check("pace")
		if p := problem.Of(err); err == nil || p.Field != says {
			t.Errorf("%s: %v", says, err)
		}
	}
}
