package cli

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"
)

// yamlOf renders a value as YAML with the names and the order of its JSON. It
// quotes whatever any YAML reader could take for something else, which
// libraries do not.
func yamlOf(value any) ([]byte, error) {
	var text bytes.Buffer
	encoder := json.NewEncoder(&text)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(value); err != nil {
		return nil, err
	}
	w := yamlWriter{in: json.NewDecoder(&text)}
	w.in.UseNumber()
	if err := w.value(""); err != nil {
		return nil, err
	}
	return bytes.TrimLeft(w.out.Bytes(), "\n "), nil
}

// yamlWriter turns a stream of JSON tokens into YAML blocks.
type yamlWriter struct {
	in  *json.Decoder
	out bytes.Buffer
}

// value writes the next value, which follows a key or a dash.
func (w *yamlWriter) value(indent string) error {
	token, err := w.in.Token()
	if err != nil {
		return err
	}
	switch token := token.(type) {
	case json.Delim:
		return w.nested(token, indent)
	case json.Number:
		w.line(numeral(token))
	case string:
		if block.MatchString(token) {
			w.line("|\n" + indent + strings.ReplaceAll(strings.TrimSuffix(token, "\n"), "\n", "\n"+indent))
			return nil
		}
		w.line(spell(token))
	case nil:
		w.line("null")
	default:
		w.line(fmt.Sprint(token))
	}
	return nil
}

func (w *yamlWriter) line(text string) {
	w.out.WriteString(" " + text + "\n")
}

// nested writes an object or a list, one member a line.
func (w *yamlWriter) nested(open json.Delim, indent string) error {
	if !w.in.More() {
		w.line(map[json.Delim]string{'{': "{}", '[': "[]"}[open])
	} else {
		w.out.WriteByte('\n')
	}
	for w.in.More() {
		lead := indent + "-"
		if open == '{' {
			key, err := w.in.Token()
			if err != nil {
				return err
			}
			lead = indent + spell(fmt.Sprint(key)) + ":"
		}
		w.out.WriteString(lead)
		if err := w.value(indent + "  "); err != nil {
			return err
		}
	}
	_, err := w.in.Token()
	return err
}

// numeral keeps a JSON number as it came; with an exponent it is spelled out,
// as YAML readers disagree on those.
func numeral(n json.Number) string {
	value, err := n.Float64()
	if err != nil || !strings.ContainsAny(string(n), "eE") {
		return string(n)
	}
	text := strconv.FormatFloat(value, 'f', -1, 64)
	if !strings.Contains(text, ".") {
		text += ".0"
	}
	return text
}

// plain are texts that every YAML reader takes for text without quotes.
var plain = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_./-]*( [A-Za-z0-9_./-]+)*$`)

// words are those that some readers take for something else.
var words = regexp.MustCompile(`(?i)^(y|n|yes|no|on|off|true|false|null|nan|inf)$`)

// block are texts of several lines that are easier to read as a block, such
// as certificates.
var block = regexp.MustCompile(`^([A-Za-z0-9+/=-][ -~]*[A-Za-z0-9+/=-]\n)+$`)

// spell writes a text so that it is read back as the same text.
func spell(text string) string {
	if plain.MatchString(text) && !words.MatchString(text) {
		return text
	}
	var quoted bytes.Buffer
	encoder := json.NewEncoder(&quoted)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(text); err != nil {
		panic(err) // text always has a JSON form
	}
	return strings.TrimSpace(quoted.String())
}

// writeDocuments writes several YAML documents into one stream.
func writeDocuments(w io.Writer, documents []any) error {
	for i, document := range documents {
		text, err := yamlOf(document)
		if err != nil {
			return err
		}
		if i > 0 {
			text = append([]byte("---\n"), text...)
		}
		if _, err := w.Write(text); err != nil {
			return err
		}
	}
	return nil
}
