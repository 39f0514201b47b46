package api_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
)

// made is what a request answers with, and the headers of a token that it made.
func (s *server) made(as []string, path, body string) (token []string) {
	s.t.Helper()
	status, text, _ := s.do("POST", "/api/v1/"+path, body, as...)
	if status != http.StatusOK {
		s.t.Fatalf("%s: %d %s", path, status, text)
	}
	var of struct{ Token string }
	if err := json.Unmarshal([]byte(text), &of); err != nil {
		s.t.Fatal(err)
	}
	return []string{"Authorization", "Bearer " + of.Token}
}

// account makes one that may decide, by somebody's hand, with a token of its
// own making.
func (s *server) account(as []string, id, role string) []string {
	s.t.Helper()
	s.made(as, "accounts", `{"id":"`+id+`"}`)
	s.made(as, "bindings", `{"account":"`+id+`","role":"`+role+`"}`)
	first := s.made(as, "tokens", `{"name":"`+id+`-first","account":"`+id+`"}`)
	return s.made(first, "me/tokens", `{"name":"`+id+`-own"}`)
}

// TestNobodyIsTwo has a person who may make accounts try to be the other one
// whose word is wanted, in every way that there is, on every route by which
// people agree to what another has asked for.
func TestNobodyIsTwo(t *testing.T) {
	s := newServer(t)
	s.must("PUT", "/api/v1/environments/dev", `{"spec":{"promotion":{"gates":[{"name":"agreed","approvals":{"count":2}}]}}}`)
	s.must("PUT", "/api/v1/environments/next", `{"spec":{"promotesFrom":"dev"}}`)
	s.must("PUT", "/api/v1/environments/guarded", `{"spec":{"access":"controlled"}}`)
	s.must("POST", "/api/v1/releases", `{"metadata":{"name":"v1"},"spec":{"configuration":{"a":1}}}`)
	root := []string{"Authorization", "Bearer " + s.token}
	ada, zoe := s.account(root, "ada", "admin"), s.account(root, "zoe", "approver")

	others := map[string][]string{"made": s.account(ada, "second", "admin")}
	others["made by what was made"] = s.account(others["made"], "third", "admin")
	middle := s.account(ada, "middle", "admin")
	others["made by what is gone"] = s.account(middle, "fourth", "admin")
	s.must("DELETE", "/api/v1/accounts/middle", "")
	s.account(root, "vic", "approver")
	others["by a token that was made"] = s.made(ada, "tokens", `{"name":"vics","account":"vic"}`)
	others["invited"] = s.account(root, "ike", "approver")
	s.made(ada, "accounts/ike/invitation", "")
	s.account(root, "boss", "admin")
	bossy := s.made(root, "tokens", `{"name":"bossy","account":"boss"}`)
	s.made(bossy, "accounts/ada/invitation", "")
	others["who invited"] = bossy

	const want = `{"environment":"guarded","purpose":"hotfix","reason":"down","seconds":600,"scope":{"permissions":["stamp.write"]}}`
	s.made(ada, "promotions", `{"environment":"dev","release":"v1"}`)
	s.made(ada, "environments/next/waivers", `{"class":"incident","reason":"r","release":"v1","ticket":"t"}`)
	s.made(ada, "grants", want)
	s.made(ada, "grants", want)
	s.made(zoe, "grants/grant-2/approve", `{}`)
	s.made(ada, "grants/grant-2/end", `{}`)
	s.made(zoe, "access-reviews", `{"environment":"guarded"}`)
	var review struct {
		Rows []struct{ ID, Person string }
	}
	if err := json.Unmarshal([]byte(s.must("GET", "/api/v1/access-reviews/review-1", "")), &review); err != nil {
		t.Fatal(err)
	}
	right := ""
	for _, row := range review.Rows {
		if row.Person == "ada" {
			right = row.ID
		}
	}
	routes := map[string]string{
		"promotions/promotion-1/approve":    `{"reason":"r"}`,
		"waivers/waiver-1/approve":          ``,
		"waivers/waiver-1/review":           `{"reason":"r"}`,
		"grants/grant-1/approve":            `{}`,
		"grants/grant-1/deny":               `{"reason":"r"}`,
		"grants/grant-2/review":             `{"reason":"r"}`,
		"access-reviews/review-1/decisions": `{"right":"` + right + `","decision":"keep"}`,
	}
	for path, body := range routes {
		for how, as := range others {
			if status, text, _ := s.do("POST", "/api/v1/"+path, body, as...); status != http.StatusForbidden || !strings.Contains(text, "cannot be told from") {
				t.Errorf("%s, %s: %d %s", path, how, status, text)
			}
		}
	}
	for path, body := range routes {
		if path == "grants/grant-1/deny" || path == "waivers/waiver-1/review" {
			continue // it was approved, and is not used yet
		}
		if status, text, _ := s.do("POST", "/api/v1/"+path, body, zoe...); status != http.StatusOK {
			t.Errorf("%s, by somebody else: %d %s", path, status, text)
		}
	}
	// One person counts once among those who agree, too.
	lee := s.account(root, "lee", "admin")
	s.made(lee, "promotions/promotion-1/approve", `{"reason":"r"}`)
	status, text, _ := s.do("POST", "/api/v1/promotions/promotion-1/approve", `{"reason":"r"}`, s.account(lee, "lees", "approver")...)
	if status != http.StatusForbidden || !strings.Contains(text, "cannot be told from lee") {
		t.Errorf("counted twice: %d %s", status, text)
	}
}
