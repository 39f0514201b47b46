package drift_test

import (
	"encoding/json"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/slipway/slipway/internal/control/drift"
)

var sets = []string{"/tags", "/rules", "/*/tags"}

// alike are pairs that mean the same, however they are written.
var alike = map[string][2]string{
	"key order":                {`{"a":1,"b":{"c":2,"d":3}}`, `{"b":{"d":3,"c":2},"a":1}`},
	"white space":              {"{ \"a\" : [ 1 , 2 ] }", `{"a":[1,2]}`},
	"fraction of nothing":      {`{"n":1}`, `{"n":1.0}`},
	"trailing zeros":           {`{"n":0.10}`, `{"n":0.1}`},
	"exponent":                 {`{"n":1e3}`, `{"n":1000}`},
	"negative exponent":        {`{"n":25e-2}`, `{"n":0.25}`},
	"negative nothing":         {`{"n":-0}`, `{"n":0}`},
	"large whole number":       {`{"n":9007199254740993}`, `{"n":9007199254740993.0}`},
	"minutes":                  {`{"t":"60s"}`, `{"t":"1m"}`},
	"hours in minutes":         {`{"t":"90m"}`, `{"t":"1h30m"}`},
	"hours written out":        {`{"t":"1h"}`, `{"t":"1h0m0s"}`},
	"milliseconds":             {`{"t":"1500ms"}`, `{"t":"1.5s"}`},
	"days":                     {`{"t":"7d"}`, `{"t":"168h"}`},
	"ISO duration":             {`{"t":"PT1M30S"}`, `{"t":"90s"}`},
	"ISO days":                 {`{"t":"P1D"}`, `{"t":"24h"}`},
	"ISO weeks":                {`{"t":"P1W"}`, `{"t":"P7D"}`},
	"thousandths":              {`{"cpu":"100m"}`, `{"cpu":"0.1"}`},
	"binary units":             {`{"m":"1Gi"}`, `{"m":"1024Mi"}`},
	"binary bytes":             {`{"m":"512KiB"}`, `{"m":"524288"}`},
	"decimal units":            {`{"m":"1.5GB"}`, `{"m":"1500MB"}`},
	"kilo, small and large":    {`{"m":"2k"}`, `{"m":"2K"}`},
	"per cent":                 {`{"s":"5%"}`, `{"s":"0.05"}`},
	"null is nothing":          {`{"a":1,"b":null}`, `{"a":1}`},
	"empty object is nothing":  {`{"a":1,"b":{}}`, `{"a":1}`},
	"nothing within nothing":   {`{"a":1,"b":{"c":{"d":null}}}`, `{"a":1}`},
	"set order":                {`{"tags":["x","y","z"]}`, `{"tags":["z","x","y"]}`},
	"set of objects":           {`{"rules":[{"name":"a","v":1},{"name":"b","v":2}]}`, `{"rules":[{"v":2,"name":"b"},{"v":1.0,"name":"a"}]}`},
	"set below any member":     {`{"p":{"tags":["1","2"]}}`, `{"p":{"tags":["2","1"]}}`},
	"set with other spellings": {`{"tags":["1m","10.0.0.0/8"]}`, `{"tags":["10.0.0.0/8","60s"]}`},
	"JSON in text":             {`{"j":"{\"a\":1,\"b\":[1,2]}"}`, `{"j":"{ \"b\": [1, 2.0], \"a\": 1 }"}`},
	"JSON list in text":        {`{"j":"[{\"a\":null}]"}`, `{"j":"[ {} ]"}`},
	"JSON in JSON in text":     {`{"j":"{\"k\":\"{\\\"t\\\":\\\"60s\\\"}\"}"}`, `{"j":"{\"k\":\"{\\\"t\\\":\\\"1m\\\"}\"}"}`},
	"network with host bits":   {`{"c":"10.0.0.0/8"}`, `{"c":"10.1.2.3/8"}`},
	"single address":           {`{"c":"192.0.2.1"}`, `{"c":"192.0.2.1/32"}`},
	"IPv6 written out":         {`{"c":"2001:db8:0:0:0:0:0:1"}`, `{"c":"2001:db8::1"}`},
	"IPv6 letters":             {`{"c":"2001:DB8::A/64"}`, `{"c":"2001:db8::/64"}`},
	"IPv4 in IPv6":             {`{"c":"::ffff:192.0.2.1"}`, `{"c":"192.0.2.1"}`},
	"IPv6 and port":            {`{"c":"[2001:db8:0::1]:443"}`, `{"c":"[2001:db8::1]:443"}`},
	"host letters":             {`{"u":"https://Hook.Example.COM/in"}`, `{"u":"https://hook.example.com/in"}`},
	"scheme letters":           {`{"u":"HTTPS://example.com/a"}`, `{"u":"https://example.com/a"}`},
	"usual port":               {`{"u":"https://example.com:443/a"}`, `{"u":"https://example.com/a"}`},
	"usual port of http":       {`{"u":"http://example.com:80"}`, `{"u":"http://example.com"}`},
	"usual port of postgres":   {`{"u":"postgres://db.example.com:5432/x"}`, `{"u":"postgres://db.example.com/x"}`},
	"empty path":               {`{"u":"https://example.com"}`, `{"u":"https://example.com/"}`},
	"escapes":                  {`{"u":"https://example.com/%7Euser"}`, `{"u":"https://example.com/~user"}`},
	"order of parameters":      {`{"u":"https://example.com/?b=2&a=1"}`, `{"u":"https://example.com/?a=1&b=2"}`},
	"dot after the host":       {`{"u":"https://example.com./a"}`, `{"u":"https://example.com/a"}`},
	"times in zones":           {`{"t":"2026-11-28T12:00:00Z"}`, `{"t":"2026-11-28T13:00:00+01:00"}`},
	"times with fractions":     {`{"t":"2026-11-28T12:00:00.000Z"}`, `{"t":"2026-11-28T12:00:00Z"}`},
	"letters of a hash":        {`{"d":"ABCDEF0123456789ABCDEF0123456789ABCDEF0123456789ABCDEF0123456789"}`, `{"d":"abcdef0123456789abcdef0123456789abcdef0123456789abcdef0123456789"}`},
	"letters of a UUID":        {`{"d":"6BA7B810-9DAD-11D1-80B4-00C04FD430C8"}`, `{"d":"6ba7b810-9dad-11d1-80b4-00c04fd430c8"}`},
	"line ends":                {`{"s":"a\r\nb\r\n"}`, `{"s":"a\nb"}`},
	"newline at the end":       {`{"s":"a\n"}`, `{"s":"a"}`},
	"escaped letters":          {`{"s":"\u00e4"}`, `{"s":"ä"}`},
	"nothing at all":           {`null`, `{}`},
}

