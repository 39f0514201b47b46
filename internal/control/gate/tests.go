package gate

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/slipway/slipway/internal/control/access"
	"github.com/slipway/slipway/internal/control/audit"
	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/resource"
	"github.com/slipway/slipway/internal/sqldb"
)

// TestResult is what a suite of tests said of a release.
type TestResult struct {
	ID          string    `json:"id"`
	Release     string    `json:"release"`
	Digest      string    `json:"digest" doc:"Of the release"`
	Environment string    `json:"environment,omitempty" doc:"Where the tests ran"`
	Suite       string    `json:"suite"`
	Summary     Summary   `json:"summary"`
	Content     string    `json:"content" doc:"Hex SHA-256 of the files, one after another"`
	UploadedBy  string    `json:"uploadedBy"`
	UploadedAt  time.Time `json:"uploadedAt"`
}

// Report is a file that a test run wrote.
type Report struct {
	Name    string `json:"name" maxLength:"300"`
	Content string `json:"content" doc:"JUnit's XML, or JSON of the Common Test Report Format"`
}

const (
	maxReportFiles = 200
	maxResults     = 2000 // of a release
)

// AddTests keeps what a suite of tests said of a release. The last word of a
// suite counts.
func (g *Gates) AddTests(ctx context.Context, actor access.Actor, release, environment, suite string, files []Report) (t TestResult, err error) {
	if err := resource.CheckSuite(suite); err != nil {
		return t, err
	}
	if len(files) == 0 || len(files) > maxReportFiles {
		return t, problem.New(problem.Invalid, "an upload has 1 to %d files, not %d", maxReportFiles, len(files)).At("files")
	}
	summary, content, err := readReports(files)
	if err != nil {
		return t, err
	}
	found, err := g.Release(ctx, release)
	if err != nil {
		return t, err
	}
	t = TestResult{
		ID: "t-" + strings.ToLower(rand.Text()[:10]), Release: found.Name, Digest: found.Digest, Environment: environment, Suite: suite,
		Summary: summary, Content: content, UploadedBy: actor.Name, UploadedAt: g.Now().UTC().Truncate(time.Microsecond),
	}
	return t, g.keepTests(ctx, actor, t)
}

func readReports(files []Report) (all Summary, content string, err error) {
	digest, size := sha256.New(), 0
	for _, file := range files {
		if size += len(file.Content); size > MaxReports {
			return all, "", problem.New(problem.TooLarge, "the files of an upload have at most %d bytes together", MaxReports).At("files")
		}
		one, err := ReadReport([]byte(file.Content))
		if err != nil {
			p := problem.Of(err)
			return all, "", problem.New(p.Kind, "%s: %s", file.Name, p.Message).At("files")
		}
		all.add(one)
		digest.Write([]byte(file.Content))
	}
	return all, hex.EncodeToString(digest.Sum(nil)), nil
}

func (g *Gates) keepTests(ctx context.Context, actor access.Actor, t TestResult) error {
	summary, err := json.Marshal(t.Summary)
	if err != nil {
		return err
	}
	return g.DB.Commit(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		if err := g.mustExist(ctx, tx, t.Environment); err != nil {
			return err
		}
		n, _, err := sqldb.Row(ctx, tx, scanCount, "SELECT count(*) FROM test_result WHERE digest = ?", t.Digest)
		if err == nil && n >= maxResults {
			err = problem.New(problem.Conflict, "release %s has %d test results, the most it may have", t.Release, n)
		}
		if err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, "INSERT INTO test_result (id, digest, release, environment, suite, summary, content, uploaded_by, uploaded_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
			t.ID, t.Digest, t.Release, t.Environment, t.Suite, string(summary), t.Content, t.UploadedBy, sqldb.Micros(t.UploadedAt)); err != nil {
			return err
		}
		detail := fmt.Sprintf("%s: %d tests, %d failed, %d skipped", t.Suite, t.Summary.Tests, t.Summary.Failed, t.Summary.Skipped)
		return g.Audit.Record(ctx, tx, audit.Entry{Actor: actor.Name, Action: "test-results.upload", Object: "release/" + t.Release, Outcome: audit.Done, Detail: detail})
	})
}

func scanCount(rows *sql.Rows) (n int, err error) { return n, rows.Scan(&n) }

// mustExist refuses an environment that is not there; none is none.
func (g *Gates) mustExist(ctx context.Context, tx *sqldb.Tx, environment string) error {
	if environment == "" {
		return nil
	}
	n, _, err := sqldb.Row(ctx, tx, scanCount, "SELECT count(*) FROM environment WHERE name = ?", environment)
	if err == nil && n == 0 {
		err = problem.New(problem.NotFound, "there is no environment %q", environment).At("environment")
	}
	return err
}

