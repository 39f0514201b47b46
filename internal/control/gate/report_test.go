package gate_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/slipway/slipway/internal/control/gate"
	"github.com/slipway/slipway/internal/problem"
)

const junit = `<?xml version="1.0" encoding="UTF-8"?>
<testsuites tests="5" failures="1" errors="1">
  <testsuite name="hub" tests="5">
    <properties><property name="go" value="1.26"/></properties>
    <testcase classname="hub" name="connects" time="0.25"/>
    <testcase classname="hub" name="refuses" time="0.5"><failure message="it did not">at line 7</failure></testcase>
    <testcase classname="hub" name="breaks"><error message="it panicked"/></testcase>
    <testcase classname="hub" name="later"><skipped/></testcase>
    <testcase name="never" status="notrun"/>
    <system-out><![CDATA[<failure>]]></system-out>
  </testsuite>
</testsuites>`

const ctrf = `{"results":{"tool":{"name":"jest"},"summary":{"tests":4,"passed":1,"failed":1,"skipped":1,"pending":0,"other":1},"tests":[
	{"name":"adds","status":"passed","duration":250},{"name":"takes","status":"failed","duration":500,"message":"1 is not 2"},
	{"name":"later","status":"pending","duration":0},{"name":"odd","status":"other","duration":0}]}}`

func TestReadReport(t *testing.T) {
	for text, want := range map[string]gate.Summary{
		junit: {Tests: 3, Failed: 2, Skipped: 2, Seconds: 0.75, Failures: []gate.FailedTest{{Name: "hub.refuses", Message: "it did not"}, {Name: "hub.breaks", Message: "it panicked"}}},
		ctrf:  {Tests: 3, Failed: 2, Skipped: 1, Seconds: 0.75, Failures: []gate.FailedTest{{Name: "takes", Message: "1 is not 2"}, {Name: "odd"}}},
		"\ufeff<testsuite name='a'><testcase name='b'/></testsuite>": {Tests: 1},
		"<testsuite/>": {},
		"<testsuite failures='3'><testcase name='b'/></testsuite>":                               {Tests: 1, Failed: 3},
		"<testsuite><error message='no tests were collected'/></testsuite>":                      {Failed: 1, Failures: []gate.FailedTest{{Name: "the suite itself", Message: "no tests were collected"}}},
		"<testsuite><testcase name='b' time='NaN'><skipped/><failure/></testcase></testsuite>":   {Tests: 1, Failed: 1, Failures: []gate.FailedTest{{Name: "b"}}},
		`{"results":{"summary":{"tests":9,"failed":2,"passed":7},"tests":[]}}`:                   {Failed: 2},
		`{"results":{"tests":[{"name":"a","status":"passed"},{"name":"b","status":"skipped"}]}}`: {Tests: 1, Skipped: 1},
	} {
		got, err := gate.ReadReport([]byte(text))
		if err != nil || fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("%.60s: %+v, %v", text, got, err)
		}
	}
}

func TestReadReportRefuses(t *testing.T) {
	bomb := `<?xml version="1.0"?><!DOCTYPE t [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">]><testsuite><testcase name="&b;"/></testsuite>`
	for text, want := range map[string]string{
		"":                                "neither",
		"ok 1 - tap":                      "neither",
		bomb:                              "document type",
		"<html><body/></html>":            "begins with html",
		"<testsuite><testcase name='a'>":  "ends in the middle",
		"<testsuite name='&b;'/>":         "entity",
		"</testsuite>":                    "never began",
		"{}":                              "no results",
		`{"results":{"tests":{}}}`:        "Common Test Report Format",
		strings.Repeat("<testsuite>", 40): "nested more than 32 deep",
		"<testsuite><testcase><testcase/></testcase></testsuite>":               "inside another",
		strings.Repeat(" ", gate.MaxReports+1):                                  "at most",
		"<testsuite>" + strings.Repeat("<testcase/>", 200_001) + "</testsuite>": "more than 200000 tests",
	} {
		_, err := gate.ReadReport([]byte(text))
		if err == nil || !strings.Contains(err.Error(), want) || problem.Is(err, problem.Internal) {
			t.Errorf("%.40s: %v", text, err)
		}
	}
}

func FuzzReport(f *testing.F) {
	f.Add([]byte(junit))
	f.Add([]byte(ctrf))
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := gate.ReadReport(data)
		if err != nil && problem.Is(err, problem.Internal) {
			t.Errorf("a fault of ours: %v", err)
		}
		if s.Tests < 0 || s.Failed < 0 || s.Skipped < 0 || s.Seconds < 0 || len(s.Failures) > 50 {
			t.Errorf("%+v", s)
		}
	})
}
