package api_test

import (
	"net/http"
	"strings"
	"testing"
)

// expect sends a request and holds its answer against what is expected.
func (s *server) expect(status int, says, method, path, body string) string {
	s.t.Helper()
	got, text, _ := s.do(method, "/api/v1/"+path, body)
	if got != status || !strings.Contains(text, says) {
		s.t.Errorf("%s %s: %d, and not %d with %q: %s", method, path, got, status, says, text)
	}
	return text
}

func TestABlueprintsEnvironmentsFollowIt(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.expect(http.StatusOK, "", "PUT", "blueprints/plan", `{"spec":{"environment":{"promotion":{"waivers":2}},"stamps":[{"name":"eu","region":"eu","capacity":1000}],
		"routes":[{"name":"out","spec":{"endpoint":{"webhook":{"url":"https://example.com/in","secret":"secret:hook"}}}}]}}`)
	s.expect(http.StatusBadRequest, "no blueprint", "PUT", "environments/dev", `{"spec":{"blueprint":"other"}}`)
	s.expect(http.StatusBadRequest, "says why", "PUT", "environments/dev", `{"spec":{"blueprint":"plan","differences":[{"path":"scale","value":"1%","reason":""}]}}`)
	s.expect(http.StatusOK, `"waivers":2`, "PUT", "environments/dev", `{"spec":{"blueprint":"plan","differences":[{"path":"scale","value":"1%","reason":"a desk"}]}}`)
	s.expect(http.StatusOK, `"capacity":10,`, "GET", "stamps/dev-eu", "")
	s.expect(http.StatusOK, `secret:hook`, "GET", "routes/dev-out", "")
	s.expect(http.StatusOK, `"a desk"`, "GET", "environments/dev/derivation", "")

	s.expect(http.StatusOK, `"environments":["dev"]`, "PUT", "blueprints/plan", `{"spec":{"stamps":[{"name":"eu","region":"eu","capacity":5000}]}}`)
	s.expect(http.StatusOK, `"capacity":50,`, "GET", "stamps/dev-eu", "")
	if text := s.expect(http.StatusOK, "", "GET", "environments/dev", ""); strings.Contains(text, "waivers") {
		t.Errorf("what the blueprint does not say any more stays: %s", text)
	}
	s.expect(http.StatusBadRequest, "environment dev", "PUT", "blueprints/plan", `{"spec":{"stamps":[{"name":"eu","region":"eu"}],"environment":{"autoMove":{"to":"dev","connected":true}}}}`)
	s.expect(http.StatusConflict, "dev is made from", "DELETE", "blueprints/plan", "")

	s.expect(http.StatusNoContent, "", "PUT", "environments/dev/secrets/hook", `{"value":"whsec_hushhush"}`)
	if text := s.expect(http.StatusOK, `"name":"hook"`, "GET", "environments/dev/secrets", ""); strings.Contains(text, "hush") {
		t.Errorf("a secret is shown: %s", text)
	}
	s.expect(http.StatusNotFound, "no secret", "DELETE", "environments/dev/secrets/other", "")
	if _, text, _ := s.do("GET", "/api/v1/audit/entries", ""); strings.Contains(text, "hushhush") {
		t.Error("a secret is in the audit log")
	}
}
