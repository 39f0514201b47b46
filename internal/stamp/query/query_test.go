package query

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// Facts are a device in memory.
type Facts struct {
	DeviceID, Status, LastActivity, Enrollment string
	Connected                                  bool
	Tags, Desired, Reported                    map[string]any
}

func (f Facts) Lookup(parts []string) (any, bool) {
	switch parts[0] {
	case "deviceId":
		return f.DeviceID, true
	case "status":
		return f.Status, true
	case "enrollment":
		return f.Enrollment, true
	case "lastActivityTime":
		return f.LastActivity, true
	case "connectionState":
		if f.Connected {
			return "Connected", true
		}
		return "Disconnected", true
	case "version":
		return json.Number("3"), true
	case "tags":
		return Dig(f.Tags, parts[1:])
	case "desired":
		return Dig(f.Desired, parts[1:])
	case "reported":
		return Dig(f.Reported, parts[1:])
	}
	return nil, false
}

var facts = Facts{
	DeviceID: "sensor-1", Status: "enabled", Connected: true, LastActivity: "2026-11-21T10:00:00.000000Z", Enrollment: "line-7",
	Tags:     map[string]any{"batch": "7", "n": json.Number("3"), "odd key": true, "deep": map[string]any{"er": json.Number("1.5")}},
	Reported: map[string]any{"selfTest": "ok", "none": nil},
}

var cases = []struct {
	text string
	want bool
}{
	{"tags.batch='7'", true},
	{"tags.batch = 7", false},
	{"tags.batch != 7", false},
	{"tags.missing != 'x'", false},
	{"NOT tags.missing = 'x'", true},
	{"tags.n + 1 >= 4 AND tags.deep.er < 2", true},
	{"tags.n % 2 = 1", true},
	{"tags.n / 0 = 1 or tags.n / 0 != 1", false},
	{"tags['odd key'] = true", true},
	{"tags.[[odd key]] = TRUE", true},
	{"properties.reported.selfTest = \"ok\" and connectionState = 'Connected'", true},
	{"deviceId IN ['a', 'sensor-1']", true},
	{"deviceId NIN ['a']", true},
	{"tags.missing NIN ['a']", false},
	{"tags.missing + 1 NIN ['a', 1]", false},
	{"tags.n / 0 NIN [1]", false},
	{"STARTSWITH(deviceId, 'sens') AND CONTAINS(tags.batch, '7')", true},
	{"CONTAINS(tags.n, '3')", false},
	{"IS_DEFINED(tags.batch) AND NOT IS_DEFINED(tags.batch.x)", true},
	{"IS_NULL(properties.reported.none) AND IS_NUMBER(tags.n)", true},
	{"lastActivityTime > '2026-11-21T09:00:00Z'", true},
	{"lastActivityTime > 1", false},
	{"version = 3 AND version < 4.5", true},
	{"tags['odd key'] AND NOT tags.batch", true},
	{"ENDSWITH(deviceId, '-1') AND NOT ENDS_WITH(deviceId, 'x-sensor-1') AND ENDS_WITH(tags.batch, '')", true},
	{"ENDS_WITH(tags.missing, '') OR STARTS_WITH(tags.missing, '') OR CONTAINS(tags.missing, '')", false},
	{"IS_PRIMITIVE(tags.n) AND IS_OBJECT(tags.deep) AND NOT IS_ARRAY(tags.deep)", true},
	{"tags.n IN ['3', 3, true]", true},
	{"tags.n NIN ['3', true]", true},
	{"tags.batch NIN []", true},
	{"(1 = 1) = true", true},
	{"(true)", true},
	{"-1 < tags.n", true},
	{"status = 'enabled' AND (tags.batch = '8' OR tags.batch = '7')", true},
}

