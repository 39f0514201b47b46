package api_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/slipway/slipway/internal/link"
)

// TestLogsAreSearchedWithinBounds asks for lines as people who may see some.
func TestLogsAreSearchedWithinBounds(t *testing.T) {
	s := newServer(t)
	s.playTenants()
	now := time.Now()
	for peer, lines := range map[string][]link.Line{
		"stamp.test-1": {
			{At: now, Level: "warn", Message: "of acme", Device: "acme-1"},
			{At: now, Level: "warn", Message: "of coyote", Device: "coyote-1", Tenant: "acme"}, // says that it is another's
			{At: now, Level: "info", Message: "of nobody"},
			{At: now, Level: "error", Message: "elsewhere", Stamp: "prod-1", Environment: "prod", Plane: "control"},
		},
		link.ProvisioningPeer: {{At: now, Level: "info", Message: "of provisioning", Trace: strings.Repeat("a", 32)}},
	} {
		if err := s.journal.Take(t.Context(), peer, link.Trail{Lines: lines, Spans: []link.Span{{Trace: strings.Repeat("a", 32), ID: "1", Name: "work", Began: now, Micros: 5}}}); err != nil {
			t.Fatal(err)
		}
	}
	acmes := s.tokenOf("viewer", `{"tenants":["acme"]}`)
	testers := s.tokenOf("viewer", `{"environments":["test"]}`)
	for _, c := range []struct {
		as     []string
		query  string
		status int
		want   string // the messages, newest first
	}{
		{nil, "", http.StatusOK, "*"},
		{nil, "?level=error", http.StatusOK, "elsewhere"},
		{nil, "?device=acme-1", http.StatusOK, "of acme"},
		{nil, "?text=OF+C", http.StatusOK, "of coyote"},
		{nil, "?text=%25", http.StatusOK, ""},
		{nil, "?trace=" + strings.Repeat("a", 32), http.StatusOK, "of provisioning"},
		{nil, "?level=loud", http.StatusBadRequest, ""},
		{acmes, "", http.StatusForbidden, ""},
		{acmes, "?tenant=acme", http.StatusOK, "of acme"},
		{acmes, "?tenant=coyote", http.StatusForbidden, ""},
		{acmes, "?tenant=acme&device=coyote-1", http.StatusOK, ""},
		{testers, "", http.StatusForbidden, ""},
		{testers, "?environment=test", http.StatusOK, "elsewhere of nobody of coyote of acme"}, // a stamp speaks for itself alone
		{testers, "?environment=prod", http.StatusForbidden, ""},
		{testers, "?stamp=test-1&level=error", http.StatusOK, "elsewhere"},
	} {
		status, text, _ := s.do("GET", "/api/v1/logs"+c.query, "", c.as...)
		if status != c.status {
			t.Errorf("%s: %d %s", c.query, status, text)
		}
		var got []string
		for part := range strings.SplitSeq(text, `"message":"`) {
			if message, _, found := strings.Cut(part, `"`); found && !strings.HasPrefix(part, "{") {
				got = append(got, message)
			}
		}
		if joined := strings.Join(got, " "); status == http.StatusOK && c.want != "*" && joined != c.want {
			t.Errorf("%s: %q, not %q", c.query, joined, c.want)
		}
	}
	if status, text, _ := s.do("GET", "/api/v1/traces/"+strings.Repeat("a", 32), ""); status != http.StatusOK || !strings.Contains(text, `"name":"work"`) {
		t.Error(status, text)
	}
	if status, _, _ := s.do("GET", "/api/v1/traces/"+strings.Repeat("b", 32), ""); status != http.StatusNotFound {
		t.Error(status)
	}
	if status, _, _ := s.do("GET", "/api/v1/traces", "", acmes...); status != http.StatusForbidden {
		t.Error(status)
	}
}
