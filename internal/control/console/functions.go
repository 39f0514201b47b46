package console

import (
	"bytes"
	"encoding/json"
	"fmt"
	"html/template"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/slipway/slipway/internal/link"
)

// functions are what templates can call.
var functions = template.FuncMap{
	"ago":     func(t *time.Time) string { return ago(t, time.Now()) },
	"at":      func(t time.Time) string { return t.Local().Format("2006-01-02 15:04:05") },
	"percent": percent,
	"number":  number,
	"rate":    func(r float64) string { return fmt.Sprintf("%.1f", r) },
	"pretty":  pretty,
	"escape":  url.PathEscape,
	"query":   url.QueryEscape,
	"age":     age,
	"tone":    tone,
	"body":    bodyText,
	"join":    strings.Join,
	"phases": func() []link.Phase {
		return []link.Phase{link.PhaseAssigned, link.PhaseCreating, link.PhaseRemoving, link.PhaseWaiting}
	},
	"tab": func(name, path, text, active string) tab { return tab{path, text, name == active} },
	"reversed": func(all []link.LogRecord) []link.LogRecord {
		newest := slices.Clone(all)
		slices.Reverse(newest)
		return newest
	},
	"reversedSteps": func(all []link.Transition) []link.Transition {
		newest := slices.Clone(all)
		slices.Reverse(newest)
		return newest
	},
	"queuePanel": func(id, csrf string, queue []link.QueuedMessage) queuePanel { return queuePanel{id, csrf, queue, nil} },
}

// tab is one entry of the navigation.
type tab struct {
	Path, Text string
	Here       bool
}

func ago(t *time.Time, now time.Time) string {
	if t == nil || t.IsZero() {
		return "never"
	}
	return age(now.Sub(*t).Seconds())
}

// age is a number of seconds for people.
func age(seconds float64) string {
	switch {
	case seconds < 0:
		return "never"
	case seconds < 2:
		return "now"
	case seconds < 120:
		return fmt.Sprintf("%.0f s ago", seconds)
	case seconds < 7200:
		return fmt.Sprintf("%.0f min ago", seconds/60)
	case seconds < 172800:
		return fmt.Sprintf("%.0f h ago", seconds/3600)
	}
	return fmt.Sprintf("%.0f days ago", seconds/86400)
}

// percent is a share in whole percent, at least 1 when there is any.
func percent(part, whole int) int {
	if whole <= 0 || part <= 0 {
		return 0
	}
	return min(100, max(1, part*100/whole))
}

// number groups digits by thousands.
func number(n any) string {
	text := fmt.Sprint(n)
	for i := len(text) - 3; i > 0 && text[i-1] != '-'; i -= 3 {
		text = text[:i] + "\u202f" + text[i:]
	}
	return text
}

// pretty indents JSON.
func pretty(document json.RawMessage) string {
	var b bytes.Buffer
	if json.Indent(&b, document, "", "  ") != nil {
		return string(document)
	}
	return b.String()
}

// tone is the colour of a state.
func tone(state string) string {
	switch state {
	case "enabled", "open", "assigned", "arrived", "complete", "connected", "done":
		return "good"
	case "waiting", "moving", "draining", "running", "selecting", "removing", "creating", "asked", "pending":
		return "warn"
	case "disabled", "closed", "failed", "refused":
		return "bad"
	}
	return "plain"
}

// bodyText is a message's body on one line.
func bodyText(body json.RawMessage, raw []byte) string {
	const most = 200
	text := string(body)
	if text == "" && len(raw) > 0 {
		text = fmt.Sprintf("%q", raw)
	}
	if len(text) > most {
		return text[:most] + "…"
	}
	return text
}