// unlike are pairs that differ, each in so many places.
var unlike = map[string]struct {
	a, b string
	want []string // class and path
}{
	"a value":                 {`{"a":1}`, `{"a":2}`, []string{"changed /a"}},
	"a large number":          {`{"n":9007199254740993}`, `{"n":9007199254740992}`, []string{"changed /n"}},
	"a small difference":      {`{"n":0.1}`, `{"n":0.1000000000000000001}`, []string{"changed /n"}},
	"a type":                  {`{"n":5}`, `{"n":"5"}`, []string{"changed /n"}},
	"truth in a text":         {`{"n":true}`, `{"n":"true"}`, []string{"changed /n"}},
	"truth":                   {`{"n":true}`, `{"n":false}`, []string{"changed /n"}},
	"false is not nothing":    {`{"n":false}`, `{}`, []string{"missing /n"}},
	"zero is not nothing":     {`{}`, `{"n":0}`, []string{"unmanaged /n"}},
	"no text is not nothing":  {`{"n":""}`, `{}`, []string{"missing /n"}},
	"an empty list is said":   {`{"allow":[]}`, `{}`, []string{"missing /allow"}},
	"gone":                    {`{"a":1,"b":2}`, `{"a":1}`, []string{"missing /b"}},
	"not declared":            {`{"a":1}`, `{"a":1,"b":{"c":2}}`, []string{"unmanaged /b"}},
	"deep":                    {`{"a":{"b":{"c":1}}}`, `{"a":{"b":{"c":2}}}`, []string{"changed /a/b/c"}},
	"several":                 {`{"a":1,"b":2,"c":3}`, `{"a":2,"c":3,"d":4}`, []string{"changed /a", "missing /b", "unmanaged /d"}},
	"order where it counts":   {`{"steps":["x","y"]}`, `{"steps":["y","x"]}`, []string{"changed /steps/0", "changed /steps/1"}},
	"one of a set":            {`{"tags":["x","y"]}`, `{"tags":["y","z"]}`, []string{"changed /tags/1"}},
	"twice in a set":          {`{"tags":["x","x","y"]}`, `{"tags":["x","y","y"]}`, []string{"changed /tags/2"}},
	"less of a set":           {`{"tags":["x","y"]}`, `{"tags":["y"]}`, []string{"missing /tags/1"}},
	"an item by its name":     {`{"rules":[{"name":"a","v":1},{"name":"b","v":2}]}`, `{"rules":[{"name":"b","v":3},{"name":"a","v":1}]}`, []string{"changed /rules/1/v"}},
	"a duration":              {`{"t":"60s"}`, `{"t":"61s"}`, []string{"changed /t"}},
	"minutes are not months":  {`{"t":"PT1M"}`, `{"t":"P1M"}`, []string{"changed /t"}},
	"a unit":                  {`{"m":"1Gi"}`, `{"m":"1G"}`, []string{"changed /m"}},
	"a network":               {`{"c":"10.0.0.0/8"}`, `{"c":"10.0.0.0/9"}`, []string{"changed /c"}},
	"an address":              {`{"c":"192.0.2.1"}`, `{"c":"192.0.2.1/31"}`, []string{"changed /c"}},
	"a path":                  {`{"u":"https://example.com/a"}`, `{"u":"https://example.com/a/"}`, []string{"changed /u"}},
	"letters of a path":       {`{"u":"https://example.com/A"}`, `{"u":"https://example.com/a"}`, []string{"changed /u"}},
	"a port":                  {`{"u":"https://example.com:8443"}`, `{"u":"https://example.com"}`, []string{"changed /u"}},
	"a scheme":                {`{"u":"http://example.com"}`, `{"u":"https://example.com"}`, []string{"changed /u"}},
	"a parameter":             {`{"u":"https://example.com/?a=1"}`, `{"u":"https://example.com/?a=2"}`, []string{"changed /u"}},
	"order of one parameter":  {`{"u":"https://example.com/?a=1&a=2"}`, `{"u":"https://example.com/?a=2&a=1"}`, []string{"changed /u"}},
	"an escaped slash":        {`{"u":"https://example.com/a%2Fb"}`, `{"u":"https://example.com/a/b"}`, []string{"changed /u"}},
	"a moment":                {`{"t":"2026-11-28T12:00:00Z"}`, `{"t":"2026-11-28T12:00:00+01:00"}`, []string{"changed /t"}},
	"letters of a text":       {`{"s":"Admin"}`, `{"s":"admin"}`, []string{"changed /s"}},
	"space in a text":         {`{"s":"a b"}`, `{"s":"a  b"}`, []string{"changed /s"}},
	"a version":               {`{"v":"1.10"}`, `{"v":"1.1"}`, []string{"changed /v"}},
	"addresses in a range":    {`{"c":"192.168.1.10/24"}`, `{"c":"192.168.1.11/24"}`, []string{"changed /c"}},
	"a version is no number":  {`{"v":"1.10"}`, `{"v":"1.1.0"}`, []string{"changed /v"}},
	"JSON in text":            {`{"j":"{\"a\":1}"}`, `{"j":"{\"a\":2}"}`, []string{"changed /j"}},
	"a list is no object":     {`{"a":[]}`, `{"a":{}}`, []string{"missing /a"}},
	"a slash in a name":       {`{"a/b":{"c~d":1}}`, `{"a/b":{"c~d":2}}`, []string{"changed /a~1b/c~0d"}},
	"nothing":                 {`{"a":1}`, `null`, []string{"missing "}},
	"a number that is no sum": {`{"n":1e400}`, `{"n":1e399}`, []string{"changed /n"}},
}

