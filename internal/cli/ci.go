package cli

import (
	"encoding/xml"
	"fmt"
	"os"
	"strings"

	"github.com/slipway/slipway/internal/control/gate"
	"github.com/slipway/slipway/internal/control/promotion"
)

// tellCI says what became of a promotion where CI systems show it: an annotation
// and a summary on GitHub, and anywhere a JUnit report, of which each gate is a
// test.
func (a *app) tellCI(d promotion.Dossier, report string) error {
	if a.env("GITHUB_ACTIONS") == "true" {
		if err := a.print("%s\n", annotation(d)); err != nil {
			return err
		}
	}
	if file := a.env("GITHUB_STEP_SUMMARY"); file != "" {
		if err := appendTo(file, summary(d)); err != nil {
			return fmt.Errorf("GITHUB_STEP_SUMMARY: %w", err)
		}
	}
	if report == "" {
		return nil
	}
	text, err := xml.MarshalIndent(reportOf(d), "", "  ")
	if err == nil {
		err = os.WriteFile(report, append([]byte(xml.Header), append(text, '\n')...), 0o644)
	}
	return err
}

func appendTo(file, text string) error {
	f, err := os.OpenFile(file, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	if _, err := f.WriteString(text); err != nil {
		_ = f.Close() // what went wrong is known already
		return err
	}
	return f.Close()
}

// reasonsOf are why a promotion stands where it does.
func reasonsOf(d promotion.Dossier) string {
	if d.Outcome != "" {
		return d.Outcome
	}
	var all []string
	for _, b := range d.Blocks {
		all = append(all, b.Reason)
	}
	if len(all) == 0 {
		return string(d.State)
	}
	return strings.Join(all, "; ")
}

var (
	commandText  = strings.NewReplacer("%", "%25", "\r", "%0D", "\n", "%0A")
	commandField = strings.NewReplacer("%", "%25", "\r", "%0D", "\n", "%0A", ":", "%3A", ",", "%2C")
)

// annotation is a GitHub workflow command.
func annotation(d promotion.Dossier) string {
	level := "error"
	switch {
	case d.State == promotion.Succeeded:
		level = "notice"
	case !d.State.Over() && !halted(d):
		level = "warning"
	}
	title := fmt.Sprintf("%s to %s: %s", d.Release, d.Environment, d.State)
	return fmt.Sprintf("::%s title=%s::%s", level, commandField.Replace(clean(title)), commandText.Replace(clean(reasonsOf(d))))
}

// cell is text for a table of Markdown.
func cell(text string) string {
	return strings.NewReplacer("|", "\\|", "\n", " ", "<", "&lt;").Replace(clean(text))
}

// summary is a promotion as Markdown.
func summary(d promotion.Dossier) string {
	var b strings.Builder
	fmt.Fprintf(&b, "### %s to %s: %s\n\n%s\n", cell(d.Release), cell(d.Environment), d.State, cell(reasonsOf(d)))
	if all := append(d.Gates[:len(d.Gates):len(d.Gates)], d.Verdicts...); len(all) > 0 {
		b.WriteString("\n| gate | verdict | why |\n|---|---|---|\n")
		for _, g := range all {
			fmt.Fprintf(&b, "| %s | %s | %s |\n", cell(g.Gate), g.Verdict, cell(g.Reason))
		}
	}
	if d.View != nil && len(d.View.Details) > 0 {
		b.WriteString("\n| stamp | state | updated | pending | failed | unreachable |\n|---|---|---|---|---|---|\n")
		for _, s := range d.View.Details {
			n := s.Reached
			fmt.Fprintf(&b, "| %s | %s | %d | %d | %d | %d |\n", cell(s.Stamp), s.State, n.Updated, n.Pending, n.Failures(), n.Unreachable)
		}
	}
	return b.String() + "\n"
}

// suite is a JUnit report.
type suite struct {
	XMLName  xml.Name   `xml:"testsuite"`
	Name     string     `xml:"name,attr"`
	Tests    int        `xml:"tests,attr"`
	Failures int        `xml:"failures,attr"`
	Cases    []testCase `xml:"testcase"`
}

type testCase struct {
	Class   string   `xml:"classname,attr"`
	Name    string   `xml:"name,attr"`
	Failure *failure `xml:"failure"`
}

type failure struct {
	Message string `xml:"message,attr"`
}

// reportOf makes a test of each gate, and one of the promotion as a whole.
func reportOf(d promotion.Dossier) suite {
	s := suite{Name: d.Release + " to " + d.Environment}
	add := func(name string, well bool, why string) {
		one := testCase{Class: "slipway." + d.Environment, Name: name}
		if s.Tests++; !well {
			s.Failures++
			one.Failure = &failure{why}
		}
		s.Cases = append(s.Cases, one)
	}
	for _, results := range [][]gate.Result{d.Gates, d.Verdicts} {
		for _, g := range results {
			add("gate "+g.Gate, g.Verdict.Lets(), string(g.Verdict)+": "+g.Reason)
		}
	}
	add("promotion", d.State == promotion.Succeeded, string(d.State)+": "+reasonsOf(d))
	return s
}
