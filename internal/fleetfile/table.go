package fleetfile

import (
	"encoding/csv"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/problem"
)

// Fields are what a column can be. tags.NAME and desired.NAME are one property
// of the twin each.
var Fields = []string{
	"deviceId", "registrationId", "primaryKey", "secondaryKey", "primaryThumbprint", "secondaryThumbprint", "status", "statusReason", "tenant", "stamp", "edge", "tags", "desired", "reported",
}

// table reads CSV whose first line names the columns.
type table struct {
	in      *csv.Reader
	columns []string // what each column is; empty is nothing
	left    []string
}

func newTable(r io.Reader, named map[string]string) (*table, error) {
	in := csv.NewReader(r)
	in.FieldsPerRecord = -1
	head, err := in.Read()
	if err != nil {
		return nil, problem.New(problem.Invalid, "the first line must name the columns: %w", err).At("line 1")
	}
	t := &table{in: in, columns: make([]string, len(head))}
	byColumn := map[string]string{}
	for field, column := range named {
		if !isField(field) {
			return nil, problem.New(problem.Invalid, "%q is nothing a column can be; say one of %s, tags.NAME, desired.NAME", field, strings.Join(Fields, ", ")).At("map")
		}
		byColumn[column] = field
	}
	for i, column := range head {
		column = strings.TrimSpace(column)
		field, mapped := byColumn[column]
		if !mapped {
			field = spelled(column)
		}
		if _, elsewhere := named[field]; !mapped && elsewhere {
			field = "" // another column was named for it
		}
		if field != "" && slices.Contains(t.columns, field) {
			return nil, problem.New(problem.Invalid, "two columns are %s", field).At("line 1")
		}
		delete(byColumn, column)
		if t.columns[i] = field; field == "" {
			t.left = append(t.left, column)
		}
	}
	if len(byColumn) > 0 {
		return nil, problem.New(problem.Invalid, "there is no column %s; there are %s", strings.Join(slices.Sorted(maps.Keys(byColumn)), ", "), strings.Join(head, ", ")).At("map")
	}
	if !slices.Contains(t.columns, "deviceId") {
		return nil, problem.New(problem.Invalid, "no column is deviceId; say which one with deviceId=COLUMN; there are %s", strings.Join(head, ", ")).At("map")
	}
	return t, nil
}

func isField(name string) bool { return spelled(name) == name && name != "" }

// spelled is the field that a column's name means: letter case, spaces, '-' and
// '_' do not count.
func spelled(column string) string {
	for _, section := range []string{"tags.", "desired."} {
		if rest, found := strings.CutPrefix(column, section); found && rest != "" && !strings.ContainsAny(rest, " .$") {
			return column
		}
	}
	plain := strings.ToLower(strings.NewReplacer(" ", "", "-", "", "_", "").Replace(column))
	for _, field := range Fields {
		if strings.ToLower(field) == plain {
			return field
		}
	}
	return ""
}

// Left are the columns that nothing was made of.
func (t *table) Left() []string { return t.left }

// Next reads one device.
func (t *table) Next() (Entry, error) {
	for {
		record, err := t.in.Read()
		var wrong *csv.ParseError
		if errors.As(err, &wrong) {
			return Entry{Line: int64(wrong.StartLine), Err: problem.New(problem.Invalid, "is not CSV: %s", wrong.Err)}, nil
		}
		if err != nil {
			return Entry{}, err
		}
		if len(record) == 1 && strings.TrimSpace(record[0]) == "" {
			continue
		}
		line, _ := t.in.FieldPos(0)
		e := Entry{Line: int64(line)}
		if len(record) != len(t.columns) {
			e.Err = problem.New(problem.Invalid, "has %d columns, and the first line names %d", len(record), len(t.columns))
			return e, nil
		}
		e.Device, e.Err = t.device(record)
		return e, nil
	}
}

func (t *table) device(record []string) (d link.ImportDevice, err error) {
	values := map[string]string{}
	for i, field := range t.columns {
		if field != "" {
			values[field] = strings.TrimSpace(record[i])
		}
	}
	d = link.ImportDevice{DeviceID: values["deviceId"], RegistrationID: values["registrationId"], Tenant: values["tenant"], Stamp: values["stamp"]}
	if d.DeviceID == "" {
		return d, problem.New(problem.Invalid, "is missing").At("deviceId")
	}
	c := credentials{primary: values["primaryKey"], secondary: values["secondaryKey"], primaryThumbprint: values["primaryThumbprint"], secondThumbprint: values["secondaryThumbprint"]}
	if d.Auth, err = c.auth(); err != nil {
		return d, err
	}
	d.Twin, err = twinOf(values)
	return d, err
}

// twinOf is the twin that columns make.
func twinOf(values map[string]string) (*link.TwinContent, error) {
	status, err := checkStatus(values["status"])
	if err != nil {
		return nil, err
	}
	edge, err := yes(values["edge"])
	if err != nil {
		return nil, err
	}
	twin := &link.TwinContent{Registry: &link.RegistryContent{Status: status, StatusReason: values["statusReason"], Edge: edge}}
	for _, part := range []struct {
		name string
		into *json.RawMessage
	}{{"tags", &twin.Tags}, {"desired", &twin.Desired}, {"reported", &twin.Reported}} {
		if *part.into, err = sectionOf(part.name, values); err != nil {
			return nil, err
		}
	}
	return twin, nil
}

// sectionOf is one section: the column that has it whole, and the columns that
// have one property each.
func sectionOf(name string, values map[string]string) (json.RawMessage, error) {
	object := map[string]json.RawMessage{}
	if text := values[name]; text != "" {
		if err := json.Unmarshal([]byte(text), &object); err != nil || object == nil {
			return nil, problem.New(problem.Invalid, "is no JSON object").At(name)
		}
	}
	for field, text := range values {
		property, found := strings.CutPrefix(field, name+".")
		if !found || text == "" {
			continue
		}
		value, err := json.Marshal(text)
		if err != nil {
			return nil, err
		}
		object[property] = value
	}
	if len(object) == 0 {
		return nil, nil
	}
	text, err := json.Marshal(object)
	if err != nil {
		return nil, err
	}
	return section(name, text)
}

func yes(text string) (bool, error) {
	switch strings.ToLower(text) {
	case "", "false", "no", "0":
		return false, nil
	case "true", "yes", "1":
		return true, nil
	}
	return false, problem.New(problem.Invalid, "is true or false, not %q", text).At("edge")
}
