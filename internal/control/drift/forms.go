package drift

import (
	"math/big"
	"net/netip"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"time"
	"unicode"
)

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
