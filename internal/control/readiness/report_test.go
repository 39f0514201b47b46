package readiness_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/slipway/slipway/internal/control/access"
	"github.com/slipway/slipway/internal/control/audit"
	"github.com/slipway/slipway/internal/control/migrations"
	"github.com/slipway/slipway/internal/control/readiness"
	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/resource"
	"github.com/slipway/slipway/internal/sqldb"
	"github.com/slipway/slipway/internal/sqldb/sqldbtest"
)

// installation is readiness over a real database, with facts that a test sets.
type installation struct {
	*readiness.Readiness
	facts readiness.Facts
	at    time.Time
	key   ed25519.PublicKey
}

func newInstallation(t *testing.T) *installation {
	t.Helper()
	db, err := sqldb.Open(t.Context(), sqldbtest.At(t), migrations.FS)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	in := &installation{facts: sound(), at: now}
	clock := func() time.Time { return in.at }
	log, err := audit.Open(t.Context(), db, make([]byte, 32), clock)
	if err != nil {
		t.Fatal(err)
	}
	if err := db.Commit(t.Context(), func(ctx context.Context, tx *sqldb.Tx) error {
		_, err := tx.Exec(ctx, "INSERT INTO environment (name, spec, version, created_at, updated_at) VALUES ('production', '{}', 1, 0, 0)")
		return err
	}); err != nil {
		t.Fatal(err)
	}
	public, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	in.key = public
	in.Readiness = readiness.New(readiness.Options{
		DB: db, Audit: log, Logger: slog.New(slog.DiscardHandler), Now: clock,
		Environments: func(context.Context) ([]resource.Environment, error) {
			return []resource.Environment{{Metadata: resource.Metadata{Name: "production"}}}, nil
		},
		Gather: func(context.Context, string) (readiness.Facts, error) {
			f := in.facts
			f.At = in.at
			return f, nil
		},
		Sign: func(text []byte) (string, string) {
			return base64.StdEncoding.EncodeToString(ed25519.Sign(private, text)), "k1"
		},
	})
	return in
}

func TestReportsAreVerifiedAndTamperingIsFound(t *testing.T) {
	t.Parallel()
	in := newInstallation(t)
	signed, err := in.Report(t.Context(), "ann", "production", "")
	if err != nil {
		t.Fatal(err)
	}
	page, err := in.Page(signed)
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(signed)
	if err != nil {
		t.Fatal(err)
	}
	keys := []ed25519.PublicKey{in.key}
	for what, document := range map[string][]byte{"JSON": text, "page": page} {
		report, err := readiness.Verify(document, keys)
		if err != nil || report.Verdict.Environment != "production" || len(report.Assessments) != len(readiness.Frameworks()) || len(report.Verdict.Results) != len(readiness.All()) {
			t.Errorf("%s: %v, %+v", what, err, report.Verdict.Summary)
		}
	}
	other, _, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	for what, c := range map[string]struct {
		document []byte
		key      ed25519.PublicKey
	}{
		"another key":          {text, other},
		"another score":        {bytes.Replace(text, []byte(`score\":`), []byte(`score\":1`), 1), in.key},
		"another word":         {bytes.Replace(page, []byte("Score "), []byte("Score 1"), 1), in.key},
		"a script":             {append(bytes.Clone(page), "<script>document.body.textContent='ready'</script>"...), in.key},
		"something in between": {bytes.Replace(page, []byte("</body>"), []byte("<p>ready</p></body>"), 1), in.key},
		"its end cut off":      {page[:len(page)-40], in.key},
		"no report":            {[]byte(`{"report":""}`), in.key},
	} {
		if _, err := readiness.Verify(c.document, []ed25519.PublicKey{c.key}); err == nil {
			t.Errorf("a report with %s is taken", what)
		}
	}
	if bytes.Contains(page, []byte("http://")) || bytes.Contains(page, []byte("src=")) {
		t.Error("the page needs something from elsewhere")
	}
}

func FuzzVerify(f *testing.F) {
	f.Add([]byte(`{"report":"{}","signature":"AA==","key":"k"}`))
	f.Add([]byte("<!doctype html><script type=\"application/json\" id=\"signed\">{}</script><!-- slipway-signature k s -->"))
	key, _, err := ed25519.GenerateKey(nil)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, document []byte) {
		if _, err := readiness.Verify(document, []ed25519.PublicKey{key}); err == nil {
			t.Errorf("%q is taken for signed", document)
		}
	})
}

