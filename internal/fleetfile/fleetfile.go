// Package fleetfile reads lists of devices that other systems write: CSV with
// columns of any names, and the lines of JSON that Azure IoT Hub exports its
// registry as. Each device comes with the line it began on, and what is wrong
// with one says so without ending the reading.
package fleetfile

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"strings"

	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/problem"
)

// Format is how a list is written.
type Format string

// The formats.
const (
	CSV   Format = "csv"
	JSONL Format = "jsonl"
)

// Entry is one device of a list, or what is wrong with its line.
type Entry struct {
	Line   int64
	Device link.ImportDevice
	Err    error // a problem with its field
}

// Reader reads a list, a device at a time; Next ends with io.EOF. Any other
// error of it ends the reading: the list cannot be read any further.
type Reader interface {
	Next() (Entry, error)
	// Left are the columns that nothing was made of.
	Left() []string
}

// maxLine bounds one line: a device with a whole twin.
const maxLine = 512 << 10

// Options say how a list is read.
type Options struct {
	Format Format            // empty looks at the beginning
	Map    map[string]string // field to the column that has it, for CSV
}

// New begins to read a list.
func New(r io.Reader, o Options) (Reader, error) {
	in := bufio.NewReaderSize(r, maxLine)
	if bom, err := in.Peek(3); err == nil && string(bom) == "\ufeff" {
		if _, err := in.Discard(3); err != nil {
			return nil, err
		}
	}
	format := o.Format
	if format == "" {
		start, err := in.Peek(64)
		if err != nil && !errors.Is(err, io.EOF) {
			return nil, err
		}
		if format = CSV; bytes.HasPrefix(bytes.TrimSpace(start), []byte("{")) {
			format = JSONL
		}
	}
	switch format {
	case CSV:
		return newTable(in, o.Map)
	case JSONL:
		if len(o.Map) > 0 {
			return nil, problem.New(problem.Invalid, "columns are mapped for CSV; a registry's export has names of its own").At("map")
		}
		return newExport(in), nil
	}
	return nil, problem.New(problem.Invalid, "a list is csv or jsonl, not %q", format).At("format")
}

// readKey reads a symmetric key, in base64.
func readKey(field, text string) ([]byte, error) {
	if text == "" {
		return nil, nil
	}
	key, err := base64.StdEncoding.DecodeString(strings.TrimSpace(text))
	if err != nil {
		return nil, problem.New(problem.Invalid, "is not base64").At(field)
	}
	if len(key) < 16 || len(key) > 64 {
		return nil, problem.New(problem.Invalid, "has 16 to 64 bytes, not %d", len(key)).At(field)
	}
	return key, nil
}

// readThumbprint reads a certificate's, in hex with or without colons.
func readThumbprint(field, text string) (string, error) {
	digits := strings.ToLower(strings.NewReplacer(":", "", " ", "").Replace(text))
	if _, err := hex.DecodeString(digits); err != nil || digits != "" && len(digits) != 40 && len(digits) != 64 {
		return "", problem.New(problem.Invalid, "is not the hex SHA-1 (40 digits) or SHA-256 (64 digits) of a certificate").At(field)
	}
	return digits, nil
}

// credentials are what a line says of how the device proves itself.
type credentials struct {
	kind                                link.AuthType
	primary, secondary                  string
	primaryThumbprint, secondThumbprint string
}

// auth is nil where the line has none, which a group may have.
func (c credentials) auth() (*link.Auth, error) {
	var a link.Auth
	var errs [4]error
	a.PrimaryKey, errs[0] = readKey("primaryKey", c.primary)
	a.SecondaryKey, errs[1] = readKey("secondaryKey", c.secondary)
	a.PrimaryThumbprint, errs[2] = readThumbprint("primaryThumbprint", c.primaryThumbprint)
	a.SecondaryThumbprint, errs[3] = readThumbprint("secondaryThumbprint", c.secondThumbprint)
	for _, err := range errs {
		if err != nil {
			return nil, err
		}
	}
	keys, prints := len(a.PrimaryKey)+len(a.SecondaryKey) > 0, a.PrimaryThumbprint+a.SecondaryThumbprint != ""
	switch {
	case c.kind == link.AuthCertificate || !keys && !prints:
		return nil, nil
	case keys && prints && c.kind == "":
		return nil, problem.New(problem.Invalid, "has keys and thumbprints; a device proves itself by one of the two").At("primaryKey")
	case c.kind == link.AuthSelfSigned || c.kind == "" && prints:
		if a.PrimaryThumbprint == "" {
			return nil, problem.New(problem.Invalid, "is missing beside the secondary one").At("primaryThumbprint")
		}
		return &link.Auth{Type: link.AuthSelfSigned, PrimaryThumbprint: a.PrimaryThumbprint, SecondaryThumbprint: a.SecondaryThumbprint}, nil
	case c.kind != "" && c.kind != link.AuthSAS:
		return nil, problem.New(problem.Invalid, "a device proves itself by sas, selfSigned or certificateAuthority, not by %q", c.kind).At("authentication.type")
	case len(a.PrimaryKey) == 0:
		return nil, problem.New(problem.Invalid, "is missing beside the secondary one").At("primaryKey")
	}
	return &link.Auth{Type: link.AuthSAS, PrimaryKey: a.PrimaryKey, SecondaryKey: a.SecondaryKey}, nil
}

// section reads a part of a twin, without what its hub keeps with it.
func section(field string, text json.RawMessage) (json.RawMessage, error) {
	if len(text) == 0 || string(text) == "null" {
		return nil, nil
	}
	var object map[string]json.RawMessage
	if err := json.Unmarshal(text, &object); err != nil || object == nil {
		return nil, problem.New(problem.Invalid, "is no JSON object").At(field)
	}
	delete(object, "$metadata")
	delete(object, "$version")
	if len(object) == 0 {
		return nil, nil
	}
	return json.Marshal(object)
}

func checkStatus(text string) (string, error) {
	switch strings.ToLower(text) {
	case "", "enabled":
		return "enabled", nil
	case "disabled":
		return "disabled", nil
	}
	return "", problem.New(problem.Invalid, "is enabled or disabled, not %q", text).At("status")
}
