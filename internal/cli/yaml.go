package cli

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"

	"github.com/goccy/go-yaml"
)

// yamlOf renders a value as YAML with the names and the order of its JSON.
func yamlOf(value any) ([]byte, error) {
	text, err := json.Marshal(value)
	if err != nil {
		return nil, err
	}
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.UseNumber()
	ordered, err := orderedValue(decoder)
	if err != nil {
		return nil, err
	}
	return yaml.MarshalWithOptions(ordered, yaml.IndentSequence(true))
}

// number keeps a JSON number's own spelling in YAML.
type number json.Number

// MarshalYAML writes the number as it came.
func (n number) MarshalYAML() ([]byte, error) { return []byte(n), nil }

// orderedValue reads one JSON value, keeping the order of members.
func orderedValue(d *json.Decoder) (any, error) {
	token, err := d.Token()
	if err != nil {
		return nil, err
	}
	switch token := token.(type) {
	case json.Delim:
		if token == '[' {
			return orderedList(d)
		}
		return orderedMembers(d)
	case json.Number:
		return number(token), nil
	}
	return token, nil
}

func orderedList(d *json.Decoder) (any, error) {
	list := []any{}
	for d.More() {
		item, err := orderedValue(d)
		if err != nil {
			return nil, err
		}
		list = append(list, item)
	}
	_, err := d.Token()
	return list, err
}

func orderedMembers(d *json.Decoder) (any, error) {
	members := yaml.MapSlice{}
	for d.More() {
		key, err := d.Token()
		if err != nil {
			return nil, err
		}
		value, err := orderedValue(d)
		if err != nil {
			return nil, err
		}
		members = append(members, yaml.MapItem{Key: fmt.Sprint(key), Value: value})
	}
	_, err := d.Token()
	return members, err
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
