package mask

import (
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math"
	"net/netip"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

func itoa(n int) string { return strconv.Itoa(n) }

// Document masks a decoded JSON object (numbers are json.Number) below a path.
func (m *Masker) Document(path []string, from map[string]any) map[string]any {
	to := make(map[string]any, len(from))
	for key, value := range from {
		below := append(path[:len(path):len(path)], key)
		masked, kept := m.Value(below, value)
		if !kept {
			continue
		}
		if r := m.find(below); r != nil && r.Keys {
			m.seen.original(key)
			key = m.Pseudonym(key)
		}
		to[key] = masked
	}
	return to
}

// Value masks one value of a document; kept is false where it is not to be in
// the copy.
func (m *Masker) Value(path []string, value any) (masked any, kept bool) {
	switch value := value.(type) {
	case map[string]any:
		if r := m.find(path); r != nil && r.done == Drop {
			m.remember(r, value)
			return nil, false
		}
		return m.Document(path, value), true
	case []any:
		to := make([]any, 0, len(value))
		for _, one := range value {
			if masked, kept := m.Value(path, one); kept {
				to = append(to, masked)
			}
		}
		return to, true
	case nil:
		return nil, true
	}
	return m.leaf(path, value)
}

// remember notes what a dropped subtree has in it, as it must not be found
// elsewhere.
func (m *Masker) remember(r *rule, value any) {
	switch value := value.(type) {
	case map[string]any:
		for _, one := range value {
			m.remember(r, one)
		}
	case []any:
		for _, one := range value {
			m.remember(r, one)
		}
	case string:
		if !r.Common {
			m.seen.original(value)
		}
	}
}

func (m *Masker) leaf(path []string, value any) (masked any, kept bool) {
	r := m.find(path)
	done, common := m.policy.Unknown, false
	if r == nil {
		m.seen.unknown(path)
	} else {
		done, common = r.done, r.Common
	}
	if done == "" {
		done = Refuse
	}
	m.seen.Done[done]++
	if done == Keep {
		return value, true
	}
	if text, ok := value.(string); ok && !common && done != Generalise {
		m.seen.original(text)
	}
	switch done {
	case Hash:
		return m.hashed(value), true
	case Fake:
		return formats[r.Format](m, fmt.Sprint(value)), true
	case Generalise:
		return generalised(r.Rule, value), true
	}
	return nil, false
}

// hashed is the pseudonym of a value, of the same type.
func (m *Masker) hashed(value any) any {
	switch value := value.(type) {
	case string:
		return m.Pseudonym(value)
	case json.Number:
		if n, err := value.Int64(); err == nil {
			return json.Number(strconv.FormatInt(m.Number(n), 10))
		}
		return json.Number(strconv.Itoa(int(binary.BigEndian.Uint32(m.sum("float", value.String())) % 1000)))
	case bool:
		return m.sum("bool", strconv.FormatBool(value))[0]%2 == 0
	}
	return nil
}

// Pseudonym stands for a text. It is a name that devices may have; the empty
// text says nothing and stays.
func (m *Masker) Pseudonym(text string) string {
	if text == "" {
		return ""
	}
	return "p-" + hex.EncodeToString(m.sum("text", text)[:10])
}

// Identity is the pseudonym of a device, or of a module of one.
func (m *Masker) Identity(id string) string {
	parts := strings.Split(id, "/")
	for i, part := range parts {
		m.seen.original(part)
		parts[i] = m.Pseudonym(part)
	}
	return strings.Join(parts, "/")
}

// Number stands for a whole number. No two have the same one, so keys stay
// keys; those below 2^30 stay below it.
func (m *Masker) Number(n int64) int64 {
	if n == math.MinInt64 {
		n++
	}
	if n < 0 {
		return -m.Number(-n)
	}
	const small, large = 1 << 30, 1 << 62
	if n >= large {
		return n&(large-1) | large // beyond what keys count; it keeps its place
	}
	half, least := uint(15), int64(0)
	if n >= small {
		half, least = 31, small
	}
	for { // until it is in the same range, as it comes back to n at the latest
		if n = m.feistel(n, half); n >= least {
			return n
		}
	}
}

// feistel is a permutation of the numbers of twice half bits.
func (m *Masker) feistel(n int64, half uint) int64 {
	bits := uint64(1)<<half - 1
	left, right := uint64(n)>>half, uint64(n)&bits
	var round [10]byte
	for i := range 4 {
		round[0], round[1] = byte(i), byte(half)
		binary.BigEndian.PutUint64(round[2:], right)
		left, right = right, left^binary.BigEndian.Uint64(m.sum("number", string(round[:])))&bits
	}
	return int64(left<<half | right)
}

// formats make a pseudonym look like something. What they make is of what is
// set aside for documentation, so that it reaches nobody.
var formats = map[string]func(m *Masker, text string) any{
	"email": func(m *Masker, text string) any { return "u" + m.digits("email", text, 16) + "@example.com" },
	"name": func(m *Masker, text string) any {
		sum := m.sum("name", text)
		return given[int(sum[0])%len(given)] + " " + family[int(sum[1])%len(family)] + "-" + hex.EncodeToString(sum[2:8])
	},
	"phone": func(m *Masker, text string) any { return "+1555" + m.digits("phone", text, 10) },
	"ip": func(m *Masker, text string) any {
		sum := m.sum("ip", text)
		if at, err := netip.ParseAddr(text); err == nil && at.Is4() {
			return "198.18." + itoa(int(sum[0])) + "." + itoa(int(sum[1])) // RFC 2544
		}
		return netip.AddrFrom16([16]byte(append([]byte{0x20, 0x01, 0x0d, 0xb8}, sum[:12]...))).String()
	},
	"mac": func(m *Masker, text string) any {
		s := m.sum("mac", text)
		return fmt.Sprintf("02:%02x:%02x:%02x:%02x:%02x", s[0], s[1], s[2], s[3], s[4]) // locally administered
	},
	"uuid": func(m *Masker, text string) any {
		s := m.sum("uuid", text)
		s[6], s[8] = s[6]&0x0f|0x80, s[8]&0x3f|0x80 // version 8
		return fmt.Sprintf("%x-%x-%x-%x-%x", s[0:4], s[4:6], s[6:8], s[8:10], s[10:16])
	},
	"url": func(m *Masker, text string) any { return "https://example.com/" + m.digits("url", text, 16) },
	"date": func(m *Masker, text string) any {
		days := int(binary.BigEndian.Uint16(m.sum("date", text))) % 10_000
		return time.Date(1990, 1, 1, 0, 0, 0, 0, time.UTC).AddDate(0, 0, days).Format(time.DateOnly)
	},
}

var (
	given  = []string{"Ada", "Blaise", "Carl", "Dana", "Emil", "Fay", "Gus", "Hedy", "Ines", "Jon", "Kim", "Lou", "Max", "Nia", "Oz", "Pia"}
	family = []string{"Alder", "Birch", "Cedar", "Dogwood", "Elm", "Fir", "Gorse", "Hazel", "Iris", "Juniper", "Larch", "Maple", "Oak", "Pine", "Rowan", "Spruce"}
)

func (m *Masker) digits(purpose, text string, n int) string {
	sum := m.sum(purpose, text)
	b := make([]byte, n)
	for i := range b {
		b[i] = '0' + sum[i]%10
	}
	return string(b)
}

// generalised is a value with less in it.
func generalised(r Rule, value any) any {
	switch value := value.(type) {
	case string:
		length := max(r.Length, 1)
		if at, err := time.Parse(time.RFC3339Nano, value); err == nil && r.Length == 0 {
			return time.Date(at.Year(), at.Month(), 1, 0, 0, 0, 0, time.UTC).Format(time.RFC3339)
		}
		for i := range value {
			if length == 0 {
				return value[:i]
			}
			length--
		}
		if utf8.RuneCountInString(value) <= max(r.Length, 1) {
			return strings.Repeat("x", min(len(value), 1)) // all of it would be left
		}
		return value
	case json.Number:
		f, err := value.Float64()
		if err != nil {
			return nil
		}
		step := r.Step
		if step == 0 {
			step = 10
		}
		rounded := math.Round(f/step) * step
		if math.IsInf(rounded, 0) || math.IsNaN(rounded) {
			return nil
		}
		return json.Number(strconv.FormatFloat(rounded, 'f', -1, 64))
	}
	return value
}
