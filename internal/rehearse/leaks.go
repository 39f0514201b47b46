package rehearse

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/slipway/slipway/internal/mask"
	"github.com/slipway/slipway/internal/sqldb"
)

// sample is how many of the values that were masked are looked for in every
// byte; all are looked for in every value.
const sample = 2000

// looked looks for what must not be in the copies, and says whether they are
// sound: no field came without a rule, no value that was masked is there.
func (x *run) looked(ctx context.Context, step string) (sound bool, err error) {
	x.e.Masking.Leaks, x.e.Masking.Looked = nil, 0
	err = x.step(step, func() (string, error) {
		for name, b := range x.benches() {
			if err := x.lookThrough(ctx, name, b); err != nil {
				return "", err
			}
		}
		if err := x.lookAtBytes(ctx); err != nil {
			return "", err
		}
		return fmt.Sprintf("%d values, %d bytes", x.e.Masking.Looked, x.e.Masking.Scanned), nil
	})
	if err != nil {
		return false, err
	}
	seen := x.masker.Seen()
	x.e.Masking.Values, x.e.Masking.Unknown, x.e.Masking.Planted = seen.Done, seen.Unknown(), len(seen.Planted())
	x.e.Masking.Originals, _ = seen.Originals()
	var unruled, leaked error
	if n := len(x.e.Masking.Unknown); n > 0 && x.policy.Unknown == "" {
		fields := slices.Sorted(maps.Keys(x.e.Masking.Unknown))
		unruled = fmt.Errorf("%d fields have no rule, and so are not in the copy: %s; say in spec.rehearsal.masking.fields what each is", n, strings.Join(fields[:min(n, 10)], ", "))
	}
	if n := len(x.e.Masking.Leaks); n > 0 {
		leaked = fmt.Errorf("%s", strings.Join(x.e.Masking.Leaks[:min(n, 5)], "; "))
	}
	x.check("mask", "", "", unruled, "every field has a rule")
	x.check("leaks", "", "", leaked, fmt.Sprintf("none of %d values that were masked, and of %d canaries, is in the copies", x.e.Masking.Originals, x.e.Masking.Planted+len(x.policy.Canaries)))
	return unruled == nil && leaked == nil, nil
}

// lookThrough holds every value of a copy against those that were masked.
func (x *run) lookThrough(ctx context.Context, name string, b *sqldb.Bench) error {
	tables, err := b.Tables(ctx)
	if err != nil {
		return err
	}
	found := map[string]int{}
	for _, t := range tables {
		if t.Name == "goose_db_version" || name == stampData && !slices.Contains(append(copied, "tag"), t.Name) {
			continue
		}
		var read []string
		for _, c := range t.Columns {
			text := c.SQL()
			if b.Dialect() == sqldb.PostgreSQL {
				text += "::text"
			}
			read = append(read, text)
		}
		if len(read) == 0 {
			continue
		}
		err := b.Each(ctx, "SELECT "+strings.Join(read, ", ")+" FROM "+t.SQL(), func(row []any) error {
			for i, c := range t.Columns {
				x.lookAt(found, name+":"+t.String()+"."+c.Name, text(row[i]))
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	for _, field := range slices.Sorted(maps.Keys(found)) {
		x.e.Masking.Leaks = append(x.e.Masking.Leaks, fmt.Sprintf("%s has a value that another field masks, %d times", field, found[field]))
	}
	return nil
}

// lookAt looks at a value, and into it where it is a document.
func (x *run) lookAt(found map[string]int, field string, value any) {
	plain, ok := value.(string)
	if !ok || plain == "" {
		return
	}
	if strings.HasPrefix(plain, "{") || strings.HasPrefix(plain, "[") {
		if document, err := decodeAny(plain); err == nil {
			x.lookInto(found, field, document)
			return
		}
	}
	x.e.Masking.Looked++
	if x.masker.Seen().Has(plain) {
		found[field]++
	}
}

func (x *run) lookInto(found map[string]int, field string, value any) {
	switch value := value.(type) {
	case map[string]any:
		for key, one := range value {
			x.e.Masking.Looked++
			if x.masker.Seen().Has(key) {
				found[field+" (as a name)"]++
				key = "*"
			}
			x.lookInto(found, field+"."+key, one)
		}
	case []any:
		for _, one := range value {
			x.lookInto(found, field, one)
		}
	case string:
		x.lookAt(found, field, value)
	}
}

// lookAtBytes reads every byte of the copies.
func (x *run) lookAtBytes(ctx context.Context) error {
	seen := x.masker.Seen()
	values := append(slices.Clone(x.policy.Canaries), seen.Planted()...)
	canaries := len(values)
	values = append(values, x.telling(seen.Sample(sample))...)
	scanner := mask.NewScanner(values)
	x.e.Masking.Scanned = 0
	for _, name := range slices.Sorted(maps.Keys(x.benches())) {
		err := everyByte(ctx, x.benches()[name], func(part string, from io.Reader) error {
			read, found, err := scanner.Scan(from)
			x.e.Masking.Scanned += read
			for _, f := range found {
				what := "a value that was masked"
				if f.Value < canaries {
					what = "a canary"
				}
				x.e.Masking.Leaks = append(x.e.Masking.Leaks, fmt.Sprintf("the bytes of %s have %s in them, %s", part, what, f.How))
			}
			return err
		}, name)
		if err != nil {
			return err
		}
	}
	return nil
}

// telling are those of all values that are found nowhere by chance.
func (x *run) telling(all []string) (some []string) {
	for _, one := range all {
		if len(one) >= 8 && strings.ContainsAny(one, "0123456789@") {
			some = append(some, one)
		}
	}
	return some
}

// everyByte passes on all bytes of a database: its file, or what each table of
// PostgreSQL has, which keeps long values packed.
func everyByte(ctx context.Context, b *sqldb.Bench, do func(part string, from io.Reader) error, name string) error {
	if b.Dialect() == sqldb.SQLite {
		if err := b.Exec(ctx, "PRAGMA wal_checkpoint(TRUNCATE)"); err != nil {
			return err
		}
		file, err := os.Open(b.At)
		if err != nil {
			return err
		}
		return errors.Join(do(name, file), file.Close())
	}
	tables, err := b.Tables(ctx)
	if err != nil {
		return err
	}
	for _, t := range tables {
		from, to := io.Pipe()
		go func() { to.CloseWithError(b.Dump(ctx, t, to)) }()
		err := do(name+":"+t.String(), from)
		if err = errors.Join(err, from.Close()); err != nil {
			return err
		}
	}
	return nil
}

// decode reads a document; numbers stay as they are written.
func decode(plain string) (map[string]any, error) {
	value, err := decodeAny(plain)
	if err != nil {
		return nil, err
	}
	document, ok := value.(map[string]any)
	if !ok {
		return nil, errors.New("a stored document is no object")
	}
	return document, nil
}

func decodeAny(plain string) (value any, err error) {
	decoder := json.NewDecoder(bytes.NewReader([]byte(plain)))
	decoder.UseNumber()
	if err := decoder.Decode(&value); err != nil {
		return nil, errors.New("a stored document is not JSON")
	}
	return value, nil
}
