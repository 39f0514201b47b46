package resource_test

import (
	"strings"
	"testing"

	"github.com/slipway/slipway/internal/resource"
)

const good = `# two documents
apiVersion: slipway/v1
kind: EnrollmentGroup
metadata: { name: line-7 }
spec:
  environment: test
  attestation: { symmetricKey: { primaryKey: MDEyMzQ1Njc4OWFiY2RlZg== } }
  allocation: { policy: weighted }
  reprovision: migrate
  initialTwin: { tags: { batch: "7" }, desired: { reportEvery: 10, ratio: 0.5, on: true, list: [1, a] } }
---
apiVersion: slipway/v1
kind: Stamp
metadata:
  name: test-1
spec:
  environment: test
  region: eu-west
  capacity: 20
---
`

func TestDecode(t *testing.T) {
	all, err := resource.Decode("f.yaml", []byte(good))
	if err != nil || len(all) != 2 {
		t.Fatalf("%d resources, %v", len(all), err)
	}
	want := `{"environment":"test","attestation":{"symmetricKey":{"primaryKey":"MDEyMzQ1Njc4OWFiY2RlZg=="}},"allocation":{"policy":"weighted"},"reprovision":"migrate","initialTwin":{"tags":{"batch":"7"},"desired":{"reportEvery":10,"ratio":0.5,"on":true,"list":[1,"a"]}}}`
	if got := string(all[0].Spec); got != want {
		t.Errorf("got %s", got)
	}
	if all[1].Metadata.Name != "test-1" || all[1].Kind != resource.KindStamp {
		t.Errorf("got %+v", all[1])
	}
	if _, err := resource.Decode("f.json", []byte(`{"apiVersion":"slipway/v1","kind":"Environment","metadata":{"name":"dev"},"spec":{"displayName":"Dev"}}`)); err != nil {
		t.Error(err)
	}
}

func TestFaultsNameTheirLine(t *testing.T) {
	head := "apiVersion: slipway/v1\nkind: Stamp\nmetadata: { name: s }\n"
	for text, want := range map[string]string{
		head + "spec: { environment: e, region: r, capcity: 5 }":        "f.yaml:4:36: spec.capcity: no such field; there are capacity,",
		head + "spec:\n  environment: e\n  region: r\n  capacity: many": "f.yaml:7:13: spec.capacity: must be a whole number, not string",
		head + "spec:\n  environment: e\n  region: r\n  capacity: -4":   "f.yaml:7:13: spec.capacity: a stamp's capacity is 1 to",
		head + "spec:\n  environment: e\n  region: r\n  state: ajar":    "f.yaml:7:10: spec.state: a stamp's state is open, draining or closed",
		head + "spec:\n  environment: e\n  region: r\n  region: s":      "f.yaml:7:3: mapping key \"region\" already defined",
		head + "spec:\n  region: r":                                     "spec.environment: a stamp belongs to",
		head:                                                            "spec: is missing",
		strings.Replace(head, "Stamp", "Stump", 1) + "spec: {}":         "f.yaml:2:7: kind: must be one of Tenant, Blueprint, Environment",
		strings.Replace(head, "v1", "v9", 1) + "spec: {}":               "f.yaml:1:13: apiVersion: must be slipway/v1",
		strings.Replace(head, "name: s", "name: S_", 1) + "spec: {}":    "f.yaml:3:19: metadata.name: a name has",
		"apiVersion: slipway/v1\nkind: [\n":                             "f.yaml:2",
		"hello":                                                         "must be an object",
		"apiVersion: slipway/v1\nkind: EnrollmentGroup\nmetadata: { name: g }\nspec:\n  environment: t\n  attestation: { symmetricKey: { primarykey: x } }": "f.yaml:6:34: spec.attestation.symmetricKey.primarykey: no such field",
	} {
		_, err := resource.Decode("f.yaml", []byte(text))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q:\n got %v\nwant %s", text, err, want)
		}
	}
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte(good))
	f.Fuzz(func(t *testing.T, data []byte) {
		if _, err := resource.Decode("f", data); err != nil && err.Error() == "" {
			t.Error("an error without words")
		}
	})
}

