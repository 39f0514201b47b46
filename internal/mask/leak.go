package mask

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/url"
	"slices"
	"strings"
	"unicode/utf16"
)

// Seen is what a masker has come across: fields without a rule, and the values
// that must not be in the copy.
type Seen struct {
	Done      map[string]int64 // values by what was done with them
	fields    map[string]int64
	originals map[string]struct{}
	more      int64 // originals that are not remembered
	planted   []string
}

// The limits of what is remembered.
const (
	maxOriginals = 3_000_000
	maxUnknown   = 1000
	shortest     = 6 // characters that an original has at least; shorter ones are found by chance
	longest      = 4096
)

func newSeen() *Seen {
	return &Seen{Done: map[string]int64{}, fields: map[string]int64{}, originals: map[string]struct{}{}}
}

func (s *Seen) unknown(path []string) {
	field := Join(path)
	if _, seen := s.fields[field]; seen || len(s.fields) < maxUnknown {
		s.fields[field]++
	}
}

// Unknown are the fields without a rule, with how often each was met.
func (s *Seen) Unknown() map[string]int64 { return maps.Clone(s.fields) }

func (s *Seen) original(text string) {
	if len(text) < shortest || len(text) > longest {
		return
	}
	if len(s.originals) >= maxOriginals {
		s.more++
		return
	}
	s.originals[text] = struct{}{}
}

// Originals is how many values are remembered, and how many more there were.
func (s *Seen) Originals() (remembered, more int64) { return int64(len(s.originals)), s.more }

// Sample are some of the values that were replaced, at most n.
func (s *Seen) Sample(n int) []string {
	var all []string
	for text := range s.originals {
		if len(all) == n {
			break
		}
		all = append(all, text)
	}
	return all
}

// Has reports whether a value of the copy is one that was replaced, or has one
// in it as a word of its own, however it is written.
func (s *Seen) Has(text string) bool {
	if s.has(text) {
		return true
	}
	for _, plain := range decoded(text) {
		if s.has(plain) {
			return true
		}
	}
	return false
}

func (s *Seen) has(text string) bool {
	if len(text) > 1<<20 {
		text = text[:1<<20]
	}
	if _, found := s.originals[text]; found {
		return true
	}
	for _, apart := range []string{" \t\r\n,;\"'<>()[]{}|", " \t\r\n,;\"'<>()[]{}|:=/&?#"} {
		for word := range strings.FieldsFuncSeq(text, func(r rune) bool { return strings.ContainsRune(apart, r) }) {
			if _, found := s.originals[word]; found && len(word) < len(text) {
				return true
			}
		}
	}
	return false
}

