package readiness

import (
	"bytes"
	"context"
	"crypto/ed25519"
	_ "embed"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"html/template"
	"slices"
	"strings"
	"time"

	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/vault"
)

// Report is how ready an environment is, with everything that it rests on, as it
// is handed to others.
type Report struct {
	Format      string       `json:"format"`
	CreatedAt   time.Time    `json:"createdAt"`
	CreatedBy   string       `json:"createdBy"`
	Verdict     Verdict      `json:"verdict"`
	History     []Point      `json:"history"`
	Calendar    []Date       `json:"calendar"`
	Assessments []Assessment `json:"assessments"`
}

// reportFormat names what a report is, and its version.
const reportFormat = "slipway/readiness-report/1"

// Signed is a report with the installation's signature over exactly its bytes.
type Signed struct {
	Report    string `json:"report" doc:"The report as JSON, exactly as it was signed"`
	Signature string `json:"signature" doc:"Ed25519 over the report's bytes, base64"`
	Key       string `json:"key" doc:"Short name of the key that signed; slipway backup key shows the whole of it"`
}

// What a report has of the past and of the future.
const (
	reportedHistory  = 90 * day
	reportedCalendar = 180 * day
)

// Report makes the report of an environment, on all frameworks or on one.
func (r *Readiness) Report(ctx context.Context, by, environment, framework string) (Signed, error) {
	wanted := Frameworks()
	if framework != "" {
		one, err := FrameworkNamed(framework)
		if err != nil {
			return Signed{}, err
		}
		wanted = []Framework{one}
	}
	v, err := r.Environment(ctx, environment)
	if err != nil {
		return Signed{}, err
	}
	now := r.Now().UTC()
	report := Report{Format: reportFormat, CreatedAt: now, CreatedBy: by, Verdict: v}
	if report.History, err = r.History(ctx, environment, now.Add(-reportedHistory)); err != nil {
		return Signed{}, err
	}
	if report.Calendar, err = r.Calendar(ctx, environment, now.Add(reportedCalendar)); err != nil {
		return Signed{}, err
	}
	for _, f := range wanted {
		report.Assessments = append(report.Assessments, Assess(f, v.Results))
	}
	text, err := json.Marshal(report)
	if err != nil {
		return Signed{}, err
	}
	s := Signed{Report: string(text)}
	s.Signature, s.Key = r.Sign(text)
	return s, nil
}

// Verify checks that a report, as JSON or as a page, is exactly what one of the
// keys has signed, and returns it.
func Verify(document []byte, keys []ed25519.PublicKey) (Report, error) {
	s, err := signedIn(document)
	if err != nil {
		return Report{}, err
	}
	if err := signedBy([]byte(s.Report), s.Signature, s.Key, keys); err != nil {
		return Report{}, err
	}
	if bytes.Contains(document, []byte(embedBegins)) {
		if err := verifyPage(document, keys); err != nil {
			return Report{}, err
		}
	}
	var report Report
	if err := json.Unmarshal([]byte(s.Report), &report); err != nil {
		return report, problem.New(problem.Invalid, "what was signed is no report: %w", err)
	}
	if report.Format != reportFormat {
		return report, problem.New(problem.Invalid, "what was signed is a %q, and not a %s", report.Format, reportFormat)
	}
	return report, nil
}

// What the signed report stands between in a page.
const (
	embedBegins = `<script type="application/json" id="signed">`
	embedEnds   = `</script>`
)

// signedIn finds the signed report in a file of JSON, or in a page.
func signedIn(document []byte) (s Signed, err error) {
	text := bytes.TrimSpace(document)
	if _, after, found := bytes.Cut(text, []byte(embedBegins)); found {
		text, _, _ = bytes.Cut(after, []byte(embedEnds))
	}
	if err := json.Unmarshal(text, &s); err != nil || s.Report == "" || s.Signature == "" {
		return s, problem.New(problem.Invalid, "the file holds no signed report; `slipway readiness report` writes one")
	}
	return s, nil
}

//go:embed report.html
var reportText string

var reportPage = template.Must(template.New("report").Funcs(template.FuncMap{
	"day":  func(t time.Time) string { return t.UTC().Format("2006-01-02") },
	"when": func(t time.Time) string { return t.UTC().Format("2006-01-02 15:04 UTC") },
	"word": func(state any) string { return Word(fmt.Sprint(state)) },
	"json": func(s Signed) (template.JS, error) {
		text, err := json.Marshal(s) // escapes <, > and &
		return template.JS(text), err
	},
}).Parse(reportText))

// Page is a report as one page of HTML that needs nothing else, with the signed
// report in it. The page is signed as a whole, too: what people read is what was
// signed.
func (r *Readiness) Page(s Signed) ([]byte, error) {
	var view struct {
		Report
		Signed Signed
	}
	if err := json.Unmarshal([]byte(s.Report), &view.Report); err != nil {
		return nil, err
	}
	view.Signed = s
	var out bytes.Buffer
	if err := reportPage.Execute(&out, view); err != nil {
		return nil, err
	}
	signature, key := r.Sign(out.Bytes())
	fmt.Fprintf(&out, "%s%s %s -->\n", pageSignature, key, signature)
	return out.Bytes(), nil
}

// pageSignature begins the last line of a page, which signs all before it.
const pageSignature = "<!-- slipway-signature "

// verifyPage checks that a page is exactly what one of the keys has signed.
func verifyPage(page []byte, keys []ed25519.PublicKey) error {
	at := bytes.LastIndex(page, []byte(pageSignature))
	if at < 0 {
		return problem.New(problem.Conflict, "the page was cut short: its signature is missing")
	}
	line, ended := strings.CutSuffix(strings.TrimSpace(string(page[at+len(pageSignature):])), " -->")
	key, signature, _ := strings.Cut(line, " ")
	if !ended || strings.ContainsAny(signature, " \n<") {
		return problem.New(problem.Conflict, "the page goes on behind its signature")
	}
	return signedBy(page[:at], signature, key, keys)
}

// signedBy checks that one of the keys has signed a text.
func signedBy(text []byte, signature, key string, keys []ed25519.PublicKey) error {
	sum, err := base64.StdEncoding.DecodeString(signature)
	if err != nil || !slices.ContainsFunc(keys, func(k ed25519.PublicKey) bool { return ed25519.Verify(k, text, sum) }) {
		return problem.New(problem.Conflict, "the report was changed since it was signed, or was signed by a key that is not trusted (%.80s)", key)
	}
	return nil
}

// Word is a state or a standing as people read it.
func Word[T ~string](s T) string {
	switch string(s) {
	case string(NotApplicable):
		return "not applicable"
	case string(NotMet):
		return "not met"
	case string(Uncovered):
		return "not covered here"
	case string(Manual):
		return "answered by hand"
	case string(Unknown):
		return "no evidence"
	}
	return string(s)
}

// ParseKeys reads the public keys that reports may be signed with.
func ParseKeys(texts []string) (keys []ed25519.PublicKey, err error) {
	for _, text := range texts {
		key, err := vault.ParseKey(text)
		if err != nil {
			return nil, err
		}
		keys = append(keys, key)
	}
	return keys, nil
}
