package trail

import (
	"regexp"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// The most that a line says: of its message, of one value, and how many values.
const (
	maxMessage = 2000
	maxValue   = 1000
	maxMore    = 32
)

// kept stands where a secret was.
const kept = "(kept to itself)"

// secretName reports whether what an attribute holds is a secret by its name.
func secretName(name string) bool {
	name = strings.ToLower(name)
	for _, word := range []string{"password", "secret", "token", "authorization", "cookie", "credential", "privatekey", "sharedaccesskey"} {
		if strings.Contains(name, word) {
			return true
		}
	}
	return false
}

// secrets are what they look like, wherever they stand.
var secrets = []struct {
	pattern *regexp.Regexp
	instead string
}{
	{regexp.MustCompile(`\bsl[pj]_[A-Za-z0-9_-]{8,}`), kept},                                     // tokens of ours
	{regexp.MustCompile(`(?i)\b(bearer|basic)\s+[A-Za-z0-9._~+/=-]{8,}`), "$1 " + kept},          // as HTTP sends them
	{regexp.MustCompile(`(?i)\b(sig|sharedaccesskey|password|secret)=[^&;\s"']+`), "$1=" + kept}, // shared access signatures, connection strings
	{regexp.MustCompile(`://([^/\s:@]*):[^/\s@]+@`), "://$1:" + kept + "@"},                      // in URLs
	{regexp.MustCompile(`-----BEGIN [A-Z ]*PRIVATE KEY-----[^-]*`), kept},
}

// worth are what every secret that is known by its looks has some of, so that
// most texts need not be looked at.
var worth = []string{"sl", "earer", "asic", "=", "@", "PRIVATE"}

// Plain is a text as a line may have it: without secrets, at most so many bytes
// long, and every character that could drive a terminal, begin another line or
// turn text around written out instead.
func Plain(text string, most int) string {
	for _, mark := range worth {
		if strings.Contains(text, mark) {
			for _, s := range secrets {
				text = s.pattern.ReplaceAllString(text, s.instead)
			}
			break
		}
	}
	if len(text) > most {
		cut := most
		for cut > 0 && !utf8.RuneStart(text[cut]) {
			cut--
		}
		text = text[:cut] + "…"
	}
	for _, r := range text {
		if r == utf8.RuneError || !unicode.IsPrint(r) {
			return written(text)
		}
	}
	return text
}

func written(text string) string {
	var b strings.Builder
	for i, r := range text {
		switch {
		case r == '\n':
			b.WriteString(`\n`)
		case r == '\t':
			b.WriteString(`\t`)
		case r == '\r':
			b.WriteString(`\r`)
		case r == utf8.RuneError && !strings.HasPrefix(text[i:], "\uFFFD"):
			b.WriteString("\uFFFD") // no UTF-8
		case !unicode.IsPrint(r):
			b.WriteString(strings.Trim(strconv.QuoteRuneToASCII(r), "'"))
		default:
			b.WriteRune(r)
		}
	}
	return b.String()
}
