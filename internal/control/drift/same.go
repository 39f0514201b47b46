// Package drift holds what is so against what is declared, and environments
// against one another. Values that mean the same never alarm, however they are
// written; what differs has a class, and stays known until it is gone or
// somebody answers for it.
package drift

import (
	"bytes"
	"encoding/json"
	"math"
	"math/big"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
)

// Same reports whether two values mean the same: JSON values as encoding/json
// reads them, with numbers as json.Number.
func Same(a, b any) bool {
	switch a := a.(type) {
	case nil:
		return empty(b)
	case bool:
		other, ok := b.(bool)
		return ok && a == other
	case json.Number, float64, int, int64:
		return sameNumber(a, b)
	case string:
		other, ok := b.(string)
		return ok && sameText(a, other)
	case []any:
		other, ok := b.([]any)
		return ok && len(a) == len(other) && allSame(a, other)
	case map[string]any:
		other, ok := b.(map[string]any)
		return ok && sameMembers(a, other) || !ok && b == nil && empty(a)
	}
	return false
}

// empty reports whether a value says nothing: null, or an object of which no
// member says anything. An empty list says that there is none.
func empty(v any) bool {
	members, object := v.(map[string]any)
	if !object {
		return v == nil
	}
	for _, inner := range members {
		if !empty(inner) {
			return false
		}
	}
	return true
}

func allSame(a, b []any) bool {
	for i := range a {
		if !Same(a[i], b[i]) {
			return false
		}
	}
	return true
}

func sameMembers(a, b map[string]any) bool {
	for key, value := range a {
		if !Same(value, b[key]) {
			return false
		}
	}
	for key, value := range b {
		if _, there := a[key]; !there && !empty(value) {
			return false
		}
	}
	return true
}

func sameNumber(a, b any) bool {
	one, ok := rational(a)
	other, also := rational(b)
	return ok && also && one.Cmp(other) == 0
}

// maxExponent keeps a number such as 1e999999999 from being written out.
const maxExponent = 400

// rational is a number exactly as it is written.
func rational(v any) (*big.Rat, bool) {
	switch v := v.(type) {
	case json.Number:
		return exact(v.String())
	case float64:
		if math.IsNaN(v) || math.IsInf(v, 0) {
			return nil, false
		}
		return exact(strconv.FormatFloat(v, 'g', -1, 64))
	case int:
		return new(big.Rat).SetInt64(int64(v)), true
	case int64:
		return new(big.Rat).SetInt64(v), true
	}
	return nil, false
}

var decimal = regexp.MustCompile(`^[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?$`)

func exact(text string) (*big.Rat, bool) {
	if !decimal.MatchString(text) || len(text) > 1000 {
		return nil, false
	}
	if _, exponent, found := strings.Cut(strings.ToLower(text), "e"); found {
		if n, err := strconv.Atoi(exponent); err != nil || n > maxExponent || n < -maxExponent {
			return nil, false
		}
	}
	return new(big.Rat).SetString(text)
}

// sameText reports whether two texts mean the same in any form that both have.
func sameText(a, b string) bool {
	if a == b {
		return true
	}
	if a, b = tidy(a), tidy(b); a == b {
		return true
	}
	for _, read := range forms {
		one, ok := read(a)
		other, also := read(b)
		if ok && also && one == other {
			return true
		}
	}
	return sameQuantity(a, b) || sameNetwork(a, b) || sameInside(a, b)
}

// tidy is a text without what editors and line endings make of it.
func tidy(text string) string {
	return strings.TrimRight(strings.ReplaceAll(text, "\r\n", "\n"), "\n")
}

// forms read texts that mean something: each answers with the one way it
// writes that.
var forms = []func(string) (string, bool){duration, moment, address, digest, location}

// sameInside compares texts that hold JSON.
func sameInside(a, b string) bool {
	one, ok := inside(a)
	if !ok {
		return false
	}
	other, ok := inside(b)
	return ok && Same(one, other)
}

func inside(text string) (v any, ok bool) {
	trimmed := strings.TrimSpace(text)
	if trimmed == "" || trimmed[0] != '{' && trimmed[0] != '[' {
		return nil, false
	}
	return decoded([]byte(trimmed))
}

// decoded reads one JSON value and nothing after it.
func decoded(text []byte) (v any, ok bool) {
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.UseNumber()
	if decoder.Decode(&v) != nil {
		return nil, false
	}
	return v, !decoder.More()
}

