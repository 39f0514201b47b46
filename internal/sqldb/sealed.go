package sqldb

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/seal"
)

// Sealed is a column that is kept encrypted, by a key that is not in the
// database. What it holds in one row can be opened as that row's only.
type Sealed struct {
	Table string
	Key   []string // the columns of the table's primary key
	Name  string
	Bytes bool // a column of bytes, not of text
}

// of is the name that a value is sealed under.
func (c Sealed) of(key ...string) string {
	return c.Table + "." + c.Name + "/" + strings.Join(key, "/")
}

// Into is a destination of a scan: the opened value goes to dest. What key
// points to has to be scanned before.
func (c Sealed) Into(dest any, key ...*string) any { return &opening{c, dest, key} }

type opening struct {
	column Sealed
	dest   any
	key    []*string
}

// Scan is sql.Scanner's.
func (o *opening) Scan(kept any) error {
	var text string
	switch kept := kept.(type) {
	case string:
		text = kept
	case []byte:
		text = string(kept)
	case nil:
		return nil
	default:
		return fmt.Errorf("%s.%s holds a %T", o.column.Table, o.column.Name, kept)
	}
	key := make([]string, len(o.key))
	for i, part := range o.key {
		key[i] = *part
	}
	plain, err := seal.Open(o.column.of(key...), text)
	if err != nil {
		return err
	}
	switch dest := o.dest.(type) {
	case *[]byte:
		*dest = plain
	case *string:
		*dest = string(plain)
	default:
		return fmt.Errorf("a sealed column cannot be scanned into a %T", o.dest)
	}
	return nil
}

// Seal is plain as a statement stores it in a row's column. Nothing stays
// nothing. A database that was given no keys keeps it in the clear; planes give
// theirs keys when they open them.
func (tx *Tx) Seal(c Sealed, plain []byte, key ...string) any {
	if len(plain) == 0 && c.Bytes {
		return plain
	}
	text := string(plain)
	if k := tx.db.keys; k != nil {
		text = k.ring().Sealer(k.now()).Seal(c.of(key...), plain)
	}
	if c.Bytes {
		return []byte(text)
	}
	return text
}

// keys are what a database's secrets are sealed with.
type keys struct {
	source  seal.Source
	columns []Sealed
	now     func() time.Time
	current atomic.Pointer[seal.Ring]

	mu    sync.Mutex
	clean time.Time // since when nothing has been found under an older key
}

func (k *keys) ring() seal.Ring { return *k.current.Load() }

// use has the process open and seal with a ring from now on.
func (k *keys) use(ring seal.Ring) {
	ring.Keep()
	k.current.Store(&ring)
}

// KeepSealed has the database keep some columns sealed, with keys of a source,
// made where they are missing. What is there in the clear is sealed before it
// returns. RunSealing does the rest.
func (db *DB) KeepSealed(ctx context.Context, source seal.Source, columns []Sealed, now func() time.Time) error {
	k := &keys{source: source, columns: columns, now: now}
	ring, err := source.Read(ctx)
	if errors.Is(err, fs.ErrNotExist) {
		if err = db.unsealed(ctx, k); err == nil {
			ring, err = source.Make(ctx, now())
		}
	}
	if err != nil {
		return fmt.Errorf("sealing keys: %w", err)
	}
	k.use(ring)
	found, err := db.sealings(ctx, k)
	if err != nil {
		return err
	}
	plain := 0
	for id, count := range found {
		if id == "" {
			plain = count
		} else if !ring.Has(id) {
			return problem.New(problem.Conflict, "%d secrets in the database are sealed with the key %s, which is not in %s; put the keys back that belong to the database", count, id, source)
		}
	}
	db.keys = k
	if plain == 0 {
		return nil
	}
	if err := db.reseal(ctx, k, func(id string) bool { return id == "" }); err != nil {
		return err
	}
	return db.forget(ctx, columns)
}

// unsealed is an error where something is sealed though there are no keys.
func (db *DB) unsealed(ctx context.Context, k *keys) error {
	found, err := db.sealings(ctx, k)
	if err != nil {
		return err
	}
	for id, count := range found {
		if id != "" {
			return problem.New(problem.Conflict, "%d secrets in the database are sealed with the key %s, and %s is missing; put it back, from a backup or from the process that had the database before", count, id, k.source)
		}
	}
	return nil
}

// sealings counts what is kept by which key; the empty id is in the clear.
func (db *DB) sealings(ctx context.Context, k *keys) (map[string]int, error) {
	found := map[string]int{}
	for _, c := range k.columns {
		// Only what begins like a sealed text is told apart: the beginning of a
		// secret in the clear goes nowhere.
		begins := fmt.Sprintf("substr(%s, 1, %d)", c.Name, seal.PrefixSize)
		query := fmt.Sprintf("SELECT CASE WHEN substr(%s, 1, %d) = ? THEN %s ELSE ? END, count(*) FROM %s WHERE %s IS NOT NULL AND length(%s) > 0 GROUP BY 1",
			c.Name, len(seal.Mark()), begins, c.Table, c.Name, c.Name)
		rows, err := db.Query(ctx, query, c.value(seal.Mark()), c.value(""))
		if err != nil {
			return nil, err
		}
		for rows.Next() {
			var prefix []byte
			var count int
			if err := rows.Scan(&prefix, &count); err != nil {
				return nil, errors.Join(err, rows.Close())
			}
			found[seal.KeyOf(string(prefix))] += count
		}
		if err := errors.Join(rows.Err(), rows.Close()); err != nil {
			return nil, err
		}
	}
	return found, nil
}

// value is text as the column takes it.
func (c Sealed) value(text string) any {
	if c.Bytes {
		return []byte(text)
	}
	return text
}