const selectTests = "SELECT id, digest, release, environment, suite, summary, content, uploaded_by, uploaded_at FROM test_result WHERE digest = ?"

func scanTests(rows *sql.Rows) (t TestResult, err error) {
	var summary []byte
	var at int64
	if err := rows.Scan(&t.ID, &t.Digest, &t.Release, &t.Environment, &t.Suite, &summary, &t.Content, &t.UploadedBy, &at); err != nil {
		return t, err
	}
	t.UploadedAt = sqldb.Time(at)
	return t, json.Unmarshal(summary, &t.Summary)
}

// Tests returns the test results of a release, newest first.
func (g *Gates) Tests(ctx context.Context, release string) ([]TestResult, error) {
	found, err := g.Release(ctx, release)
	if err != nil {
		return nil, err
	}
	return g.testsOf(ctx, found.Digest)
}

// LastTests returns the newest results of each suite in each environment, of
// whichever release.
func (g *Gates) LastTests(ctx context.Context) ([]TestResult, error) {
	return sqldb.Rows(ctx, g.DB, scanTests, `SELECT id, digest, release, environment, suite, summary, content, uploaded_by, uploaded_at FROM test_result t
		WHERE id = (SELECT o.id FROM test_result o WHERE o.suite = t.suite AND o.environment = t.environment ORDER BY o.uploaded_at DESC, o.id DESC LIMIT 1)
		ORDER BY suite, environment`)
}

func (g *Gates) testsOf(ctx context.Context, digest string) ([]TestResult, error) {
	return sqldb.Rows(ctx, g.DB, scanTests, selectTests+" ORDER BY uploaded_at DESC, id DESC", digest)
}

func (g *Gates) tests(ctx context.Context, now time.Time, gate resource.TestsGate, s Subject) Result {
	all, err := g.testsOf(ctx, s.Release.Digest)
	if err != nil {
		return failed(err)
	}
	return tested(now, gate, all)
}

// tested holds the last result of each suite, of all newest first, against
// what the gate wants.
func tested(now time.Time, gate resource.TestsGate, all []TestResult) Result {
	least := max(gate.MinTests, 1)
	r := Result{Verdict: Pass, Threshold: fmt.Sprintf("of each suite >= %d tests and <= %d failed", least, gate.MaxFailures)}
	if gate.MaxAge != "" {
		r.Window = string(gate.MaxAge)
	}
	last, suites := lastOf(gate.Environment, all), gate.Suites
	if len(suites) == 0 {
		for suite := range last {
			suites = append(suites, suite)
		}
		slices.Sort(suites)
	}
	if len(suites) == 0 {
		r.Verdict, r.Reason = Pending, "no test results were uploaded; `slipway test-results upload` does that"
		return r
	}
	var reasons []string
	var counted []TestResult
	failures := 0
	for _, suite := range suites {
		t, found := last[suite]
		verdict, reason := suiteVerdict(now, gate, least, suite, t, found)
		r.Verdict = worse(r.Verdict, verdict)
		reasons = append(reasons, reason)
		if found {
			r.Samples, failures, counted = r.Samples+int64(t.Summary.Tests), failures+t.Summary.Failed, append(counted, t)
		}
	}
	value := float64(failures)
	r.Value, r.Evidence, r.Reason = &value, evidenceOf(counted), strings.Join(reasons, "; ")
	return r
}

// lastOf is the newest result of each suite, of all newest first.
func lastOf(environment string, all []TestResult) map[string]TestResult {
	last := map[string]TestResult{}
	for _, t := range all {
		if _, seen := last[t.Suite]; !seen && (environment == "" || environment == t.Environment) {
			last[t.Suite] = t
		}
	}
	return last
}

func suiteVerdict(now time.Time, gate resource.TestsGate, least int, suite string, t TestResult, found bool) (Verdict, string) {
	old := gate.MaxAge.Duration(0)
	switch age := now.Sub(t.UploadedAt); {
	case !found:
		return Pending, fmt.Sprintf("no results of %s were uploaded", suite)
	case t.Summary.Failed > gate.MaxFailures:
		return Fail, fmt.Sprintf("%d of %d tests of %s failed", t.Summary.Failed, t.Summary.Tests, suite)
	case t.Summary.Tests < least:
		return Fail, fmt.Sprintf("only %d tests of %s ran, and %d must", t.Summary.Tests, suite, least)
	case old > 0 && age > old:
		return Fail, fmt.Sprintf("the results of %s are %s old, and may be %s; run them again", suite, age.Round(time.Second), old)
	}
	return Pass, fmt.Sprintf("%d tests of %s ran and %d failed", t.Summary.Tests, suite, t.Summary.Failed)
}
