package api

import (
	"context"
	"net/http"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/slipway/slipway/internal/control/gate"
)

// maxUpload bounds what gates are given to read: it comes as text inside JSON,
// which makes it longer.
const maxUpload = 2 * max(gate.MaxReports, gate.MaxVulnerabilities)

const (
	testResults         = "/api/v1/releases/{name}/test-results"
	vulnerabilitiesPath = "/api/v1/vulnerabilities"
)

// isUpload reports whether a request brings what gates read.
func isUpload(r *http.Request) bool {
	before, after, _ := strings.Cut(testResults, "{name}")
	return r.Method == http.MethodPost && (r.URL.Path == vulnerabilitiesPath || strings.HasPrefix(r.URL.Path, before) && strings.HasSuffix(r.URL.Path, after))
}

type uploadTests struct {
	Named
	Body struct {
		Environment string        `json:"environment,omitempty" maxLength:"63" doc:"Where the tests ran"`
		Suite       string        `json:"suite" maxLength:"63" doc:"Such as unit, integration or performance"`
		Files       []gate.Report `json:"files" minItems:"1" maxItems:"200"`
	}
}

type uploadVulnerabilities struct {
	RawBody []byte `contentType:"application/json"`
}

type listVulnerabilities struct {
	After string `query:"after" maxLength:"200"`
	Limit int    `query:"limit" minimum:"1" maximum:"1000"`
}

type listHalts struct {
	Ended bool `query:"ended" doc:"Those that have ended too"`
}

type startHalt struct {
	Body struct {
		Environment      string   `json:"environment,omitempty" maxLength:"63" doc:"Default every environment"`
		Reason           string   `json:"reason" maxLength:"2000"`
		Exempt           []string `json:"exempt,omitempty" maxItems:"3" doc:"What it does not stop: security, rollback"`
		ExpiresInSeconds int64    `json:"expiresInSeconds,omitempty" minimum:"0" maximum:"31622400" doc:"0: when it is lifted"`
	}
}

type liftHalt struct {
	ID   string `path:"id" maxLength:"63"`
	Body struct {
		Reason string `json:"reason" maxLength:"2000"`
	}
}

// gateKey is what signatures of webhooks are checked with.
type gateKey struct {
	PublicKey string `json:"publicKey" doc:"Ed25519, as Standard Webhooks write it"`
}

// readCount tells how much was read of an upload.
type readCount struct {
	Read int `json:"read"`
}

// gates registers what gates are given to judge by, and what stops releases.
func (a *api) gates() {
	register(a, huma.Operation{
		OperationID: "uploadTestResults", Method: "POST", Path: testResults, Summary: "Say what a suite of tests made of a release", MaxBodyBytes: maxUpload,
	}, func(ctx context.Context, in *uploadTests) (*body[gate.TestResult], error) {
		t, err := a.Gates.AddTests(ctx, actorOf(ctx), in.Name, in.Body.Environment, in.Body.Suite, in.Body.Files)
		return &body[gate.TestResult]{t}, err
	})
	route(a, "GET", testResults, "listTestResults", "What suites of tests made of a release, newest first", func(ctx context.Context, in *Named) (*body[list[gate.TestResult]], error) {
		all, err := a.Gates.Tests(ctx, in.Name)
		return listOf(all, ""), err
	})
	register(a, huma.Operation{
		OperationID: "uploadVulnerabilities", Method: "POST", Path: vulnerabilitiesPath, Summary: "Add known vulnerabilities, in the OSV format: one document, a list, or an object whose vulns are one",
		MaxBodyBytes: maxUpload, SkipValidateBody: true,
		RequestBody: &huma.RequestBody{Required: true, Content: map[string]*huma.MediaType{"application/json": {Schema: &huma.Schema{}}}},
	}, func(ctx context.Context, in *uploadVulnerabilities) (*body[readCount], error) {
		n, err := a.Gates.AddVulnerabilities(ctx, actorOf(ctx), in.RawBody)
		return &body[readCount]{readCount{n}}, err
	})
	route(a, "GET", vulnerabilitiesPath, "listVulnerabilities", "Known vulnerabilities, in order of id", func(ctx context.Context, in *listVulnerabilities) (*body[list[gate.Vulnerability]], error) {
		limit := pageOf(in.Limit)
		all, err := a.Gates.Vulnerabilities(ctx, in.After, limit)
		next := ""
		if len(all) == limit {
			next = all[limit-1].ID
		}
		return listOf(all, next), err
	})
	route(a, "GET", "/api/v1/gate-key", "getGateKey", "What webhooks check our signatures with", func(ctx context.Context, _ *nothing) (*body[gateKey], error) {
		key, err := a.Gates.PublicKey(ctx)
		return &body[gateKey]{gateKey{key}}, err
	})
	a.halts()
}

// halts registers what stops releases, by the calendar and by hand.
func (a *api) halts() {
	route(a, "GET", "/api/v1/freezes", "listFreezes", "When each environment takes releases", func(ctx context.Context, _ *nothing) (*body[list[gate.Calendar]], error) {
		all, err := a.Gates.Calendars(ctx)
		return listOf(all, ""), err
	})
	route(a, "GET", "/api/v1/halts", "listHalts", "What stops releases by hand", func(ctx context.Context, in *listHalts) (*body[list[gate.Halt]], error) {
		if in.Ended {
			all, err := a.Gates.PastHalts(ctx)
			return listOf(all, ""), err
		}
		all, err := a.Gates.Halts(ctx, "")
		return listOf(all, ""), err
	})
	route(a, "POST", "/api/v1/halts", "startHalt", "Stop releases at once", func(ctx context.Context, in *startHalt) (*body[gate.Halt], error) {
		h := gate.Halt{Environment: in.Body.Environment, Reason: in.Body.Reason, Exempt: in.Body.Exempt}
		h, err := a.Gates.Halt(ctx, actorOf(ctx), h, time.Duration(in.Body.ExpiresInSeconds)*time.Second)
		return &body[gate.Halt]{h}, err
	})
	route(a, "POST", "/api/v1/halts/{id}/lift", "liftHalt", "End a halt", func(ctx context.Context, in *liftHalt) (*body[gate.Halt], error) {
		h, err := a.Gates.Lift(ctx, actorOf(ctx), in.ID, in.Body.Reason)
		return &body[gate.Halt]{h}, err
	})
}