func compare(t *testing.T, a, b string) (all []string) {
	t.Helper()
	changes, err := drift.Compare(json.RawMessage(a), json.RawMessage(b), sets)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range changes {
		all = append(all, string(c.Class)+" "+c.Path)
	}
	return all
}

func TestValuesThatMeanTheSameNeverAlarm(t *testing.T) {
	for name, pair := range alike {
		for range 2 {
			if found := compare(t, pair[0], pair[1]); len(found) > 0 {
				t.Errorf("%s: %s and %s: %v", name, pair[0], pair[1], found)
			}
			pair[0], pair[1] = pair[1], pair[0]
		}
	}
}

func TestEveryDifferenceIsFound(t *testing.T) {
	for name, c := range unlike {
		if found := compare(t, c.a, c.b); strings.Join(found, ",") != strings.Join(c.want, ",") {
			t.Errorf("%s: %s and %s: %q, and not %q", name, c.a, c.b, found, c.want)
		}
		if len(compare(t, c.b, c.a)) == 0 {
			t.Errorf("%s: not found the other way round", name)
		}
	}
}

// value draws a JSON value.
func value(depth int) *rapid.Generator[any] {
	return rapid.Custom(func(t *rapid.T) any {
		kinds := 4
		if depth > 0 {
			kinds = 6
		}
		switch rapid.IntRange(0, kinds).Draw(t, "kind") {
		case 0:
			return nil
		case 1:
			return rapid.Bool().Draw(t, "bool")
		case 2:
			return json.Number(rapid.SampledFrom([]string{"0", "1", "1.0", "1e2", "100", "-3.5"}).Draw(t, "number"))
		case 3, 4:
			return rapid.SampledFrom([]string{"", "a", "60s", "1m", "10.0.0.1/8", "https://example.com", "{\"a\":1}", "1Gi"}).Draw(t, "text")
		case 5:
			return rapid.SliceOfN(value(depth-1), 0, 3).Draw(t, "list")
		}
		members := map[string]any{}
		for _, key := range rapid.SliceOfN(rapid.SampledFrom([]string{"a", "b", "tags"}), 0, 3).Draw(t, "keys") {
			members[key] = value(depth-1).Draw(t, key)
		}
		return members
	})
}

// A value is the same as itself; and what is the same has no difference, either
// way round.
func TestSameAndCompareAgree(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := value(3).Draw(t, "a"), value(3).Draw(t, "b")
		if !drift.Same(a, a) {
			t.Fatalf("%v is not the same as itself", a)
		}
		if drift.Same(a, b) != drift.Same(b, a) {
			t.Fatalf("%v and %v are the same one way only", a, b)
		}
		one, _ := json.Marshal(a)
		other, _ := json.Marshal(b)
		found, err := drift.Compare(one, other, nil)
		if err != nil || drift.Same(a, b) != (len(found) == 0) {
			t.Fatalf("%s and %s: same is %v, and %d differences: %v", one, other, drift.Same(a, b), len(found), err)
		}
	})
}

func FuzzCompare(f *testing.F) {
	for _, pair := range alike {
		f.Add([]byte(pair[0]), []byte(pair[1]))
	}
	f.Fuzz(func(t *testing.T, a, b []byte) {
		if _, err := drift.Compare(a, b, sets); err != nil {
			t.Error(err)
		}
		if found, _ := drift.Compare(a, a, sets); len(found) > 0 {
			t.Errorf("%q differs from itself: %v", a, found)
		}
	})
}
