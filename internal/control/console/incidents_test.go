package console

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"testing"
	"time"

	"github.com/slipway/slipway/internal/control/access"
	"github.com/slipway/slipway/internal/control/incident"
	"github.com/slipway/slipway/internal/problem"
)

func init() {
	pages = append(pages, "/incidents", "/incidents/i-1", "/incidents/i-2", "/timeline", "/timeline?environment=production&kind=release")
}

// incidentsOf are the incidents of a world: some, where it has environments.
type incidentsOf struct{ w *world }

func (f incidentsOf) all() []incident.Incident {
	resolved := noon.Add(-20 * time.Hour)
	return []incident.Incident{
		{ID: "i-1", Title: "Messages in production are acknowledged after up to 1.4s <b>", Severity: "page", State: incident.Open, Environment: "production", Owner: "Ann", OpenedBy: "alert/IngestSlow", BeganAt: noon.Add(-8 * time.Minute), OpenedAt: noon.Add(-8 * time.Minute)},
		{ID: "i-2", Title: "A certificate ran out", Severity: "ticket", State: incident.Resolved, OpenedBy: "bo", BeganAt: noon.Add(-22 * time.Hour), OpenedAt: noon.Add(-22 * time.Hour), ResolvedAt: &resolved, Resolution: "the clock of provisioning was wrong; it has a time server now"},
	}
}

func (f incidentsOf) List(_ context.Context, filter incident.Filter) (some []incident.Incident, err error) {
	for _, i := range f.all() {
		if len(f.w.levels) > 0 && (i.State == incident.Resolved) == (filter.State == "resolved") {
			some = append(some, i)
		}
	}
	return some, nil
}

func (f incidentsOf) Show(_ context.Context, id string) (d incident.Dossier, err error) {
	for _, i := range f.all() {
		if i.ID == id {
			return incident.Dossier{Incident: i, Notes: []incident.Note{{At: noon, Actor: "Ann", Kind: "note", Text: "the disk of eu-1 <i>is full"}}, Alerts: []incident.Episode{{Name: "IngestSlow", Summary: "Messages are slow", BeganAt: i.BeganAt}}}, nil
		}
	}
	return d, problem.New(problem.NotFound, "there is no incident %s", id)
}

func (f incidentsOf) did(words ...any) { f.w.patches = append(f.w.patches, fmt.Sprint(words...)) }

func (f incidentsOf) Open(_ context.Context, _ access.Actor, i incident.Incident, text string) (incident.Incident, error) {
	f.did("open ", i.Title, " ", i.Environment, " ", text)
	i.ID = "i-1"
	return i, nil
}

func (f incidentsOf) Note(_ context.Context, _ access.Actor, id, text string) (i incident.Incident, err error) {
	f.did("note ", id, " ", text)
	return i, nil
}

func (f incidentsOf) Set(_ context.Context, _ access.Actor, id string, s incident.State, text string) (i incident.Incident, err error) {
	if s == incident.Resolved && text == "" {
		return i, problem.New(problem.Invalid, "say what it was").At("text")
	}
	f.did(s, " ", id, " ", text)
	return i, nil
}

func (f incidentsOf) Own(_ context.Context, _ access.Actor, id, owner string) (i incident.Incident, err error) {
	f.did("own ", id, " ", owner)
	return i, nil
}

func (f incidentsOf) Timeline(_ context.Context, w incident.Window) (all []incident.Moment, missing string, err error) {
	switch {
	case w.From.After(w.To):
		return nil, "", problem.New(problem.Invalid, "it ends before it begins")
	case len(f.w.levels) == 0:
		return nil, "", nil
	}
	return []incident.Moment{
		{At: noon.Add(-9 * time.Minute), Kind: incident.Alerts, What: "IngestSlow fires: slow", Environment: "production", Failed: true, Object: "i-1"},
		{At: noon.Add(-20 * time.Minute), Kind: incident.Releases, What: "promotion.start", Actor: "ann", Object: "release/v1.5.0 <b>", Environment: "production"},
		{At: noon.Add(-30 * time.Minute), Kind: incident.Devices, What: "42 connections ended within 2m30s", Environment: "production", Stamp: "production-eu"},
	}, "metrics are not to be had", nil
}

func TestIncidentsFromOpenToResolved(t *testing.T) {
	w := populated()
	browser := asBrowser(t, w)
	has(t, browser.get("/incidents", http.StatusOK), "acknowledged after up to 1.4s &lt;b&gt;", "the clock of provisioning was wrong", "incident-open")
	body := browser.get("/incidents/i-1", http.StatusOK)
	has(t, body, "What changed in the two hours before", "promotion.start", "release/v1.5.0 &lt;b&gt;", "1 release", "eu-1 &lt;i&gt;is full", "It hurts no more", "metrics are not to be had")
	hasNot(t, browser.get("/incidents/i-2", http.StatusOK), "Note it")
	browser.get("/incidents/none", http.StatusNotFound)
	csrf := []string{csrfToken}
	browser.post("/incidents", http.StatusSeeOther, url.Values{"csrf": csrf, "title": {"no data"}, "environment": {"production"}, "text": {"since nine"}})
	browser.post("/incidents/i-1", http.StatusSeeOther, url.Values{"csrf": csrf, "do": {"note"}, "text": {"x"}})
	browser.post("/incidents/i-1", http.StatusSeeOther, url.Values{"csrf": csrf, "do": {"own"}, "owner": {"bo"}})
	browser.post("/incidents/i-1", http.StatusSeeOther, url.Values{"csrf": csrf, "do": {"mitigated"}})
	browser.post("/incidents/i-1", http.StatusUnprocessableEntity, url.Values{"csrf": csrf, "do": {"resolved"}})
	if got := fmt.Sprint(w.patches); got != "[open no data production since nine note i-1 x own i-1 bo mitigated i-1 ]" {
		t.Error(got)
	}
	has(t, browser.get("/timeline?environment=production", http.StatusOK), "42 connections ended", "kind-release", "/timeline?environment=production&amp;from=")
	browser.get("/timeline?from=soon", http.StatusUnprocessableEntity)
	has(t, asBrowser(t, newWorld()).get("/timeline", http.StatusOK), "Nothing happened")
	has(t, asBrowser(t, newWorld()).get("/incidents", http.StatusOK), "No incident is under way")
}
