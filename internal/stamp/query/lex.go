package query

import (
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/slipway/slipway/internal/problem"
)

type kind int

const (
	end kind = iota
	word
	number
	text
	sign // operators and punctuation
)

type token struct {
	kind  kind
	text  string // as written; of a string, its value
	value float64
	at    int // byte offset
}

// lex cuts a condition into tokens, the last of kind end.
func lex(source string) ([]token, error) {
	if len(source) > maxText {
		return nil, problem.New(problem.Invalid, "a condition has at most %d bytes, not %d", maxText, len(source))
	}
	if !utf8.ValidString(source) || strings.IndexByte(source, 0) >= 0 {
		return nil, problem.New(problem.Invalid, "a condition is UTF-8 text without U+0000")
	}
	var all []token
	for i := 0; ; {
		for i < len(source) && strings.IndexByte(" \t\r\n", source[i]) >= 0 {
			i++
		}
		if i == len(source) {
			return append(all, token{kind: end, at: i}), nil
		}
		t, next, err := lexOne(source, i)
		if err != nil {
			return nil, err
		}
		all, i = append(all, t), next
	}
}

func lexOne(source string, i int) (token, int, error) {
	c := source[i]
	switch {
	case isNameStart(c):
		j := i
		for j < len(source) && isNamePart(source[j]) {
			j++
		}
		return token{kind: word, text: source[i:j], at: i}, j, nil
	case '0' <= c && c <= '9':
		return lexNumber(source, i)
	case c == '\'' || c == '"':
		return lexString(source, i)
	}
	for _, operator := range []string{"!=", "<>", "<=", ">="} {
		if strings.HasPrefix(source[i:], operator) {
			return token{kind: sign, text: operator, at: i}, i + 2, nil
		}
	}
	if strings.IndexByte("=<>()[],.+-*/%", c) >= 0 {
		return token{kind: sign, text: source[i : i+1], at: i}, i + 1, nil
	}
	return token{}, 0, problem.New(problem.Invalid, "%s: %q means nothing here", position(source, i), c)
}

func lexNumber(source string, i int) (token, int, error) {
	j := i
	for j < len(source) && (isNamePart(source[j]) || source[j] == '.' ||
		(source[j] == '+' || source[j] == '-') && (source[j-1] == 'e' || source[j-1] == 'E')) {
		j++
	}
	value, err := strconv.ParseFloat(source[i:j], 64)
	if err != nil || strings.ContainsAny(source[i:j], "xX_pP") {
		return token{}, 0, problem.New(problem.Invalid, "%s: %q is not a number", position(source, i), source[i:j])
	}
	return token{kind: number, text: source[i:j], value: value, at: i}, j, nil
}

func lexString(source string, i int) (token, int, error) {
	quote, b := source[i], strings.Builder{}
	for j := i + 1; j < len(source); {
		switch c := source[j]; {
		case c == quote:
			return token{kind: text, text: b.String(), at: i}, j + 1, nil
		case c == '\\':
			r, size, ok := unescape(source[j:])
			if !ok {
				return token{}, 0, problem.New(problem.Invalid, "%s: a string knows the escapes \\' \\\" \\\\ and \\uXXXX only", position(source, j))
			}
			b.WriteRune(r)
			j += size
		default:
			b.WriteByte(c)
			j++
		}
	}
	return token{}, 0, problem.New(problem.Invalid, "%s: the string has no closing %c", position(source, i), quote)
}

func unescape(s string) (r rune, size int, ok bool) {
	if len(s) < 2 {
		return 0, 0, false
	}
	switch s[1] {
	case '\'', '"', '\\':
		return rune(s[1]), 2, true
	case 'u':
		if len(s) < 6 {
			return 0, 0, false
		}
		code, err := strconv.ParseUint(s[2:6], 16, 16)
		if err != nil || code == 0 || 0xd800 <= code && code <= 0xdfff {
			return 0, 0, false
		}
		return rune(code), 6, true
	}
	return 0, 0, false
}

func isNameStart(c byte) bool {
	return c == '_' || c == '$' || 'a' <= c|0x20 && c|0x20 <= 'z' || c >= utf8.RuneSelf
}
func isNamePart(c byte) bool { return isNameStart(c) || '0' <= c && c <= '9' }

// isName reports whether a key can stand in a path without brackets.
func isName(s string) bool {
	if s == "" || !isNameStart(s[0]) {
		return false
	}
	for i := range len(s) {
		if !isNamePart(s[i]) {
			return false
		}
	}
	return true
}

// position says where in the text a fault is, for people.
func position(source string, at int) string {
	line := 1 + strings.Count(source[:at], "\n")
	column := 1 + utf8.RuneCountInString(source[strings.LastIndexByte(source[:at], '\n')+1:at])
	if line == 1 {
		return "column " + strconv.Itoa(column)
	}
	return "line " + strconv.Itoa(line) + ", column " + strconv.Itoa(column)
}
