package cli

import (
	"encoding/xml"
	"strings"
	"testing"

	"github.com/slipway/slipway/internal/control/gate"
	"github.com/slipway/slipway/internal/control/promotion"
)

// TestCIIsToldWithoutBeingCommanded puts what others wrote into the forms of CI
// systems, where it must stay text.
func TestCIIsToldWithoutBeingCommanded(t *testing.T) {
	d := promotion.Dossier{Promotion: promotion.Promotion{
		Release: "v1,\n::stop-commands::x", Environment: "production", State: promotion.Failed, Outcome: "50% of\r\n::set-output name=a::b | <img>",
		Gates: []gate.Result{{Gate: "a|b", Verdict: gate.Fail, Reason: "<script>\n|"}, {Gate: "c", Verdict: gate.Warn, Reason: "no data"}},
	}}
	line := annotation(d)
	if strings.ContainsAny(line, "\r\n") || !strings.HasPrefix(line, "::error title=v1%2C") || !strings.Contains(line, "::50%25 of") {
		t.Errorf("%q", line)
	}
	text := summary(d)
	if strings.Contains(text, "<script>") || strings.Contains(text, "<img>") || !strings.Contains(text, `| a\|b | fail | &lt;script> \| |`) {
		t.Errorf("%s", text)
	}
	report, err := xml.Marshal(reportOf(d))
	if err != nil {
		t.Fatal(err)
	}
	var back suite
	if err := xml.Unmarshal(report, &back); err != nil || back.Tests != 3 || back.Failures != 2 || back.Cases[1].Failure != nil {
		t.Errorf("%v\n%s", err, report)
	}
}
