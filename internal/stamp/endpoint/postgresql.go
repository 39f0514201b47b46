package endpoint

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/problem"
)

// postgreSQL inserts each message as a row, once: stamp, route and sequence
// are the key.
type postgreSQL struct {
	config  *pgx.ConnConfig
	table   string
	options Options
	conn    *pgx.Conn
}

func openPostgreSQL(spec link.PostgreSQL, o Options) (*postgreSQL, error) {
	address, err := withTLS(spec.URL)
	if err != nil {
		return nil, err
	}
	config, err := pgx.ParseConfig(address)
	if err != nil {
		return nil, problem.New(problem.Invalid, "the URL of the database cannot be read").At("spec.endpoint.postgresql.url")
	}
	config.DialFunc = o.Guard.DialContext
	config.ConnectTimeout = connectWait
	config.Password = spec.Password
	return &postgreSQL{config: config, table: pgx.Identifier(strings.Split(spec.Table, ".")).Sanitize(), options: o}, nil
}

// withTLS makes an encrypted, verified connection the default beyond this
// machine; the driver's would fall back to plain text.
func withTLS(address string) (string, error) {
	u, err := url.Parse(address)
	if err != nil {
		return "", problem.New(problem.Invalid, "the URL of the database cannot be read").At("spec.endpoint.postgresql.url")
	}
	values := u.Query()
	if ip := net.ParseIP(u.Hostname()); values.Get("sslmode") == "" && u.Hostname() != "localhost" && (ip == nil || !ip.IsLoopback()) {
		values.Set("sslmode", "verify-full")
		u.RawQuery = values.Encode()
	}
	return u.String(), nil
}

func (p *postgreSQL) connect(ctx context.Context) (err error) {
	if p.conn != nil && !p.conn.IsClosed() {
		return nil
	}
	if p.conn, err = pgx.ConnectConfig(ctx, p.config); err != nil {
		return err
	}
	_, err = p.conn.Exec(ctx, `CREATE TABLE IF NOT EXISTS `+p.table+` (
		stamp       text        NOT NULL,
		route       text        NOT NULL,
		sequence    bigint      NOT NULL,
		device_id   text        NOT NULL,
		enqueued_at timestamptz NOT NULL,
		message     jsonb       NOT NULL,
		PRIMARY KEY (stamp, route, sequence))`)
	return err
}

// Send implements Endpoint.
func (p *postgreSQL) Send(ctx context.Context, batch []Message) error {
	ctx, cancel := context.WithTimeout(ctx, sendWait)
	defer cancel()
	if err := p.connect(ctx); err != nil {
		return p.verdict(err)
	}
	sequences, devices, times, messages := make([]int64, len(batch)), make([]string, len(batch)), make([]string, len(batch)), make([]string, len(batch))
	for i, m := range batch {
		sequences[i], devices[i], messages[i] = int64(m.Sequence), m.DeviceID, string(m.JSON)
		times[i] = m.EnqueuedTime.UTC().Format("2006-01-02T15:04:05.999999999Z07:00")
	}
	_, err := p.conn.Exec(ctx, `INSERT INTO `+p.table+` (stamp, route, sequence, device_id, enqueued_at, message)
		SELECT $1, $2, s, d, t::timestamptz, m::jsonb FROM unnest($3::bigint[], $4::text[], $5::text[], $6::text[]) AS r (s, d, t, m)
		ON CONFLICT (stamp, route, sequence) DO NOTHING`, p.options.Stamp, p.options.Route, sequences, devices, times, messages)
	return p.verdict(err)
}

// verdict tells apart what the content is to blame for: classes 22 (data
// exception) and 23 (integrity constraint violation) of SQLSTATE.
func (p *postgreSQL) verdict(err error) error {
	var refused *pgconn.PgError
	if errors.As(err, &refused) && (strings.HasPrefix(refused.Code, "22") || strings.HasPrefix(refused.Code, "23")) {
		return problem.New(problem.Invalid, "postgresql: %s (SQLSTATE %s)", refused.Message, refused.Code)
	}
	if err != nil {
		return fmt.Errorf("postgresql: %w", err)
	}
	return nil
}

// Close implements Endpoint.
func (p *postgreSQL) Close() error {
	if p.conn == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), connectWait)
	defer cancel()
	return p.conn.Close(ctx)
}
