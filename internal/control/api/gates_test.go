package api_test

import (
	"encoding/json"
	"strings"
	"testing"
)

func TestGatesOverTheAPI(t *testing.T) {
	s := newServer(t)
	upload := func(suite, report string) string {
		text, err := json.Marshal(map[string]any{"environment": "test", "suite": suite, "files": []map[string]string{{"name": "a.xml", "content": report}}})
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	frozen := `{"spec":{"promotion":{"gates":[{"name":"agreed","approvals":{"count":2}}],"freeze":[{"name":"year-end","reason":"nobody is there","start":"2026-12-18T00:00:00","duration":"17d","exempt":["rollback"]}]}}}`
	const results = "/api/v1/releases/v1.0.0/test-results"
	big := "<testsuite><testcase name='a'/>" + strings.Repeat("<system-out>a line of what a test wrote</system-out>\n", 25_000) + "</testsuite>"
	for _, c := range []struct {
		method, path, body string
		status             int
		says               string
	}{
		{"PUT", "/api/v1/environments/test", frozen, 200, `"duration":"17d"`},
		{"PUT", "/api/v1/environments/test", strings.Replace(frozen, `"count":2`, `"count":99`, 1), 400, `"field":"spec.promotion.gates[0].approvals.count"`},
		{"PUT", "/api/v1/environments/test", strings.Replace(frozen, "17d", "soon", 1), 400, `"field":"spec.promotion.freeze[0].duration"`},
		{"PUT", "/api/v1/environments/test", strings.Replace(frozen, "rollback", "me", 1), 400, "exempt"},
		{"POST", results, upload("unit", "<testsuite/>"), 404, "no release"},
		{"POST", "/api/v1/releases", `{"metadata":{"name":"v1.0.0"},"spec":{"configuration":{"reportEvery":10}}}`, 200, "digest"},
		{"POST", results, upload("unit", "<testsuite><testcase name='a'/></testsuite>"), 200, `"tests":1,"failed":0`},
		{"POST", results, upload("unit", big), 200, `"tests":1,"failed":0`},
		{"POST", results, upload("unit", strings.Repeat(big, 16)), 413, "too large"},
		{"POST", results, upload("Unit", "<testsuite/>"), 400, `"field":"suite"`},
		{"POST", results, upload("unit", "nothing"), 400, "a.xml: is neither"},
		{"GET", results, "", 200, `"suite":"unit"`},
		{"POST", "/api/v1/vulnerabilities", `[{"id":"GO-1"},{"id":"GO-2"}]`, 200, `"read":2`},
		{"POST", "/api/v1/vulnerabilities", `{"a":`, 400, "OSV format"},
		{"POST", "/api/v1/vulnerabilities", `[` + strings.Repeat(" ", 33<<20) + `]`, 413, ""},
		{"GET", "/api/v1/vulnerabilities?limit=1", "", 200, `"next":"GO-1"`},
		{"GET", "/api/v1/gate-key", "", 200, `"publicKey":"whpk_`},
		{"GET", "/api/v1/freezes", "", 200, `"windows":[{"freeze":"year-end"`},
		{"POST", "/api/v1/halts", `{"reason":"an incident","environment":"none"}`, 404, "no environment"},
		{"POST", "/api/v1/halts", `{"reason":"an incident","exempt":["me"]}`, 400, `"field":"exempt"`},
		{"POST", "/api/v1/halts", `{"reason":"an incident","expiresInSeconds":60}`, 200, `"actor":"admin"`},
		{"GET", "/api/v1/halts", "", 200, "an incident"},
		{"GET", "/api/v1/freezes", "", 200, `"open":false,"reason":"halted by admin`},
		{"POST", "/api/v1/halts/h-none/lift", `{"reason":"over"}`, 404, "no halt"},
	} {
		if status, body, _ := s.do(c.method, c.path, c.body); status != c.status || !strings.Contains(body, c.says) {
			t.Errorf("%s %s %.80s: %d %.300s", c.method, c.path, c.body, status, body)
		}
	}
}
