package console

import (
	"context"
	"encoding/json"
	"net/http"
	"testing"
	"time"

	"github.com/slipway/slipway/internal/control/access"
	"github.com/slipway/slipway/internal/control/featureflag"
	"github.com/slipway/slipway/internal/flag"
)

// flagsOf are two flags, one of them killed in production.
type flagsOf struct{ *world }

func settingOf(environment, variant string, killed bool) featureflag.Setting {
	f := flag.Flag{State: flag.Enabled, Variants: map[string]json.RawMessage{"on": json.RawMessage("true"), "off": json.RawMessage("false")}, DefaultVariant: &variant}
	s := featureflag.Setting{Environment: environment, Release: "v1.4.0", Flag: f, Given: map[string]int64{"on": 70, "off": 30}, Killed: killed}
	if killed {
		s.Said = &featureflag.Said{Environment: environment, Flag: "fast-path", Overlay: flag.Overlay{Killed: "off"}, ETag: "3", By: "ann", Reason: "orders are lost", At: noon}
	}
	return s
}

func (f flagsOf) List(context.Context) ([]featureflag.Overview, error) {
	if len(f.world.details) == 0 {
		return nil, nil
	}
	return []featureflag.Overview{
		{Key: "beep", Devices: true, Declared: true, Environments: []featureflag.Setting{settingOf("test", "on", false)}, Findings: []featureflag.Finding{{Flag: "beep", Kind: featureflag.Ownerless, Text: "nobody owns it; say metadata.owner"}}},
		{Key: "fast-path", Owner: "ann", Description: "The new way to take orders", Environments: []featureflag.Setting{settingOf("test", "on", false), settingOf("production", "off", true)}},
	}, nil
}

func (f flagsOf) History(context.Context, string, int) ([]featureflag.Turn, error) {
	return []featureflag.Turn{{Sequence: 1, Environment: "production", Flag: "fast-path", By: "ann", Reason: "orders are lost", At: noon}}, nil
}

func (f flagsOf) Exposures(context.Context, string, int) (all []featureflag.Exposure, err error) {
	for day := range 20 {
		at := noon.AddDate(0, 0, day-20)
		for i, variant := range []string{"off", "on"} {
			all = append(all, featureflag.Exposure{Environment: "production", Flag: "fast-path", Variant: variant, Day: at.Format(time.DateOnly), Evaluations: int64(100 + 17*day*i), LastAt: at})
		}
	}
	return all, nil
}

func (f flagsOf) Set(_ context.Context, _ access.Actor, e featureflag.Edit) (featureflag.Said, error) {
	variant := ""
	if e.Overlay.DefaultVariant != nil {
		variant = *e.Overlay.DefaultVariant
	}
	return featureflag.Said{}, f.say("flag", e.Environment, e.Flag, e.Overlay.State, variant, e.Reason)
}

func (f flagsOf) Kill(_ context.Context, _ access.Actor, environment, key, variant, reason string) (featureflag.Said, error) {
	return featureflag.Said{}, f.say("kill", environment, key, variant, reason)
}

func (f flagsOf) Revive(_ context.Context, _ access.Actor, environment, key, reason string) (featureflag.Said, error) {
	return featureflag.Said{}, f.say("revive", environment, key, reason)
}

func TestFlagsAreShownAndSwitched(t *testing.T) {
	w := populated()
	browser := asBrowser(t, w)
	has(t, browser.get("/flags", http.StatusOK), "fast-path", "killed", "ownerless", `href="/flags/beep"`)
	has(t, browser.get("/flags/fast-path", http.StatusOK), "orders are lost", "Take the kill back", "The new way to take orders")
	browser.get("/flags/nothing", http.StatusNotFound)
	has(t, browser.get("/acts/kill-flag?flag=fast-path&environment=test&next=/flags", http.StatusOK), "Kill fast-path in test")
}