var (
	days = regexp.MustCompile(`^(\d+)d$`)
	iso  = regexp.MustCompile(`^P(?:(\d+)W)?(?:(\d+)D)?(?:T(?:(\d+)H)?(?:(\d+)M)?(?:(\d+(?:\.\d+)?)S)?)?$`)
)

// duration reads 90s, 1m30s, 7d and PT1M30S.
func duration(text string) (string, bool) {
	if d, err := time.ParseDuration(text); err == nil && text != "0" {
		return d.String(), true
	}
	if m := days.FindStringSubmatch(text); m != nil {
		return sum([]string{m[1]}, 24*time.Hour)
	}
	m := iso.FindStringSubmatch(text)
	if m == nil || strings.TrimLeft(text, "PT") == "" {
		return "", false
	}
	return sum(m[1:], 7*24*time.Hour, 24*time.Hour, time.Hour, time.Minute, time.Second)
}

func sum(parts []string, units ...time.Duration) (string, bool) {
	var all time.Duration
	for i, part := range parts {
		if part == "" {
			continue
		}
		n, err := strconv.ParseFloat(part, 64)
		if err != nil || n > 1e6 {
			return "", false
		}
		all += time.Duration(n * float64(units[i]))
	}
	return all.String(), true
}

var (
	amount = regexp.MustCompile(`^([+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?)\s?(%|[a-zA-Z]{0,3})$`)
	// units are factors as powers: of 1000, of 1024, or as they are.
	units = map[string]*big.Rat{"": rat(1, 1), "%": rat(1, 100), "m": rat(1, 1000)}
)

func rat(a, b int64) *big.Rat { return big.NewRat(a, b) }

func init() {
	for i, letter := range "kMGTP" {
		of := func(base int64) *big.Rat {
			return new(big.Rat).SetInt(new(big.Int).Exp(big.NewInt(base), big.NewInt(int64(i+1)), nil))
		}
		units[string(letter)], units[string(letter)+"B"] = of(1000), of(1000)
		binary := strings.ToUpper(string(letter)) + "i"
		units[binary], units[binary+"B"] = of(1024), of(1024)
	}
	units["K"], units["KB"], units["B"] = units["k"], units["k"], rat(1, 1)
}

// sameQuantity compares 100m, 1.5Gi, 512KiB, 5% and plain numbers. One of the
// two has a unit: otherwise they may be versions, of which 1.1 is not 1.10.
func sameQuantity(a, b string) bool {
	one, unit, ok := quantity(a)
	other, unitToo, also := quantity(b)
	return ok && also && (unit || unitToo) && one.Cmp(other) == 0
}

func quantity(text string) (n *big.Rat, unit, ok bool) {
	m := amount.FindStringSubmatch(strings.TrimSpace(text))
	if m == nil {
		return nil, false, false
	}
	factor, known := units[m[2]]
	n, ok = exact(m[1])
	if !known || !ok {
		return nil, false, false
	}
	return n.Mul(n, factor), m[2] != "", true
}

// moment reads a time, wherever it is told.
func moment(text string) (string, bool) {
	at, err := time.Parse(time.RFC3339Nano, text)
	return at.UTC().Format(time.RFC3339Nano), err == nil
}

// sameNetwork compares addresses and ranges of addresses; an address is the
// range of itself. A range may be written with an address in it, but two
// addresses in a range are two.
func sameNetwork(a, b string) bool {
	one, ok := network(a)
	other, also := network(b)
	return ok && also && one.Masked() == other.Masked() && (one == other || one == one.Masked() || other == other.Masked())
}

func network(text string) (netip.Prefix, bool) {
	if p, err := netip.ParsePrefix(text); err == nil {
		if a := p.Addr(); a.Is4In6() && p.Bits() >= 96 {
			p = netip.PrefixFrom(a.Unmap(), p.Bits()-96)
		}
		return p, true
	}
	a, err := netip.ParseAddr(text)
	if err != nil || a.Zone() != "" {
		return netip.Prefix{}, false
	}
	a = a.Unmap()
	return netip.PrefixFrom(a, a.BitLen()), true
}

// address reads host:port with an IP address.
func address(text string) (string, bool) {
	a, err := netip.ParseAddrPort(text)
	return netip.AddrPortFrom(a.Addr().Unmap(), a.Port()).String(), err == nil
}

var hexadecimal = regexp.MustCompile(`^(?:sha(?:1|256|512):)?(?:[0-9a-fA-F]{40}|[0-9a-fA-F]{64}|[0-9a-fA-F]{128})$|^[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}$`)