// decoded is what a text may stand for.
func decoded(text string) (all []string) {
	if len(text) < shortest || len(text) > 1<<20 {
		return nil
	}
	if plain, err := hex.DecodeString(strings.TrimPrefix(text, `\x`)); err == nil {
		all = append(all, string(plain))
	}
	bare := strings.TrimRight(text, "=")
	for _, encoding := range []*base64.Encoding{base64.RawStdEncoding, base64.RawURLEncoding} {
		if plain, err := encoding.DecodeString(bare); err == nil {
			all = append(all, string(plain))
		}
	}
	if strings.Contains(text, "%") {
		if plain, err := url.QueryUnescape(text); err == nil {
			all = append(all, plain)
		}
	}
	if strings.Contains(text, `\`) {
		var plain string
		if json.Unmarshal([]byte(`"`+text+`"`), &plain) == nil {
			all = append(all, plain)
		}
	}
	return all
}

// window is how many bytes are looked at at once: what is looked for has at
// least as many.
const window = 8

// Scanner looks for values in any bytes, in whatever way they may be written.
type Scanner struct {
	heads map[uint64][]form
	maybe [1 << 13]uint64 // a bit for each head, by its low bits
	Forms int
}

// form is one way in which a value may be written.
type form struct {
	text string
	of   int // number of the value
	how  string
}

// NewScanner looks for values. Those with fewer bytes than a window are not
// looked for.
func NewScanner(values []string) *Scanner {
	s := &Scanner{heads: map[uint64][]form{}}
	for i, value := range values {
		if len(value) >= window {
			for _, f := range forms(value) {
				f.of = i
				s.add(f)
			}
		}
	}
	return s
}

func (s *Scanner) add(f form) {
	if len(f.text) < window {
		return
	}
	var head uint64
	for i := range window {
		head = head<<8 | uint64(f.text[i])
	}
	if slices.ContainsFunc(s.heads[head], func(other form) bool { return other.text == f.text && other.of == f.of }) {
		return
	}
	s.heads[head] = append(s.heads[head], f)
	slot := bucket(head)
	s.maybe[slot>>6] |= 1 << (slot & 63)
	s.Forms++
}

func bucket(head uint64) uint64 { return head * 0x9e3779b97f4a7c15 >> 45 }

// forms are the ways in which a value is looked for.
func forms(value string) []form {
	lower, upper := strings.ToLower(value), strings.ToUpper(value)
	hexed := hex.EncodeToString([]byte(value))
	escaped, err := json.Marshal(value)
	if err != nil {
		escaped = []byte(`"` + value + `"`)
	}
	all := []form{
		{text: value, how: "as it is"}, {text: lower, how: "in lower case"}, {text: upper, how: "in upper case"},
		{text: hexed, how: "in hex"}, {text: strings.ToUpper(hexed), how: "in hex"},
		{text: string(escaped[1 : len(escaped)-1]), how: "as JSON escapes"},
		{text: url.QueryEscape(value), how: "in a URL"}, {text: url.PathEscape(value), how: "in a URL"},
		{text: reversed(value), how: "backwards"},
	}
	for _, format := range []string{`\u%04x`, `\u%04X`} {
		all = append(all, form{text: units(value, format, false), how: "as JSON escapes"}, form{text: units(value, format, true), how: "as JSON escapes"})
	}
	var little, big []byte
	for _, unit := range utf16.Encode([]rune(value)) {
		little, big = append(little, byte(unit), byte(unit>>8)), append(big, byte(unit>>8), byte(unit))
	}
	all = append(all, form{text: string(little), how: "in UTF-16"}, form{text: string(big), how: "in UTF-16"})
	for shift := range 3 {
		for _, encoding := range []*base64.Encoding{base64.RawStdEncoding, base64.RawURLEncoding} {
			all = append(all, form{text: inBase64(encoding, value, shift), how: "in base64"})
		}
	}
	return all
}

// units spells a text in escapes: all of it, or what is not ASCII.
func units(value, format string, all bool) string {
	var b strings.Builder
	for _, unit := range utf16.Encode([]rune(value)) {
		if unit < 0x80 && !all {
			b.WriteByte(byte(unit))
			continue
		}
		fmt.Fprintf(&b, format, unit)
	}
	return b.String()
}

func reversed(text string) string {
	runes := []rune(text)
	slices.Reverse(runes)
	return string(runes)
}

// inBase64 is what base64 has of a value wherever it stands in what was
// encoded: without the letters that also hold bits of what is beside it.
func inBase64(encoding *base64.Encoding, value string, shift int) string {
	text := encoding.EncodeToString(append(make([]byte, shift), value...))
	first := []int{0, 2, 3}[shift]
	last := (shift + len(value)) * 8 / 6
	return text[first:last]
}

// Found is a value that was found.
type Found struct {
	Value int    // its number
	How   string // it is written
	At    int64  // byte
}

// maxFound is how many are told.
const maxFound = 20

// Scan reads all bytes and returns how many there were, and what was found in
// them.
func (s *Scanner) Scan(from io.Reader) (read int64, found []Found, err error) {
	const piece = 1 << 20
	buffer := make([]byte, 0, piece+16*longest)
	for {
		n, err := from.Read(buffer[len(buffer) : len(buffer)+min(piece, cap(buffer)-len(buffer))])
		buffer = buffer[:len(buffer)+n]
		over := err == io.EOF
		if err != nil && !over {
			return read, found, err
		}
		ready := len(buffer) - window + 1
		if !over {
			ready -= 12 * longest // the longest form could go on behind
		}
		if ready > 0 {
			found = s.look(buffer, ready, read, found)
			read += int64(ready)
			buffer = append(buffer[:0], buffer[ready:]...)
		}
		if over {
			return read + int64(len(buffer)), found, nil
		}
	}
}

func (s *Scanner) look(in []byte, ready int, at int64, found []Found) []Found {
	var head uint64
	for i := range window - 1 {
		head = head<<8 | uint64(in[i])
	}
	for i := range ready {
		head = head<<8 | uint64(in[i+window-1])
		if slot := bucket(head); s.maybe[slot>>6]&(1<<(slot&63)) == 0 {
			continue
		}
		for _, f := range s.heads[head] {
			if len(found) < maxFound && len(in)-i >= len(f.text) && string(in[i:i+len(f.text)]) == f.text {
				found = append(found, Found{Value: f.of, How: f.how, At: at + int64(i)})
			}
		}
	}
	return found
}
