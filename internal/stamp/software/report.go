package software

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/slipway/slipway/internal/link"
)

// The limits of what a device says of itself; more is cut off.
const (
	maxName     = 63
	maxVersion  = 100
	maxError    = 500
	maxSoftware = 64
	maxOrder    = 1 << 52 // as far as twins count
)

var phases = map[string]bool{
	link.OrderAccepted: true, link.OrderDownloading: true, link.OrderWaiting: true, link.OrderInstalling: true,
	link.OrderTrial: true, link.OrderConfirmed: true, link.OrderFailed: true, link.OrderRolledBack: true,
}

// ParseReport reads what a device says of itself. A member that is not what it
// should be counts as left out: a device with one bad habit is still told of.
func ParseReport(text []byte) (r link.UpdateReport) {
	var members map[string]json.RawMessage
	if json.Unmarshal(text, &members) != nil {
		return r
	}
	r.Hardware = clean(member[string](members, "hardware"), maxName)
	r.Error = clean(member[string](members, "error"), maxError)
	if phase := member[string](members, "phase"); phases[phase] {
		r.Phase = phase
	}
	if order := member[int64](members, "order"); order > 0 && order <= maxOrder {
		r.Order = order
	}
	r.Progress = min(max(int(member[float64](members, "progress")), 0), 100)
	r.Software = readSoftware(member[map[string]json.RawMessage](members, "software"))
	return r
}

// readSoftware takes the first names in order of the alphabet, as many as fit.
func readSoftware(sent map[string]json.RawMessage) map[string]string {
	var running map[string]string
	for _, name := range slices.Sorted(maps.Keys(sent)) {
		var version string
		if json.Unmarshal(sent[name], &version) != nil || name == "" || clean(name, maxName) != name {
			continue
		}
		if running == nil {
			running = map[string]string{}
		}
		if running[name] = clean(version, maxVersion); len(running) == maxSoftware {
			break
		}
	}
	return running
}

func member[T any](members map[string]json.RawMessage, name string) (value T) {
	if json.Unmarshal(members[name], &value) != nil {
		var none T
		return none
	}
	return value
}

// clean is a text without what cannot be printed, and no longer than limit
// bytes.
func clean(text string, limit int) string {
	text = strings.Map(func(r rune) rune {
		switch {
		case r == utf8.RuneError:
			return -1
		case unicode.IsSpace(r):
			return ' '
		case !unicode.IsPrint(r):
			return -1
		}
		return r
	}, text)
	for len(text) > limit {
		_, size := utf8.DecodeLastRuneInString(text)
		text = text[:len(text)-size]
	}
	return strings.TrimSpace(text)
}
