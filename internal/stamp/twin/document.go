package twin

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"math"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/slipway/slipway/internal/problem"
)

// The limits of a twin, as the hub's documentation gives them. Sizes count
// keys and values; metadata does not count.
const (
	maxTags       = 8 << 10
	maxProperties = 32 << 10
	maxKey        = 1 << 10
	maxString     = 4 << 10
	maxDepth      = 10
	maxInteger    = 4503599627370496 // 2^52
	// maxPatch bounds the text of a change; a document at its limit fits with
	// room for white space and escapes.
	maxPatch = 256 << 10
)

const (
	lastUpdated        = "$lastUpdated"
	lastUpdatedVersion = "$lastUpdatedVersion"
)

// stampOf is a time as metadata spells it.
func stampOf(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.0000000Z") }

// decode reads a JSON object from the network; null and nothing are a nil
// document.
func decode(text []byte, name string) (Document, error) {
	if len(text) > maxPatch {
		return nil, problem.New(problem.TooLarge, "a change has at most %d bytes, not %d", maxPatch, len(text)).At(name)
	}
	return decodeStored(text, name)
}

// decodeStored is decode for what was accepted before, which with its metadata
// may be longer than any change.
func decodeStored(text []byte, name string) (Document, error) {
	if len(text) == 0 {
		return nil, nil
	}
	if !utf8.Valid(text) {
		return nil, problem.New(problem.Invalid, "the text is not UTF-8").At(name)
	}
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.UseNumber()
	var value any
	if err := decoder.Decode(&value); err != nil {
		return nil, problem.New(problem.Invalid, "the text is not JSON: %w", err).At(name)
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return nil, problem.New(problem.Invalid, "something follows the JSON object").At(name)
	}
	switch document := value.(type) {
	case nil:
		return nil, nil
	case Document:
		return document, nil
	}
	return nil, problem.New(problem.Invalid, "a JSON object is wanted, such as {\"key\": 1}").At(name)
}

// Encode writes a document as JSON text with its keys in order, and without the
// escapes that HTML would need.
func Encode(value any) ([]byte, error) {
	var b bytes.Buffer
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(value); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}

// mergeValues is RFC 7396 on copies: null removes, objects merge, the rest
// replaces. Keys that start with '$' are the hub's own and are passed over.
func mergeValues(target any, patch Document) Document {
	old, _ := target.(Document)
	merged := make(Document, len(old)+len(patch))
	for key, value := range old {
		merged[key] = value
	}
	for key, value := range patch {
		switch value := value.(type) {
		case nil:
			delete(merged, key)
		case Document:
			if !strings.HasPrefix(key, "$") {
				merged[key] = mergeValues(merged[key], value)
			}
		default:
			if !strings.HasPrefix(key, "$") {
				merged[key] = value
			}
		}
	}
	return merged
}

// Transition is the patch that takes an old content back and sets a new one:
// null for every leaf of the old that the new does not have.
func Transition(before, after Document) Document {
	patch := Document{}
	for key, old := range before {
		fresh, kept := after[key]
		oldObject, bothObjects := old.(Document)
		freshObject, isObject := fresh.(Document)
		switch {
		case !kept && bothObjects:
			patch[key] = Transition(oldObject, nil)
		case !kept:
			patch[key] = nil
		case bothObjects && isObject:
			patch[key] = Transition(oldObject, freshObject)
		default:
			patch[key] = fresh
		}
	}
	for key, fresh := range after {
		if _, seen := before[key]; !seen {
			patch[key] = fresh
		}
	}
	return patch
}

// mergeMeta notes in the mirror of a document where a patch touches it.
// version 0 leaves versions out, as in reported properties.
func mergeMeta(target any, patch Document, at string, version int64) Document {
	old, _ := target.(Document)
	merged := make(Document, len(old)+len(patch)+2)
	for key, value := range old {
		merged[key] = value
	}
	touch(merged, at, version)
	for key, value := range patch {
		switch value := value.(type) {
		case nil:
			if !strings.HasPrefix(key, "$") {
				delete(merged, key)
			}
		case Document:
			if !strings.HasPrefix(key, "$") {
				merged[key] = mergeMeta(merged[key], value, at, version)
			}
		default:
			if !strings.HasPrefix(key, "$") {
				merged[key] = touch(Document{}, at, version)
			}
		}
	}
	return merged
}

func touch(node Document, at string, version int64) Document {
	node[lastUpdated] = at
	if version > 0 {
		node[lastUpdatedVersion] = version
	}
	return node
}

// merged is the section with a patch applied, in a version its caller sets.
func (s Section) merged(patch Document, at string, version int64) Section {
	return Section{Values: mergeValues(s.Values, patch), Meta: mergeMeta(s.Meta, patch, at, version), Version: s.Version}
}

// check holds tags and desired properties against the limits.
func (t Twin) check() error {
	if err := checkDocument("tags", t.Tags, maxTags); err != nil {
		return err
	}
	if err := t.Desired.check("properties.desired", maxProperties); err != nil {
		return err
	}
	return t.Reported.check("properties.reported", maxProperties)
}

func (s Section) check(name string, limit int) error { return checkDocument(name, s.Values, limit) }

func checkDocument(name string, document Document, limit int) error {
	size, err := measure(name, document, 1)
	if err != nil {
		return err
	}
	if size > limit {
		return problem.New(problem.TooLarge, "keys and values have %d bytes, more than the %d allowed; remove properties by setting them to null", size, limit).At(name)
	}
	return nil
}

// measure returns what a value counts against the limit of its section.
func measure(path string, value any, depth int) (size int, err error) {
	switch value := value.(type) {
	case Document:
		if depth > maxDepth {
			return 0, problem.New(problem.Invalid, "objects are nested deeper than the %d levels allowed", maxDepth).At(path)
		}
		for key, inner := range value {
			if err := checkKey(path, key); err != nil {
				return 0, err
			}
			n, err := measure(path+"."+key, inner, depth+1)
			if err != nil {
				return 0, err
			}
			size += len(key) + n
		}
		return size, nil
	case []any:
		for i, inner := range value {
			n, err := measure(path+"["+strconv.Itoa(i)+"]", inner, depth+1)
			if err != nil {
				return 0, err
			}
			size += n
		}
		return size, nil
	case string:
		return measureString(path, value)
	case json.Number:
		return 8, checkNumber(path, value)
	case bool:
		return 4, nil
	}
	return 0, nil
}

func measureString(path, value string) (int, error) {
	size := 0
	for i := range len(value) {
		if value[i] == 0 {
			return 0, problem.New(problem.Invalid, "a string holds the character U+0000, which no database keeps").At(path)
		}
		if value[i] >= ' ' {
			size++
		}
	}
	if size > maxString {
		return 0, problem.New(problem.TooLarge, "a string has %d bytes, more than the %d allowed", size, maxString).At(path)
	}
	return size, nil
}

func checkKey(path, key string) error {
	if key == "" || len(key) > maxKey {
		return problem.New(problem.Invalid, "a key has 1 to %d bytes, not %d", maxKey, len(key)).At(path)
	}
	for _, c := range key {
		if c < ' ' || c == 0x7f || c >= 0x80 && c <= 0x9f || c == '.' || c == '$' || c == ' ' {
			return problem.New(problem.Invalid, "the key %q holds %q; control characters, '.', '$' and spaces are not allowed", key, c).At(path)
		}
	}
	return nil
}

func checkNumber(path string, n json.Number) error {
	if i, err := n.Int64(); err == nil {
		if i > maxInteger || i < -maxInteger {
			return problem.New(problem.Invalid, "the integer %s is beyond ±%d", n, int64(maxInteger)).At(path)
		}
		return nil
	}
	f, err := n.Float64()
	if err != nil || math.IsInf(f, 0) || math.Abs(f) > maxInteger && f == math.Trunc(f) && !strings.ContainsAny(n.String(), ".eE") {
		return problem.New(problem.Invalid, "the number %s is beyond what a twin keeps", n).At(path)
	}
	return nil
}