// digest reads hashes and UUIDs, whose letters may be large.
func digest(text string) (string, bool) { return strings.ToLower(text), hexadecimal.MatchString(text) }

var ports = map[string]string{
	"http": "80", "https": "443", "ws": "80", "wss": "443", "ftp": "21", "postgres": "5432", "postgresql": "5432", "nats": "4222", "mqtt": "1883", "mqtts": "8883", "amqp": "5672", "amqps": "5671",
}

// location reads a URL: the letters of scheme and host, the usual port, an empty
// path, escapes, and the order of parameters do not matter.
func location(text string) (string, bool) {
	u, err := url.Parse(text)
	if err != nil || u.Scheme == "" || u.Host == "" || strings.ContainsFunc(text, unicode.IsSpace) {
		return "", false
	}
	u.Scheme = strings.ToLower(u.Scheme)
	host, port := strings.TrimSuffix(strings.ToLower(u.Hostname()), "."), u.Port()
	if ip, err := netip.ParseAddr(host); err == nil {
		host = ip.Unmap().String()
	}
	if strings.Contains(host, ":") {
		host = "[" + host + "]"
	}
	if port != "" && port != ports[u.Scheme] {
		host += ":" + port
	}
	u.Host = host
	if u.Path == "" {
		u.Path = "/"
	}
	query, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return "", false
	}
	u.RawPath, u.RawQuery = "", query.Encode()
	if strings.Contains(strings.ToLower(text), "%2f") {
		return "", false // an escaped slash is not a slash
	}
	return u.String(), true
}

// aligned writes two values so that what is left between them differs: what
// means the same in both is written as it is in declared, and lists that are
// sets have what they share first.
func aligned(path string, declared, live any, sets []string) (d, l any) {
	switch one := declared.(type) {
	case map[string]any:
		if other, ok := live.(map[string]any); ok {
			return alignedMembers(path, one, other, sets)
		}
	case []any:
		other, ok := live.([]any)
		if !ok {
			break
		}
		if slices.ContainsFunc(sets, func(s string) bool { return covers(s, path) }) {
			one, other = paired(one, other)
		}
		one, other = slices.Clone(one), slices.Clone(other)
		for i := range min(len(one), len(other)) {
			one[i], other[i] = aligned(path+"/"+strconv.Itoa(i), one[i], other[i], sets)
		}
		return one, other
	}
	if Same(declared, live) {
		return declared, declared
	}
	return declared, live
}

// alignedMembers is aligned for objects; members that say nothing are left out.
func alignedMembers(path string, declared, live map[string]any, sets []string) (d, l map[string]any) {
	d, l = map[string]any{}, map[string]any{}
	for key, value := range declared {
		inner := live[key]
		switch {
		case empty(value) && empty(inner):
		case empty(inner):
			d[key] = value
		case empty(value):
			l[key] = inner
		default:
			d[key], l[key] = aligned(path+"/"+escaped(key), value, inner, sets)
		}
	}
	for key, value := range live {
		if _, there := declared[key]; !there && !empty(value) {
			l[key] = value
		}
	}
	return d, l
}

// paired puts what two sets share first, in the same order: items that are the
// same, and then those that have the same name.
func paired(declared, live []any) (d, l []any) {
	left, rest := slices.Clone(declared), slices.Clone(live)
	for _, alike := range []func(a, b any) bool{Same, func(a, b any) bool { return named(a) != "" && named(a) == named(b) }} {
		for i := 0; i < len(left); {
			j := slices.IndexFunc(rest, func(v any) bool { return alike(left[i], v) })
			if j < 0 {
				i++
				continue
			}
			d, l = append(d, left[i]), append(l, rest[j])
			left, rest = slices.Delete(left, i, i+1), slices.Delete(rest, j, j+1)
		}
	}
	return append(d, left...), append(l, rest...)
}

func named(v any) string {
	members, ok := v.(map[string]any)
	if !ok {
		return ""
	}
	for _, key := range []string{"name", "id", "key"} {
		if text, ok := members[key].(string); ok && text != "" {
			return text
		}
	}
	return ""
}

func escaped(key string) string {
	return strings.ReplaceAll(strings.ReplaceAll(key, "~", "~0"), "/", "~1")
}

// covers reports whether a pattern of a path is of this path; * is one step of it.
func covers(pattern, path string) bool {
	return slices.EqualFunc(strings.Split(pattern, "/"), strings.Split(path, "/"), func(want, have string) bool { return want == "*" || want == have })
}
