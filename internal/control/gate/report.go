package gate

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"errors"
	"io"
	"strconv"

	"github.com/slipway/slipway/internal/problem"
)

// The limits of a report of tests.
const (
	MaxReports  = 16 << 20 // bytes of all files of an upload
	maxTests    = 200_000
	maxDepth    = 32
	keptFailed  = 50 // failed tests that are kept by name
	maxTestName = 300
	maxMessage  = 500
)

// Summary counts the tests of a suite.
type Summary struct {
	Tests   int     `json:"tests" doc:"That ran"`
	Failed  int     `json:"failed"`
	Skipped int     `json:"skipped"`
	Seconds float64 `json:"seconds,omitempty"`
	// Failures are the first of those that failed.
	Failures []FailedTest `json:"failures,omitempty" doc:"The first of those that failed"`
}

// FailedTest is a test that failed.
type FailedTest struct {
	Name    string `json:"name"`
	Message string `json:"message,omitempty"`
}

func (s *Summary) add(other Summary) {
	s.Tests, s.Failed, s.Skipped, s.Seconds = s.Tests+other.Tests, s.Failed+other.Failed, s.Skipped+other.Skipped, s.Seconds+other.Seconds
	for _, f := range other.Failures {
		s.fail(f)
	}
}

// fail keeps a failed test by name, if it is among the first.
func (s *Summary) fail(f FailedTest) {
	if len(s.Failures) < keptFailed {
		s.Failures = append(s.Failures, FailedTest{shortened(f.Name, maxTestName), shortened(f.Message, maxMessage)})
	}
}

// seconds adds a duration that a report tells, if it is one.
func (s *Summary) seconds(n float64) {
	if n > 0 && n < 1e9 {
		s.Seconds += n
	}
}

// ReadReport reads a report of tests: XML as JUnit writes it, or JSON in the
// Common Test Report Format.
func ReadReport(data []byte) (Summary, error) {
	data = bytes.TrimPrefix(data, []byte("\ufeff"))
	switch trimmed := bytes.TrimSpace(data); {
	case len(data) > MaxReports:
		return Summary{}, problem.New(problem.TooLarge, "a report has at most %d bytes, not %d", MaxReports, len(data))
	case len(trimmed) > 0 && trimmed[0] == '<':
		return readJUnit(trimmed)
	case len(trimmed) > 0 && trimmed[0] == '{':
		return readCTRF(trimmed)
	}
	return Summary{}, problem.New(problem.Invalid, "is neither JUnit's XML nor JSON of the Common Test Report Format")
}

// ctrf is what counts of a report in the Common Test Report Format.
type ctrf struct {
	Results *struct {
		Summary struct {
			Tests  int `json:"tests"`
			Failed int `json:"failed"`
		} `json:"summary"`
		Tests []struct {
			Name     string  `json:"name"`
			Status   string  `json:"status"`
			Duration float64 `json:"duration"` // in milliseconds
			Message  string  `json:"message"`
		} `json:"tests"`
	} `json:"results"`
}

func readCTRF(data []byte) (s Summary, err error) {
	var report ctrf
	if err := json.Unmarshal(data, &report); err != nil {
		return s, problem.New(problem.Invalid, "is no report of the Common Test Report Format: %s", err)
	}
	if report.Results == nil {
		return s, problem.New(problem.Invalid, "is no report of the Common Test Report Format: it has no results")
	}
	if len(report.Results.Tests) > maxTests {
		return s, problem.New(problem.TooLarge, "a report has at most %d tests, not %d", maxTests, len(report.Results.Tests))
	}
	for _, test := range report.Results.Tests {
		s.seconds(test.Duration / 1000)
		switch test.Status {
		case "passed":
			s.Tests++
		case "skipped", "pending":
			s.Skipped++
		default: // failed, other, and what nobody knows
			s.Tests, s.Failed = s.Tests+1, s.Failed+1
			s.fail(FailedTest{test.Name, test.Message})
		}
	}
	// A summary that tells of more failures than there are tests to see is
	// believed; one that tells of more successes is not.
	s.Failed = max(s.Failed, report.Results.Summary.Failed)
	return s, nil
}

