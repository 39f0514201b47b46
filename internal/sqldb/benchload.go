package sqldb

import (
	"bufio"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"

	"github.com/slipway/slipway/internal/problem"
)

// Fill puts rows into a table: rows is given what takes each.
func (b *Bench) Fill(ctx context.Context, t Table, columns []string, rows func(put func(row []any) error) error) error {
	if b.dialect == PostgreSQL {
		return b.fillPostgres(ctx, t, columns, rows)
	}
	statement := "INSERT INTO " + t.SQL() + " (" + quoted(columns) + ") VALUES (" + strings.TrimSuffix(strings.Repeat("?, ", len(columns)), ", ") + ")"
	tx, err := b.pool.BeginTx(ctx, nil)
	if err != nil {
		return asProblem(err)
	}
	prepared, err := tx.PrepareContext(ctx, statement)
	if err != nil {
		return errors.Join(asProblem(err), tx.Rollback())
	}
	err = rows(func(row []any) error {
		_, err := prepared.ExecContext(ctx, row...)
		return err
	})
	if err != nil {
		return errors.Join(asProblem(err), tx.Rollback())
	}
	return asProblem(tx.Commit())
}

func (b *Bench) fillPostgres(ctx context.Context, t Table, columns []string, rows func(put func([]any) error) error) error {
	from, to := io.Pipe()
	go func() {
		out := bufio.NewWriterSize(to, 1<<16)
		err := rows(func(row []any) error { return copyLine(out, row) })
		to.CloseWithError(errors.Join(err, out.Flush()))
	}()
	err := b.raw(ctx, func(server *pgx.Conn) error {
		_, err := server.PgConn().CopyFrom(ctx, from, fmt.Sprintf("COPY %s (%s) FROM STDIN", t.SQL(), quoted(columns)))
		return err
	})
	from.CloseWithError(io.ErrClosedPipe) // where the server gave up first
	return err
}

// copyLine writes a row as COPY reads it.
func copyLine(out *bufio.Writer, row []any) error {
	for i, value := range row {
		if i > 0 {
			if err := out.WriteByte('\t'); err != nil {
				return err
			}
		}
		var err error
		switch value := value.(type) {
		case nil:
			_, err = out.WriteString(`\N`)
		case []byte:
			_, err = out.WriteString(`\\x` + hex.EncodeToString(value))
		case int64:
			_, err = out.WriteString(strconv.FormatInt(value, 10))
		default:
			_, err = copyEscapes.WriteString(out, fmt.Sprint(value))
		}
		if err != nil {
			return err
		}
	}
	return out.WriteByte('\n')
}

var copyEscapes = strings.NewReplacer(`\`, `\\`, "\t", `\t`, "\n", `\n`, "\r", `\r`)

// raw does something with the driver's own connection of PostgreSQL.
func (b *Bench) raw(ctx context.Context, do func(*pgx.Conn) error) error {
	conn, err := b.pool.Conn(ctx)
	if err != nil {
		return asProblem(err)
	}
	err = conn.Raw(func(raw any) error { return do(raw.(*stdlib.Conn).Conn()) })
	return asProblem(errors.Join(err, conn.Close()))
}

// Dump writes all that a table of PostgreSQL has, as text.
func (b *Bench) Dump(ctx context.Context, t Table, to io.Writer) error {
	return b.raw(ctx, func(server *pgx.Conn) error {
		_, err := server.PgConn().CopyTo(ctx, to, "COPY (SELECT * FROM "+t.SQL()+") TO STDOUT")
		return err
	})
}

// Script runs statements one after the other on one connection of PostgreSQL,
// in one transaction if that is wanted. begun is told the number of the
// server's process first, and each of every statement that ended.
func (b *Bench) Script(ctx context.Context, statements []string, whole bool, begun func(pid uint32), each func(i int, took time.Duration, rows int64)) error {
	return b.raw(ctx, func(server *pgx.Conn) (err error) {
		conn := server.PgConn()
		begun(conn.PID())
		run := func(statement string) (int64, error) {
			results, err := conn.Exec(ctx, statement).ReadAll()
			var rows int64
			for _, r := range results {
				rows += r.CommandTag.RowsAffected()
			}
			return rows, err
		}
		if whole {
			if _, err := run("BEGIN"); err != nil {
				return err
			}
			defer func() {
				end := "COMMIT"
				if err != nil {
					end = "ROLLBACK"
				}
				_, failed := run(end)
				err = errors.Join(err, failed)
			}()
		}
		for i, statement := range statements {
			start := time.Now()
			rows, err := run(statement)
			if err != nil {
				return fmt.Errorf("statement %d: %w", i+1, err)
			}
			each(i, time.Since(start), rows)
		}
		return nil
	})
}

// CreateDatabase makes an empty database on a server of PostgreSQL, and returns
// its URL.
func CreateDatabase(ctx context.Context, server, name string) (string, error) {
	if !schemaName.MatchString(name) {
		return "", problem.New(problem.Invalid, "a database is named by a-z, 0-9 and '_', not %q", name)
	}
	b, err := OpenBench(server, false)
	if err != nil {
		return "", err
	}
	err = b.Exec(ctx, "CREATE DATABASE "+name+" TEMPLATE template0")
	if err = errors.Join(err, b.Close()); err != nil {
		return "", err
	}
	at, err := url.Parse(server)
	if err != nil {
		return "", errors.New("the URL of the server cannot be read")
	}
	values := at.Query()
	values.Del("search_path")
	at.Path, at.RawQuery = "/"+name, values.Encode()
	return at.String(), nil
}

// DropDatabases takes away the databases of a server whose names begin so, with
// whoever is connected to them, and tells how many there were.
func DropDatabases(ctx context.Context, server, prefix string) (dropped int, err error) {
	b, err := OpenBench(server, false)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, b.Close()) }()
	var names []string
	err = b.Each(ctx, "SELECT datname FROM pg_database WHERE starts_with(datname, ?)", func(row []any) error {
		names = append(names, fmt.Sprint(row[0]))
		return nil
	}, prefix)
	if err != nil {
		return 0, err
	}
	for _, name := range names {
		if err := b.Exec(ctx, "DROP DATABASE IF EXISTS "+pgx.Identifier{name}.Sanitize()+" WITH (FORCE)"); err != nil {
			return dropped, err
		}
		dropped++
	}
	return dropped, nil
}
