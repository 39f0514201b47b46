package cli

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"
)

// note writes to stderr: what is for the person, not for the next program.
// When even that cannot be written there is nobody left to tell.
func (a *app) note(format string, args ...any) {
	if _, err := fmt.Fprintf(a.err, format, args...); err != nil {
		a.errTTY = false
	}
}

// print writes text to stdout.
func (a *app) print(format string, args ...any) error {
	_, err := fmt.Fprintf(a.out, format, args...)
	return err
}

// json writes one value: indented for a person, on one line for a program.
func (a *app) json(value any) error {
	encoder := json.NewEncoder(a.out)
	encoder.SetEscapeHTML(false)
	if a.outTTY {
		encoder.SetIndent("", "  ")
	}
	return encoder.Encode(value)
}

// listed is the form of every list as JSON.
type listed[T any] struct {
	Items []T    `json:"items"`
	Next  string `json:"next,omitempty"`
}

// jsonList writes a list; an empty one is [], never null.
func jsonList[T any](a *app, items []T, next string) error {
	if items == nil {
		items = []T{}
	}
	return a.json(listed[T]{items, next})
}

// table writes rows: with a header and aligned for a person, separated by tabs
// and nothing else for a program.
func (a *app) table(header []string, rows [][]string) error {
	if !a.outTTY {
		for _, row := range rows {
			if err := a.print("%s\n", strings.Join(cleaned(row), "\t")); err != nil {
				return err
			}
		}
		return nil
	}
	w := tabwriter.NewWriter(a.out, 0, 8, 3, ' ', 0)
	for _, row := range append([][]string{header}, rows...) {
		if _, err := fmt.Fprintln(w, strings.Join(cleaned(row), "\t")); err != nil {
			return err
		}
	}
	return w.Flush()
}

func cleaned(row []string) []string {
	out := make([]string, len(row))
	for i, cell := range row {
		if out[i] = clean(cell); cell == "" {
			out[i] = "-"
		}
	}
	return out
}

// clean keeps what devices say from driving the terminal or breaking a row.
func clean(text string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\n' || r == '\t' || r == '\r':
			return ' '
		case !unicode.IsPrint(r):
			return '�'
		}
		return r
	}, text)
}

// when shows a time: relative for a person, RFC 3339 for a program.
func (a *app) when(t *time.Time) string {
	switch {
	case t == nil || t.IsZero():
		return ""
	case !a.outTTY:
		return t.UTC().Format(time.RFC3339Nano)
	}
	return ago(a.now().Sub(*t))
}

// ago says how long something is past, or ahead, in the largest whole unit.
func ago(d time.Duration) string {
	format := "%s ago"
	if d < 0 {
		d, format = -d, "in %s"
	}
	switch {
	case d < time.Second:
		return "now"
	case d < time.Minute:
		return fmt.Sprintf(format, strconv.Itoa(int(d.Seconds()))+" s")
	case d < time.Hour:
		return fmt.Sprintf(format, strconv.Itoa(int(d.Minutes()))+" min")
	case d < 48*time.Hour:
		return fmt.Sprintf(format, strconv.Itoa(int(d.Hours()))+" h")
	}
	return fmt.Sprintf(format, strconv.Itoa(int(d.Hours()/24))+" d")
}

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

// confirm asks before something cannot be taken back; without a person to ask
// it must have been said with --yes.
func (a *app) confirm(yes bool, format string, args ...any) error {
	question := fmt.Sprintf(format, args...)
	if yes {
		return nil
	}
	if !a.inTTY {
		return withHint(usage("%s? This cannot be taken back", question), "repeat with --yes")
	}
	a.note("%s? [y/N] ", question)
	var reply string
	if _, err := fmt.Fscanln(a.in, &reply); err != nil || !strings.EqualFold(reply, "y") && !strings.EqualFold(reply, "yes") {
		a.note("nothing was changed\n")
		return answer(exitFailed)
	}
	return nil
}