// gated is an environment with a gate, or with a freeze.
func gated(gate string) string {
	return "apiVersion: slipway/v1\nkind: Environment\nmetadata: { name: e }\nspec:\n  promotion:\n    " + gate + "\n"
}

func TestGatesAreChecked(t *testing.T) {
	for gate, want := range map[string]string{
		"gates: [ { name: a, tests: {} } ]":                                                                       "",
		"gates: [ { name: a } ]":                                                                                  "f.yaml:6:22: spec.promotion.gates[0].name: a: a gate has one of",
		"gates: [ { name: a, tests: {}, soak: { for: 1h } } ]":                                                    "a gate has one kind, not tests and soak",
		"gates: [ { name: a, tests: {} }, { name: a, tests: {} } ]":                                               "f.yaml:6:46: spec.promotion.gates[1].name: a is declared twice",
		"gates: [ { name: A, tests: {} } ]":                                                                       "a name has 1 to 63",
		"gates: [ { name: a, tests: { maxAge: soon } } ]":                                                         "f.yaml:6:42: spec.promotion.gates[0].tests.maxAge: a: must be a length of time",
		"gates: [ { name: a, tests: { maxage: 7d } } ]":                                                           "no such field",
		"gates: [ { name: a, tests: { suites: [ Unit ] } } ]":                                                     "a suite is named by",
		"gates: [ { name: a, promql: { query: up } } ]":                                                           "needs min or max",
		"gates: [ { name: a, promql: { query: up, min: 2, max: 1 } } ]":                                           "min is above max",
		"gates: [ { name: a, promql: { query: 'up{s={{stump}}}', min: 1 } } ]":                                    "there is no {{stump}}; there are environment, upstream, stamp, release",
		"gates: [ { name: a, promql: { query: 'up{s=\"{{stamp}}\"}', min: 1 } } ]":                                "ours to write",
		"gates: [ { name: a, promql: { query: up, min: 1, onNoData: pass } } ]":                                   "must be inconclusive, fail or pass-with-reason",
		"gates: [ { name: a, promql: { query: up, min: 1, prometheus: 'file:///etc' } } ]":                        "must be a URL",
		"gates: [ { name: a, promql: { query: up, min: 1, prometheus: 'http://a:b@c' } } ]":                       "without a password",
		"gates: [ { name: a, slo: { objective: 1, good: 'g[{{window}}]', total: 't[{{window}}]' } } ]":            "above 0 and below 1",
		"gates: [ { name: a, slo: { objective: 0.9, good: g, total: 't[{{window}}]' } } ]":                        "over which window",
		"gates: [ { name: a, slo: { objective: 0.9, good: 'g[{{window}}]', total: 't[{{window}}]', long: 1m } }]": "shorter than the long",
		"gates: [ { name: a, approvals: { count: 2, from: [ ann ] } } ]":                                          "2 people are to agree, and only 1 may",
		"gates: [ { name: a, soak: {} } ]":                                                                        "for how long",
		"gates: [ { name: a, devices: {} } ]":                                                                     "what is to hold",
		"gates: [ { name: a, devices: { must: x, share: 2 } } ]":                                                  "from 0 to 1",
		"gates: [ { name: a, sbom: { severity: bad } } ]":                                                         "low, medium, high, critical",
		"gates: [ { name: a, webhook: { url: ftp://x } } ]":                                                       "must be a URL",
		"freeze: [ { name: a, reason: r, start: '2026-12-18T00:00:00', duration: 17d } ]":                         "",
		"freeze: [ { name: a, reason: r, start: '2026-12-18', duration: 17d } ]":                                  "f.yaml:6:44: spec.promotion.freeze[0].start: a: must read like",
	} {
		_, err := resource.Decode("f.yaml", []byte(gated(gate)))
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s:\n got %v\nwant %s", gate, err, want)
		}
	}
}