// junit reads JUnit's XML, element by element.
type junit struct {
	Summary
	depth, cases int
	declared     int // failures and errors, as the outermost element says
	inCase       bool
	failed       bool // the test being read
	skipped      bool
	failure      FailedTest
}

func readJUnit(data []byte) (Summary, error) {
	decoder := xml.NewDecoder(bytes.NewReader(data))
	var j junit
	for {
		token, err := decoder.RawToken()
		if errors.Is(err, io.EOF) {
			break
		}
		if err == nil {
			err = j.take(token)
		}
		if err != nil {
			line, _ := decoder.InputPos()
			return Summary{}, problem.New(problem.Invalid, "line %d: is no report as JUnit writes them: %s", line, err)
		}
	}
	if j.depth != 0 {
		return Summary{}, problem.New(problem.Invalid, "the report ends in the middle")
	}
	j.Failed = max(j.Failed, j.declared)
	return j.Summary, nil
}

func (j *junit) take(token xml.Token) error {
	switch token := token.(type) {
	case xml.Directive:
		return errors.New("it declares a document type, which no report needs")
	case xml.StartElement:
		return j.begin(token)
	case xml.EndElement:
		j.end(token.Name.Local)
	}
	if j.depth < 0 {
		return errors.New("an element ends that never began")
	}
	return nil
}

func (j *junit) begin(e xml.StartElement) error {
	j.depth++
	name := e.Name.Local
	switch {
	case j.depth > maxDepth:
		return errors.New("its elements are nested more than " + strconv.Itoa(maxDepth) + " deep")
	case j.depth == 1 && name != "testsuites" && name != "testsuite":
		return errors.New("it begins with " + name + ", not with testsuites or testsuite")
	case j.depth == 1:
		j.declared = number(e, "failures") + number(e, "errors")
	case name == "testcase" && j.inCase:
		return errors.New("a testcase is inside another")
	case name == "testcase":
		if j.cases++; j.cases > maxTests {
			return errors.New("it has more than " + strconv.Itoa(maxTests) + " tests")
		}
		j.inCase, j.failed, j.failure = true, false, FailedTest{Name: testName(e)}
		j.skipped = attribute(e, "status") == "notrun" || attribute(e, "status") == "disabled"
		if seconds, err := strconv.ParseFloat(attribute(e, "time"), 64); err == nil {
			j.seconds(seconds)
		}
	case name == "skipped" && j.inCase:
		j.skipped = true
	case name == "failure" || name == "error":
		j.failsWith(attribute(e, "message"))
	}
	return nil
}

// failsWith notes a failure: of the test being read, or, outside of any, of
// the suite as a whole.
func (j *junit) failsWith(message string) {
	if j.inCase {
		j.failed, j.failure.Message = true, message
		return
	}
	j.Failed++
	j.fail(FailedTest{Name: "the suite itself", Message: message})
}

func (j *junit) end(name string) {
	j.depth--
	if name != "testcase" || !j.inCase {
		return
	}
	j.inCase = false
	switch {
	case j.failed:
		j.Tests, j.Failed = j.Tests+1, j.Failed+1
		j.fail(j.failure)
	case j.skipped:
		j.Skipped++
	default:
		j.Tests++
	}
}

func attribute(e xml.StartElement, name string) string {
	for _, a := range e.Attr {
		if a.Name.Local == name {
			return a.Value
		}
	}
	return ""
}

func number(e xml.StartElement, name string) int {
	n, err := strconv.Atoi(attribute(e, name))
	if err != nil || n < 0 || n > maxTests {
		return 0
	}
	return n
}

func testName(e xml.StartElement) string {
	name := attribute(e, "name")
	if class := attribute(e, "classname"); class != "" {
		name = class + "." + name
	}
	return name
}
