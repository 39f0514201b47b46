package api_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
)

// bearing makes an account with a role, and the headers of some tokens of it.
func (s *server) bearing(account, role string, tokens ...string) (headers [][]string) {
	s.t.Helper()
	s.must("POST", "/api/v1/accounts", `{"id":"`+account+`","kind":"person"}`)
	s.must("POST", "/api/v1/bindings", `{"account":"`+account+`","role":"`+role+`"}`)
	for _, name := range tokens {
		var made struct{ Token string }
		if err := json.Unmarshal([]byte(s.must("POST", "/api/v1/tokens", `{"name":"`+name+`","account":"`+account+`"}`)), &made); err != nil {
			s.t.Fatal(err)
		}
		headers = append(headers, []string{"Authorization", "Bearer " + made.Token})
	}
	return headers
}

// TestNobodyAgreesToTheirOwn tries it as an admin, by another token, and by a
// token that belongs to nobody; and takes a right away in an access review.
func TestNobodyAgreesToTheirOwn(t *testing.T) {
	s := newServer(t)
	s.must("PUT", "/api/v1/environments/production", `{"apiVersion":"slipway/v1","kind":"Environment","metadata":{"name":"production"},"spec":{"access":"controlled"}}`)
	ada, bob := s.bearing("ada", "admin", "ada-laptop", "ada-phone"), s.bearing("bob", "approver", "bob-laptop")
	ask := func(want int, says, method, path, body string, as ...string) string {
		t.Helper()
		status, text, _ := s.do(method, path, body, as...)
		if status != want || !strings.Contains(text, says) {
			t.Errorf("%s %s: %d %s, want %d with %q", method, path, status, text, want, says)
		}
		return text
	}
	const want = `{"environment":"production","purpose":"hotfix","reason":"down","seconds":600,"scope":{"permissions":["stamp.write"]}}`
	const stamp = `{"apiVersion":"slipway/v1","kind":"Stamp","metadata":{"name":"prod-1"},"spec":{"environment":"production","region":"eu"}}`
	ask(http.StatusForbidden, "wants a grant", "PUT", "/api/v1/stamps/prod-1", stamp, ada[0]...)
	ask(http.StatusForbidden, "which person", "POST", "/api/v1/grants", want)
	ask(http.StatusForbidden, "does not let the glass be broken", "POST", "/api/v1/grants/break-glass", want, ada[0]...)
	ask(http.StatusOK, `"state":"pending"`, "POST", "/api/v1/grants", want, ada[0]...)
	ask(http.StatusForbidden, "somebody else must", "POST", "/api/v1/grants/grant-1/approve", `{}`, ada[0]...)
	ask(http.StatusForbidden, "somebody else must", "POST", "/api/v1/grants/grant-1/approve", `{}`, ada[1]...)
	ask(http.StatusForbidden, "which person", "POST", "/api/v1/grants/grant-1/approve", `{}`)
	ask(http.StatusOK, `"state":"active"`, "POST", "/api/v1/grants/grant-1/approve", `{}`, bob[0]...)
	ask(http.StatusOK, `"prod-1"`, "PUT", "/api/v1/stamps/prod-1", stamp, ada[1]...)
	ask(http.StatusOK, `"lines":2`, "GET", "/api/v1/recordings?environment=production", "", bob[0]...)
	ask(http.StatusForbidden, "wants a grant", "DELETE", "/api/v1/environments/production", "", ada[0]...)
	ask(http.StatusOK, `"end":"revoked"`, "POST", "/api/v1/grants/grant-1/revoke", `{"reason":"enough"}`, bob[0]...)
	ask(http.StatusForbidden, "wants a grant", "DELETE", "/api/v1/stamps/prod-1", "", ada[0]...)
	var review struct {
		Rows []struct{ ID, Person string }
	}
	if err := json.Unmarshal([]byte(ask(http.StatusOK, `"grant-1"`, "POST", "/api/v1/access-reviews", `{"environment":"production"}`, bob[0]...)), &review); err != nil || len(review.Rows) != 2 {
		t.Fatalf("%v %+v", err, review)
	}
	for _, row := range review.Rows {
		decision, status := `","decision":"remove","reason":"left"}`, http.StatusOK
		if row.Person == "bob" {
			status = http.StatusForbidden
		}
		ask(status, "", "POST", "/api/v1/access-reviews/review-1/decisions", `{"right":"`+row.ID+decision, bob[0]...)
	}
	ask(http.StatusForbidden, "lacks", "GET", "/api/v1/devices", "", ada[0]...)
}