func TestAnswersOwnersAndScoresAreKept(t *testing.T) {
	t.Parallel()
	in := newInstallation(t)
	actor := access.Actor{Name: "ann"}
	good := readiness.Answer{Environment: "production", Check: "S4", Applies: true, Owner: "mia", Reason: "tried", Until: now.Add(time.Hour)}
	for what, spoil := range map[string]func(*readiness.Answer){
		"no owner":       func(a *readiness.Answer) { a.Owner = " " },
		"no reason":      func(a *readiness.Answer) { a.Reason = "" },
		"no end":         func(a *readiness.Answer) { a.Until = time.Time{} },
		"too long":       func(a *readiness.Answer) { a.Until = now.AddDate(2, 0, 0) },
		"no such check":  func(a *readiness.Answer) { a.Check = "Z9" },
		"no environment": func(a *readiness.Answer) { a.Environment = "nowhere" },
	} {
		a := good
		spoil(&a)
		if _, err := in.Answer(t.Context(), actor, a); err == nil {
			t.Errorf("an answer with %s is kept", what)
		}
	}
	in.facts.Tests = nil
	if _, err := in.Answer(t.Context(), actor, good); err != nil {
		t.Fatal(err)
	}
	if err := in.Own(t.Context(), actor, readiness.Scale, "mia"); err != nil {
		t.Fatal(err)
	}
	if err := in.Own(t.Context(), actor, "weather", "mia"); !problem.Is(err, problem.NotFound) {
		t.Errorf("somebody owns the weather: %v", err)
	}
	v, err := in.Environment(t.Context(), "production")
	if err != nil {
		t.Fatal(err)
	}
	if r := resultOf(t, v, "S4"); r.State != readiness.Manual || r.Owner != "mia" {
		t.Errorf("%+v", r)
	}
	if err := in.Withdraw(t.Context(), actor, "production", "S4"); err != nil {
		t.Fatal(err)
	}
	if err := in.Withdraw(t.Context(), actor, "production", "S4"); !problem.Is(err, problem.NotFound) {
		t.Errorf("withdrawn twice: %v", err)
	}
	for range 3 { // two alike, and one more an hour later
		if err := in.Look(t.Context()); err != nil {
			t.Fatal(err)
		}
		in.at = in.at.Add(31 * time.Minute)
	}
	points, err := in.History(t.Context(), "production", now.Add(-time.Hour))
	if err != nil || len(points) != 2 || points[0].At.After(points[1].At) {
		t.Errorf("%v, %v", points, err)
	}
	recent, err := in.Recent(t.Context(), "production", time.Hour)
	if err != nil || recent.At.Equal(in.at) {
		t.Errorf("facts that are recent were gathered anew: %v, %v", recent.At, err)
	}
}

func TestCalendarIsReadByCalendarPrograms(t *testing.T) {
	t.Parallel()
	in := newInstallation(t)
	in.facts.Expiries.Items = append(in.facts.Expiries.Items, readiness.Expiry{Kind: readiness.DateAuthority, Name: "old, and odd;\nname", At: now.AddDate(0, 0, -1)})
	dates, err := in.Calendar(t.Context(), "", now.AddDate(2, 0, 0))
	if err != nil || len(dates) < 10 || !dates[0].Overdue || dates[0].Name != "old, and odd;\nname" {
		t.Fatalf("%v, %+v", err, dates)
	}
	text, err := readiness.ICalendar(dates, now)
	if err != nil {
		t.Fatal(err)
	}
	unfolded := strings.ReplaceAll(string(text), "\r\n ", "")
	if n := strings.Count(unfolded, "BEGIN:VEVENT"); n != len(dates) {
		t.Errorf("%d events of %d dates", n, len(dates))
	}
	for _, want := range []string{"BEGIN:VCALENDAR\r\n", "DTSTART;VALUE=DATE:20261119\r\n", `old\, and odd\;\nname`, "It was missed.", "END:VCALENDAR\r\n"} {
		if !strings.Contains(unfolded, want) {
			t.Errorf("%q is not in\n%s", want, unfolded)
		}
	}
	if empty, err := readiness.ICalendar(nil, now); err != nil || !bytes.Contains(empty, []byte("END:VCALENDAR")) {
		t.Errorf("%s, %v", empty, err)
	}
	if _, err := in.Calendar(t.Context(), "nowhere", now); !problem.Is(err, problem.NotFound) {
		t.Errorf("%v", err)
	}
}
