package gateway

import (
	"bytes"
	"encoding/json"
	"net/url"
	"regexp"
	"strings"
)

// masked stands where a secret was.
const masked = "***"

// secretName tells names of members and fields whose values are secrets.
var secretName = regexp.MustCompile(`(?i)(password|passwd|passphrase|secret|token|credential|authorization|cookie|csrf|connection-?_?string|[a-z]key|[-_]key|signature|^sig$|^key$|^otp$)`)

// secretText finds secrets in text that has no structure, by what stands
// before them.
var secretText = []struct {
	find    *regexp.Regexp
	instead string
}{
	{regexp.MustCompile(`-----BEGIN [A-Z ]*PRIVATE KEY-----[\s\S]*?(-----END [A-Z ]*PRIVATE KEY-----|$)`), masked},
	{regexp.MustCompile(`slp_[A-Za-z0-9_-]{8,}`), "slp_" + masked},
	{regexp.MustCompile(`(?i)\b(SharedAccessKey|SharedAccessSignature|sig)=[^;&\s"']+`), "${1}=" + masked},
	{regexp.MustCompile(`(?i)\b(bearer|basic)\s+[A-Za-z0-9._~+/=-]{8,}`), "${1} " + masked},
	{regexp.MustCompile(`(?i)((?:password|passwd|passphrase|secret|token|credential|api[_-]?key|private[_-]?key|primary[_-]?key|secondary[_-]?key|access[_-]?key)[a-z]{0,10}\\?["']?\s*[:=]\s*\\?["']?)[^\s"',;&\\]+`), "${1}" + masked},
	{regexp.MustCompile(`(?i)(--?(?:password|passwd|passphrase|secret|token|[a-z-]*key)[ =])\S+`), "${1}" + masked},
	{regexp.MustCompile(`(://[^/\s:@"]*:)[^/\s@"]+@`), "${1}" + masked + "@"},
}

// mask takes secrets out of a text before it is recorded: the values of
// members with such names where it is JSON from its first bracket on, and what
// looks like a secret anywhere.
func mask(text string) string {
	at := strings.IndexAny(text, "{[")
	if at < 0 {
		return maskText(text)
	}
	decoder := json.NewDecoder(strings.NewReader(text[at:]))
	decoder.UseNumber()
	var value any
	if decoder.Decode(&value) != nil || strings.TrimSpace(text[at+int(decoder.InputOffset()):]) != "" {
		return maskText(text)
	}
	changed, found := without(value)
	if !found {
		return maskText(text) // as it was written
	}
	var out bytes.Buffer
	encoder := json.NewEncoder(&out)
	encoder.SetEscapeHTML(false)
	if encoder.Encode(changed) != nil {
		return maskText(text)
	}
	return maskText(text[:at] + strings.TrimSpace(out.String()))
}

// without is a value without secrets, and whether it had any.
func without(value any) (any, bool) {
	found := false
	switch v := value.(type) {
	case map[string]any:
		for name, inner := range v {
			_, object := inner.(map[string]any)
			if secretName.MatchString(name) && inner != nil && !object {
				v[name], found = masked, true
				continue
			}
			changed, had := without(inner)
			v[name], found = changed, found || had
		}
	case []any:
		for i, inner := range v {
			changed, had := without(inner)
			v[i], found = changed, found || had
		}
	}
	return value, found
}

func maskText(text string) string {
	for _, s := range secretText {
		text = s.find.ReplaceAllString(text, s.instead)
	}
	return text
}

// maskForm masks a form, or the query of a URL.
func maskForm(text string) string {
	values, err := url.ParseQuery(text)
	if err != nil {
		return maskText(text)
	}
	for name, all := range values {
		for i := range all {
			if secretName.MatchString(name) && all[i] != "" {
				all[i] = masked
			} else {
				all[i] = mask(all[i])
			}
		}
	}
	// Readable rather than encoded: this is for people.
	var parts []string
	for _, pair := range strings.Split(values.Encode(), "&") {
		if plain, err := url.QueryUnescape(pair); err == nil {
			pair = plain
		}
		parts = append(parts, pair)
	}
	return strings.Join(parts, "&")
}
