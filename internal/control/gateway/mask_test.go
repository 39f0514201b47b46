package gateway

import (
	"encoding/json"
	"net/url"
	"strings"
	"testing"
	"unicode/utf8"
)

// planted is a secret that looks like nothing else.
const planted = "pl4nted-s3cret-value"

// FuzzMask plants a secret under the names and in the forms in which secrets
// come, beside anything else, and looks for it in what would be recorded.
func FuzzMask(f *testing.F) {
	for _, seed := range []string{"", "a", `{"a":1}`, "method reboot", `[{"deep":{"x":"y"}}]`, "\x00\xff", "a=b&c=d", `"`, "{", "é{[", "password", "-----BEGIN PRIVATE KEY-----"} {
		f.Add(seed, uint8(0))
		f.Add(seed, uint8(3))
	}
	names := []string{"password", "primaryKey", "client_secret", "token", "connectionString", "sharedAccessKey", "otp", "apiKey", "Authorization"}
	f.Fuzz(func(t *testing.T, beside string, n uint8) {
		if strings.Contains(beside, planted[:6]) {
			return
		}
		name := names[int(n)%len(names)]
		inside, err := json.Marshal(map[string]any{"beside": beside, name: planted, "deep": []any{map[string]any{name: []string{planted}, "more": beside}}})
		if err != nil {
			t.Fatal(err)
		}
		for what, text := range map[string]string{
			"a document":      mask(string(inside)),
			"a line":          mask("method set " + string(inside)),
			"a form":          maskForm(url.Values{name: {planted}, "beside": {beside}}.Encode()),
			"a form of JSON":  maskForm(url.Values{"body": {string(inside)}}.Encode()),
			"an address":      mask("https://user:" + planted + "@example.com/ " + ascii(beside)),
			"a bearer":        mask("Authorization: Bearer " + planted + "\n" + beside),
			"a connection":    mask("HostName=h;SharedAccessKey=" + planted + ";" + beside),
			"a token of ours": mask("slp_" + planted + " " + beside),
		} {
			if strings.Contains(text, planted) {
				t.Errorf("%s with %q beside it: %q", what, beside, text)
			}
		}
		if utf8.ValidString(beside) && !utf8.ValidString(bounded(mask(beside))) {
			t.Errorf("%q is no text any more", beside)
		}
	})
}

// ascii is what of a text can stand behind an address.
func ascii(text string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return -1
		}
		return r
	}, text)
}