func TestFaultsNameTheirPlace(t *testing.T) {
	for text, want := range map[string]string{
		"":                                      "column 1: expected",
		"tags.batch = ":                         "column 14: expected",
		"tags.batch + 1":                        "compare it",
		"'x'":                                   "compare it",
		"LENGTH(tags.batch) = 1":                "a function of device conditions",
		"deviceId.x = 1":                        "no parts of its own",
		"batch = 1":                             "column 1: expected tags",
		"tags.a = 1 tags.b":                     "column 12: expected AND",
		"tags.a = 'x":                           "no closing",
		"tags.a =\n $":                          "line 2, column 2",
		"1 AND 2":                               "expected a comparison",
		"tags.a IN [tags.b]":                    "expected a constant",
		"tags['a\"b'] = 1":                      "quotation mark",
		strings.Repeat("(", 100):                "at most 32 deep",
		strings.Repeat("NOT ", 100) + "1=1":     "at most 32 deep",
		strings.Repeat("1=1 AND ", 200) + "1=1": "at most 256 parts",
		strings.Repeat("x", 9000):               "at most 8192 bytes",
	} {
		_, err := Parse(text)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.40q: %v, want %q", text, err, want)
		}
	}
}

var columns = Columns{
	Fields: map[string]string{
		"deviceId": "id", "status": "status", "lastActivityTime": "active", "enrollment": "enrollment", "version": "3",
		"connectionState": "(CASE WHEN connected THEN 'Connected' ELSE 'Disconnected' END)",
	},
	Documents: map[string]string{"tags": "tags", "desired": "desired", "reported": "reported"},
}

func randomValue(t *rapid.T) any {
	return rapid.SampledFrom([]any{nil, true, false, json.Number("0"), json.Number("1"), json.Number("2.5"), json.Number("-3"), "a", "ab", "", "é'x", []any{json.Number("1")}, map[string]any{"x": json.Number("1")}}).Draw(t, "value")
}

func randomDocument(t *rapid.T) map[string]any {
	d := map[string]any{}
	for _, key := range rapid.SliceOfDistinct(rapid.SampledFrom([]string{"a", "b", "c d", "é"}), func(s string) string { return s }).Draw(t, "keys") {
		d[key] = randomValue(t)
	}
	return d
}

func randomOperand(t *rapid.T, depth int) string {
	simple := []string{"tags.a", "tags.b", "tags['c d']", "tags.é", "properties.reported.a", "properties.desired.a.x", "deviceId", "status", "connectionState", "1", "2.5", "-3", "'a'", "''", `'\u00e9\'x'`, "true", "false", "null"}
	if depth > 0 && rapid.IntRange(0, 3).Draw(t, "deeper") == 0 {
		return "(" + randomOperand(t, depth-1) + " " + rapid.SampledFrom([]string{"+", "-", "*", "/", "%"}).Draw(t, "op") + " " + randomOperand(t, depth-1) + ")"
	}
	return rapid.SampledFrom(simple).Draw(t, "operand")
}

func randomCondition(t *rapid.T, depth int) string {
	switch choice := rapid.IntRange(0, 6).Draw(t, "kind"); {
	case depth > 0 && choice == 0:
		return "(" + randomCondition(t, depth-1) + " AND " + randomCondition(t, depth-1) + ")"
	case depth > 0 && choice == 1:
		return "(" + randomCondition(t, depth-1) + " OR " + randomCondition(t, depth-1) + ")"
	case depth > 0 && choice == 2:
		return "NOT " + randomCondition(t, depth-1)
	case choice == 3:
		return fmt.Sprintf("%s %s ['a', 1, true]", randomOperand(t, 1), rapid.SampledFrom([]string{"IN", "NIN"}).Draw(t, "in"))
	case choice == 4:
		return rapid.SampledFrom([]string{"IS_DEFINED(tags.a)", "IS_NULL(tags.b)", "IS_STRING(tags.a)", "IS_BOOL(tags.a)", "STARTSWITH(tags.a, 'a')", "ENDS_WITH(tags.b, tags.a)", "IS_PRIMITIVE(tags.b)", "CONTAINS(tags.b, tags.a)", "tags.a", "tags.b"}).Draw(t, "call")
	}
	return randomOperand(t, 2) + " " + rapid.SampledFrom([]string{"=", "!=", "<", "<=", ">", ">="}).Draw(t, "cmp") + " " + randomOperand(t, 2)
}

func FuzzParse(f *testing.F) {
	for _, c := range cases {
		f.Add(c.text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		condition, err := Parse(text)
		if err != nil {
			return
		}
		condition.Eval(facts)
		again, err := Parse(condition.String())
		if err != nil || again.String() != condition.String() {
			t.Errorf("%q prints as %q: %v", text, condition, err)
		}
	})
}
