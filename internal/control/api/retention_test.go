package api_test

import (
	"context"
	"net/http"
	"strings"
	"testing"

	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/problem"
)

// nobody is planes of which none answers.
type nobody struct{}

var errAway = problem.New(problem.NotReady, "nobody answers")

func (nobody) Put(context.Context, string, link.CarePlan) error { return errAway }

func (nobody) Look(context.Context, string, link.LookCare) (link.CareLooks, error) {
	return link.CareLooks{}, errAway
}

func (nobody) RunNow(context.Context, string) error { return errAway }

func (nobody) Runs(context.Context, string, int64) (link.CareRunList, error) {
	return link.CareRunList{}, errAway
}

func TestRetentionOverTheAPI(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	for _, c := range []struct {
		method, path, body string
		status             int
		says               []string
	}{
		{"GET", "/api/v1/retention", "", http.StatusOK, []string{`"kind":"telemetry"`, `"everyHours":24`, `"away":"nobody answers"`}},
		{"PUT", "/api/v1/retention", `{"everyHours":12,"days":{"uploads":30}}`, http.StatusOK, []string{`"uploads":30`, `"everyHours":12`}},
		{"PUT", "/api/v1/retention", `{"everyHours":12,"days":{"events":14}}`, http.StatusOK, []string{`"uploads":30`, `"events":14`}},
		{"PUT", "/api/v1/retention", `{"everyHours":12,"days":{"drills":3}}`, http.StatusBadRequest, []string{"days.drills", "at least 365 days"}},
		{"PUT", "/api/v1/retention", `{"everyHours":0,"days":{}}`, http.StatusBadRequest, []string{"everyHours"}},
		{"GET", "/api/v1/retention/dry-run?planes=control&days=uploads:3,events:5", "", http.StatusOK, []string{`"plane":"control"`, `"items":[]`}},
		{"GET", "/api/v1/retention/dry-run?days=uploads", "", http.StatusBadRequest, []string{"uploads:10"}},
		{"GET", "/api/v1/retention/dry-run?planes=nowhere", "", http.StatusNotFound, []string{"there is no plane"}},
		{"POST", "/api/v1/legal-holds", `{"device":"acme-1","tenant":"acme","reason":"r"}`, http.StatusBadRequest, []string{"one of the two"}},
		{"POST", "/api/v1/legal-holds", `{"device":"acme-1","reason":" "}`, http.StatusBadRequest, []string{"say why"}},
		{"POST", "/api/v1/legal-holds", `{"device":"acme-1","reason":"case 7"}`, http.StatusOK, []string{"legal-hold-1"}},
		{"POST", "/api/v1/legal-holds", `{"device":"acme-1","reason":"case 8"}`, http.StatusConflict, []string{"legal-hold-1"}},
		{"GET", "/api/v1/legal-holds", "", http.StatusOK, []string{"case 7"}},
		{"POST", "/api/v1/legal-holds/legal-hold-1/lift", `{"reason":"closed"}`, http.StatusOK, []string{`"liftReason":"closed"`}},
		{"POST", "/api/v1/legal-holds/legal-hold-1/lift", `{"reason":"closed"}`, http.StatusConflict, []string{"was lifted"}},
		{"GET", "/api/v1/legal-holds", "", http.StatusOK, []string{`"items":[]`}},
		{"GET", "/api/v1/legal-holds?all=true", "", http.StatusOK, []string{"legal-hold-1"}},
	} {
		status, text, _ := s.do(c.method, c.path, c.body)
		if status != c.status {
			t.Errorf("%s %s %s: %d %s", c.method, c.path, c.body, status, text)
		}
		for _, word := range c.says {
			if !strings.Contains(text, word) {
				t.Errorf("%s %s %s does not say %s: %s", c.method, c.path, c.body, word, text)
			}
		}
	}
}
