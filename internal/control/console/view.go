package console

import (
	"bytes"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"html/template"
	"math"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
)

// functions are what templates may call.
var functions = template.FuncMap{
	"asset":       asset,
	"left":        left,
	"num":         number,
	"rate":        rate,
	"age":         age,
	"ago":         ago,
	"seconds":     seconds,
	"when":        when,
	"clock":       func(t time.Time) string { return t.UTC().Format("15:04:05.000") },
	"utc":         func(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05 UTC") },
	"machine":     func(t time.Time) string { return t.UTC().Format(time.RFC3339Nano) },
	"device":      deviceURL,
	"json":        pretty,
	"short":       short,
	"plural":      plural,
	"share":       share,
	"attestation": attestation,
	"percent":     func(part, whole int64) float64 { return share(int(part), int(whole)) },
	"part":        func(used, most any) float64 { return portion(float(used), float(most)) },
	"whole":       func(n float64) string { return number(int64(math.Round(n))) },
	"bytes":       byteSize,
	"act":         actURL,
	"words":       words,
	"figure":      figure,
	"float":       float,
	"per":         per,
	"precise":     precise,
	"silencing":   silencing,
	"details":     detailsOf,
	"deep":        func(n int) string { return strings.Repeat("· ", min(n, 20)) },
	"micros":      func(n int64) string { return (time.Duration(n) * time.Microsecond).String() },
	"unsigned":    func(n uint64) int64 { return int64(min(n, math.MaxInt64)) },
}

// deviceURL is the address of a device's page, whatever its id holds.
func deviceURL(id string) template.URL {
	return template.URL("/devices/" + url.PathEscape(id)) // escaped just here
}

// actURL is where an act is asked for: what it is about in pairs, and the page
// to come back to.
func actURL(name, next string, about ...string) string {
	q := url.Values{"next": {next}}
	for i := 0; i+1 < len(about); i += 2 {
		q.Set(about[i], about[i+1])
	}
	return "/acts/" + name + "?" + q.Encode()
}

// words sets the words of a name apart: "rolledBack" is "rolled back".
func words(name any) string {
	var b strings.Builder
	for _, r := range fmt.Sprint(name) {
		if unicode.IsUpper(r) {
			b.WriteByte(' ')
		}
		b.WriteRune(unicode.ToLower(r))
	}
	return b.String()
}

// figure writes a measured number with as many digits as it has meaning.
func figure(n any) string {
	if p, ok := n.(*float64); ok {
		if p == nil {
			return "–"
		}
		n = *p
	}
	value := float(n)
	if whole := math.Round(value); math.Abs(whole) >= 100 && math.Abs(whole) < 1e15 {
		return number(int64(whole))
	}
	return strconv.FormatFloat(value, 'g', 3, 64)
}

// hues are how many colours there are for things of a kind.
const hues = 8

// palette gives each name a colour: the same on every page that has the same
// names, and another than the others as long as there are enough.
func palette(names []string) map[string]string {
	colours, taken := map[string]string{}, map[int]bool{}
	for _, name := range slices.Compact(slices.Sorted(slices.Values(names))) {
		h := fnv.New32a()
		h.Write([]byte(name))
		at := int(h.Sum32() % hues)
		for n := 0; taken[at] && n < hues; n++ {
			at = (at + 1) % hues
		}
		taken[at] = true
		colours[name] = "hue" + strconv.Itoa(at)
	}
	return colours
}

// per writes a share as per cent.
func per(share float64) string {
	return strconv.FormatFloat(math.Round(share*1000)/10, 'f', -1, 64) + "\u202f%"
}

// precise is a share in percent to three places; none is a dash.
func precise(n any) string {
	if p, ok := n.(*float64); ok {
		if p == nil {
			return "–"
		}
		n = *p
	}
	return strconv.FormatFloat(math.Round(float(n)*1e5)/1e3, 'f', -1, 64) + "\u202f%"
}

// float is a number that a template has, of whichever kind.
func float(n any) float64 {
	switch n := n.(type) {
	case int:
		return float64(n)
	case int64:
		return float64(n)
	case float64:
		return n
	}
	return 0
}

// portion is how many per cent of something are used, at most 100.
func portion(used, most float64) float64 {
	if most <= 0 {
		return 0
	}
	return min(100, 100*used/most)
}

// byteSize writes a number of bytes in its greatest unit.
func byteSize(n float64) string {
	units := []string{"B", "KiB", "MiB", "GiB", "TiB"}
	i := 0
	for n >= 1024 && i < len(units)-1 {
		n, i = n/1024, i+1
	}
	return strconv.FormatFloat(math.Round(n*10)/10, 'f', -1, 64) + " " + units[i]
}

// number writes a whole number with its thousands set apart.
func number(n any) string {
	digits := fmt.Sprint(n)
	sign := ""
	if strings.HasPrefix(digits, "-") {
		sign, digits = "-", digits[1:]
	}
	var b strings.Builder
	for i, d := range digits {
		if i > 0 && (len(digits)-i)%3 == 0 {
			b.WriteRune('\u202f') // narrow no-break space
		}
		b.WriteRune(d)
	}
	return sign + b.String()
}

// rate writes messages per second with as many digits as it has meaning.
func rate(r float64) string {
	if r < 99.95 {
		return strconv.FormatFloat(r, 'f', 1, 64)
	}
	return number(int64(math.Round(r)))
}

// age writes a span of time in its greatest unit.
func age(d time.Duration) string {
	switch {
	case d < time.Second:
		return "now"
	case d < time.Minute:
		return strconv.Itoa(int(d.Seconds())) + " s"
	case d < time.Hour:
		return strconv.Itoa(int(d.Minutes())) + " min"
	case d < 48*time.Hour:
		return strconv.Itoa(int(d.Hours())) + " h"
	}
	return strconv.Itoa(int(d.Hours()/24)) + " d"
}

func seconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }

// ago writes how long ago t was.
func ago(t time.Time) string {
	text := age(time.Since(t))
	if text == "now" {
		return text
	}
	return text + " ago"
}

// when writes a time briefly: today's by its hour.
func when(t time.Time) string {
	t, now := t.UTC(), time.Now().UTC()
	if t.YearDay() == now.YearDay() && t.Year() == now.Year() {
		return t.Format("15:04:05")
	}
	return t.Format("2006-01-02 15:04")
}

// pretty sets out a JSON text on lines; what is no JSON stays as it is.
func pretty(raw json.RawMessage) string {
	var out bytes.Buffer
	if err := json.Indent(&out, raw, "", "  "); err != nil {
		return string(raw)
	}
	return out.String()
}

// short cuts a text that would not fit on its line.
func short(text string, most int) string {
	runes := []rune(text)
	if len(runes) <= most {
		return text
	}
	return string(runes[:most-1]) + "…"
}

// plural writes a count with its noun.
func plural(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return number(n) + " " + many
}

// share is part of whole in percent, and at least visible when it is not 0.
func share(part, whole int) float64 {
	if whole <= 0 || part <= 0 {
		return 0
	}
	return max(0.8, min(100, math.Round(float64(part)/float64(whole)*1000)/10))
}
