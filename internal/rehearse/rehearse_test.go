package rehearse_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/slipway/slipway/internal/control/rehearsal"
	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/mask"
	"github.com/slipway/slipway/internal/rehearse"
	"github.com/slipway/slipway/internal/resource"
	"github.com/slipway/slipway/internal/sqldb"
	"github.com/slipway/slipway/internal/sqldb/sqldbtest"
	"github.com/slipway/slipway/internal/stamp/migrations"
)

// devices is how many the rehearsed stamps have.
func devices(t testing.TB) int {
	text := os.Getenv("SLIPWAY_REHEARSAL_DEVICES")
	if text == "" {
		return 500
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// owner is somebody to whom devices belong.
func owner(i int) string { return fmt.Sprintf("person-%d@customer.example", i%(1+i/3)) }

// stampAt fills a stamp's database of some version.
func stampAt(t testing.TB, at string, version int64, n int) {
	t.Helper()
	ctx := t.Context()
	if err := sqldb.Prepare(ctx, at, migrations.FS, version); err != nil {
		t.Fatal(err)
	}
	b, err := sqldb.OpenBench(at, false)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	row := func(put func([]any) error, row ...any) {
		if err := put(row); err != nil {
			t.Fatal(err)
		}
	}
	err = b.Fill(ctx, sqldb.Table{Name: "device"}, strings.Fields("device_id generation_id epoch status enrollment auth_type primary_key secondary_key primary_thumbprint secondary_thumbprint ca model_id subscriptions connected messages created_at"), func(put func([]any) error) error {
		for i := range n {
			row(put, fmt.Sprintf("pump-%06d", i), fmt.Sprintf("generation-%d", i), int64(1), "enabled", "line-7", "sas", []byte(fmt.Sprintf("secret-key-of-%06d", i)), []byte("0123456789abcdef0123456789abcdef"), "", "", "", "", int64(0), int64(0), int64(i), int64(1_700_000_000_000_000))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	err = b.Fill(ctx, sqldb.Table{Name: "twin"}, strings.Fields("device_id version etag_version tags desired desired_meta desired_version reported reported_meta reported_version"), func(put func([]any) error) error {
		for i := range n {
			tags := fmt.Sprintf(`{"location":{"site":"hall-%d","floor":%d},"owner":"%s","serial":"SN-%08d"}`, i%40, i%5, owner(i), i*7)
			reported := fmt.Sprintf(`{"firmware":"1.%d.0","temperature":%d.5,"gps":{"lat":%d.123456,"lon":11.5}}`, i%9, 20+i%15, i%90)
			row(put, fmt.Sprintf("pump-%06d", i), int64(1), int64(1), tags, `{"interval":30}`, `{}`, int64(1), reported, `{}`, int64(1))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// policy masks what stampAt makes.
var policy = mask.Policy{
	Classes: map[string]string{"location": mask.Generalise},
	Fields: []mask.Rule{
		{Field: "tags.owner", Class: "personal", Mask: mask.Fake, Format: "email"},
		{Field: "tags.serial", Class: "personal"},
		{Field: "tags.location.**", Class: "technical"},
		{Field: "reported.gps.*", Class: "location", Step: 1},
		{Field: "reported.**", Class: "technical"},
		{Field: "desired.**", Class: "technical"},
		{Field: "orders:*.id", Class: "personal"},
		{Field: "orders:*.customer", Class: "personal"},
		{Field: "orders:customers.email", Class: "personal", Mask: mask.Fake, Format: "email"},
		{Field: "orders:customers.phone", Class: "secret"},
		{Field: "orders:**", Class: "technical"},
	},
}

func twinMigration(up string) link.Migration { return link.Migration{Name: "m", Kind: "twin", Up: up} }

// try runs a rehearsal and judges it.
func try(t testing.TB, r *rehearse.Runner, work link.RehearsalWork, p mask.Policy) (rehearsal.Rehearsal, link.RehearsalEvidence) {
	t.Helper()
	text, err := json.Marshal(p)
	if err != nil {
		t.Fatal(err)
	}
	work.Rehearsal, work.Environment, work.Stamp, work.Masking = "r", "production", "eu-1", text
	if work.Limits.WaitSeconds == 0 { // the machine may be busy
		work.Limits = (*resource.RehearsalSpec)(nil).Limits()
		work.Limits.WaitSeconds = 30
	}
	r.Scratch, r.Logger = t.TempDir(), slog.New(slog.DiscardHandler)
	e := r.Run(context.Background(), work)
	verdict, reasons := rehearsal.Judge(e, work.Release, work.Limits)
	if left, err := filepath.Glob(filepath.Join(r.Scratch, "*")); err != nil || len(left) > 0 || !e.Destroyed {
		t.Errorf("copies are left: %v, %v", left, err)
	}
	if testing.Verbose() {
		for _, s := range e.Steps {
			t.Logf("%-50s %6d ms %s", s.Name, s.Milliseconds, s.Detail)
		}
		for _, m := range e.Migrations {
			t.Logf("%s %s: %d ms, %d rows, others waited %d ms for %s, %d to %d bytes, %v", m.Kind, m.Name, m.Milliseconds, m.Rows, m.WaitMillis, m.WaitedFor, m.Before, m.After, m.Locks)
		}
	}
	return rehearsal.Rehearsal{Verdict: verdict, Reasons: reasons}, e
}

// TestRehearsals shows what a rehearsal of twins finds.
func TestRehearsals(t *testing.T) {
	t.Parallel()
	at := filepath.Join(t.TempDir(), "stamp.db")
	known, err := sqldb.Known(migrations.FS)
	if err != nil {
		t.Fatal(err)
	}
	stampAt(t, at, known, devices(t))
	reads := func(schema string) *link.Reads { return &link.Reads{Twin: json.RawMessage(schema)} }
	needsSite := reads(`{"properties":{"tags":{"required":["location"],"properties":{"location":{"required":["site"]}}}}}`)
	kept := policy
	kept.Fields = append([]mask.Rule{{Field: "tags.owner", Class: "technical"}, {Field: "tags.serial", Class: "technical"}}, policy.Fields...)
	tests := map[string]struct {
		migration link.Migration
		running   *link.Reads
		reads     *link.Reads
		masking   mask.Policy
		verdict   string
		says      string
	}{
		"a good one":                      {twinMigration(`.tags.site = .tags.location.site | .properties.desired.interval *= 1000`), needsSite, needsSite, policy, link.Pass, ""},
		"one that also leads back":        {link.Migration{Name: "m", Kind: "twin", Up: `.tags.site = .tags.location.site`, Down: `del(.tags.site)`}, nil, nil, policy, link.Pass, ""},
		"one that loses data":             {twinMigration(`.tags.site = .tags.location.site | del(.tags.serial)`), needsSite, nil, policy, link.Fail, "kept, twins, m: values of"},
		"a loss that is meant":            {link.Migration{Name: "m", Kind: "twin", Up: `del(.tags.serial)`, Drops: []string{"tags.serial"}}, needsSite, nil, policy, link.Pass, ""},
		"one that old code cannot read":   {twinMigration(`.tags.site = .tags.location.site | .tags.floor = .tags.location.floor | del(.tags.location)`), needsSite, nil, policy, link.Fail, "old code, twins, m: the program of v1, which runs there, cannot read"},
		"the same, of code that is mute":  {twinMigration(`.tags.site = .tags.location.site | .tags.floor = .tags.location.floor | del(.tags.location)`), nil, nil, policy, link.Fail, "tags.location is gone"},
		"new code that wants it migrated": {twinMigration(`.tags.site = .tags.location.site`), nil, reads(`{"properties":{"tags":{"required":["site"]}}}`), policy, link.Fail, "on data as it was"},
		"a way back that is none":         {link.Migration{Name: "m", Kind: "twin", Up: `.tags.site = .tags.location.site`, Down: `.`}, nil, nil, policy, link.Fail, "way back, twins, m"},
		"a broken invariant": {link.Migration{Name: "m", Kind: "twin", Up: `.tags.location.floor = "1"`, Invariants: []link.Invariant{{Name: "floors are numbers", Holds: `.tags.location.floor | type == "number"`}}}, needsSite, nil, policy, link.Fail,
			"floors are numbers"},
		"a field without a rule": {twinMigration(`.`), nil, nil, mask.Policy{Classes: policy.Classes, Fields: policy.Fields[1:]}, link.Fail, "mask: 1 fields have no rule, and so are not in the copy: tags.owner"},
		"one that a hub refuses": {twinMigration(`.tags["a b"] = 1`), nil, nil, policy, link.Fail, "are not what a hub takes"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			work := link.RehearsalWork{Release: link.Release{Name: "v2", Digest: "2", Spec: link.ReleaseSpec{Migrations: []link.Migration{test.migration}, Reads: test.reads}}}
			work.Running = &link.Release{Name: "v1", Digest: "1", Spec: link.ReleaseSpec{Reads: test.running}}
			got, e := try(t, &rehearse.Runner{Database: at}, work, test.masking)
			if all := strings.Join(got.Reasons, "\n"); got.Verdict != test.verdict || !strings.Contains(all, test.says) {
				t.Fatalf("verdict %s: %s\n%s", got.Verdict, all, e.Failure)
			}
		})
	}
}

// TestLeaks shows that what one field masks is found where another keeps it,
// however it is written there.
func TestLeaks(t *testing.T) {
	t.Parallel()
	at := filepath.Join(t.TempDir(), "stamp.db")
	stampAt(t, at, 40, 30)
	b, err := sqldb.OpenBench(at, false)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	canary := "canary-of-production-4711"
	p := policy
	p.Canaries = []string{canary}
	tests := map[string]string{
		"plainly":         `{"note":"person-0@customer.example"}`,
		"as a word":       `{"note":"ask person-0@customer.example, please"}`,
		"in base64":       `{"note":"cGVyc29uLTBAY3VzdG9tZXIuZXhhbXBsZQ=="}`,
		"in hex":          `{"note":"706572736f6e2d3040637573746f6d65722e6578616d706c65"}`,
		"as a name":       `{"person-0@customer.example":1}`,
		"a device":        `{"note":"pump-000003"}`,
		"a canary":        `{"note":"canary-of-production-4711"}`,
		"a canary inside": `{"note":"xxYWNhbmFyeS1vZi1wcm9kdWN0aW9uLTQ3MTFhyy"}`, // in base64, one byte further
		"nothing":         `{"note":"all is well"}`,
	}
	for name, reported := range tests {
		if err := b.Exec(t.Context(), "UPDATE twin SET reported = ? WHERE device_id = 'pump-000020'", reported); err != nil {
			t.Fatal(err)
		}
		got, e := try(t, &rehearse.Runner{Database: at}, link.RehearsalWork{Release: link.Release{Name: "v2"}}, p)
		want := link.Fail
		if name == "nothing" {
			want = link.Pass
		}
		if got.Verdict != want || want == link.Fail && len(e.Masking.Leaks) == 0 {
			t.Errorf("%s: %s, %v, %v", name, got.Verdict, got.Reasons, e.Masking.Leaks)
		}
		for _, leak := range append(got.Reasons, e.Masking.Leaks...) {
			if strings.Contains(leak, "person-") || strings.Contains(leak, canary) {
				t.Errorf("the evidence tells what leaked: %s", leak)
			}
		}
	}
}

// TestSlipwaysOwnTables brings tables of an earlier version up to date.
func TestSlipwaysOwnTables(t *testing.T) {
	t.Parallel()
	at := filepath.Join(t.TempDir(), "stamp.db")
	stampAt(t, at, 12, 300)
	got, e := try(t, &rehearse.Runner{Database: at}, link.RehearsalWork{Release: link.Release{Name: "v2"}}, policy)
	if got.Verdict != link.Pass || len(e.Migrations) != 1 || e.Migrations[0].Kind != "slipway" || len(e.Migrations[0].Statements) < 2 || e.Devices != 300 {
		t.Errorf("%s: %v; %+v", got.Verdict, got.Reasons, e.Migrations)
	}
}

const shop = `
CREATE TABLE customers (id bigint PRIMARY KEY, email text NOT NULL UNIQUE, phone text, joined date NOT NULL, plan text NOT NULL DEFAULT 'basic');
CREATE TABLE orders (id bigint PRIMARY KEY, customer bigint NOT NULL REFERENCES customers, total numeric(10,2) NOT NULL, note jsonb);
CREATE INDEX orders_customer ON orders (customer);
CREATE FUNCTION shout(text) RETURNS text LANGUAGE sql AS $$ SELECT upper($1); -- a semicolon; in a body
$$;`

// TestDatabases shows what a rehearsal of the solution's databases finds.
func TestDatabases(t *testing.T) {
	t.Parallel()
	server := sqldbtest.PostgresURL(t)
	n := devices(t)
	from, err := sqldb.CreateDatabase(t.Context(), server, "shop")
	if err != nil {
		t.Fatal(err)
	}
	b, err := sqldb.OpenBench(from, false)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	for _, statement := range append(rehearse.Statements(shop),
		fmt.Sprintf("INSERT INTO customers SELECT i, 'person-' || i || '@customer.example', '+49 170 ' || i + 1000000, '2024-03-17' FROM generate_series(1, %d) i", n),
		fmt.Sprintf(`INSERT INTO orders SELECT i, 1 + i %% %d, i / 100.0, '{"gift": true}' FROM generate_series(1, %d) i`, n, 2*n)) {
		if err := b.Exec(t.Context(), statement); err != nil {
			t.Fatal(err)
		}
	}
	at := filepath.Join(t.TempDir(), "stamp.db")
	stampAt(t, at, 40, 50)
	old := []link.ReadQuery{
		{Database: "orders", SQL: "SELECT id, email, phone FROM customers ORDER BY id LIMIT 10"},
		{Database: "orders", SQL: "INSERT INTO customers (id, email, joined) VALUES (-1, 'x', '2024-01-01')"},
	}
	sql := func(up string, more ...func(*link.Migration)) link.Migration {
		m := link.Migration{Name: "m", Kind: "sql", Database: "orders", Up: up}
		for _, change := range more {
			change(&m)
		}
		return m
	}
	tests := map[string]struct {
		migration link.Migration
		running   []link.ReadQuery
		reads     []link.ReadQuery
		verdict   string
		says      string
	}{
		"a good one": {sql("ALTER TABLE customers ADD COLUMN country text; CREATE INDEX customers_joined ON customers (joined);", func(m *link.Migration) {
			m.Down = "DROP INDEX customers_joined; ALTER TABLE customers DROP COLUMN country"
			m.Invariants = []link.Invariant{{Name: "what was sold", Holds: "SELECT count(*), sum(total) FROM orders JOIN customers c ON c.id = customer"}}
		}), old, nil, link.Pass, ""},
		"one that locks too long":       {sql("ALTER TABLE customers ADD COLUMN country text; SELECT pg_sleep(1.5)"), old, nil, link.Fail, "locks, m: others waited"},
		"one that loses rows":           {sql("DELETE FROM orders WHERE total < 3"), old, nil, link.Fail, "kept, orders, m: orders has"},
		"one that loses a column":       {sql("ALTER TABLE customers DROP COLUMN joined; ALTER TABLE customers ADD COLUMN joined date"), nil, nil, link.Fail, "customers.joined has 0 of"},
		"one that old code cannot read": {sql("ALTER TABLE customers RENAME COLUMN phone TO mobile", func(m *link.Migration) { m.Drops = []string{"customers.phone"} }), old, nil, link.Fail, "statement 1 of v1"},
		"one that old code cannot write": {sql("ALTER TABLE customers ADD COLUMN country text NOT NULL DEFAULT 'x'; ALTER TABLE customers ALTER COLUMN country DROP DEFAULT"), old, nil, link.Fail,
			"statement 2 of v1"},
		"the same, of code that is mute": {sql("ALTER TABLE customers ADD COLUMN country text NOT NULL DEFAULT 'x'; ALTER TABLE customers ALTER COLUMN country DROP DEFAULT"), nil, nil, link.Fail, "must have a value, which programs of before do not give"},
		"new code on old tables":         {sql("ALTER TABLE customers ADD COLUMN country text"), old, []link.ReadQuery{{Database: "orders", SQL: "SELECT country FROM customers"}}, link.Fail, "statement 1 of v2"},
		"a broken invariant": {sql("UPDATE orders SET total = total * 2", func(m *link.Migration) {
			m.Invariants = []link.Invariant{{Name: "what was sold", Holds: "SELECT sum(total) FROM orders"}}
		}), old, nil, link.Fail, "what was sold answers otherwise"},
		"one that does not run": {sql("ALTER TABLE nobody ADD COLUMN x text"), old, nil, link.Fail, "migrate, orders, m"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			work := link.RehearsalWork{Release: link.Release{Name: "v2", Digest: "2", Spec: link.ReleaseSpec{Migrations: []link.Migration{test.migration}, Reads: &link.Reads{Queries: test.reads}}}}
			work.Running = &link.Release{Name: "v1", Digest: "1", Spec: link.ReleaseSpec{Reads: &link.Reads{Queries: test.running}}}
			if strings.HasPrefix(test.says, "locks") {
				work.Limits = (*resource.RehearsalSpec)(nil).Limits()
			}
			got, e := try(t, &rehearse.Runner{Database: at, Databases: map[string]string{"orders": from}, Server: server}, work, policy)
			if all := strings.Join(got.Reasons, "\n"); got.Verdict != test.verdict || !strings.Contains(all, test.says) {
				t.Fatalf("verdict %s: %s\n%s", got.Verdict, all, e.Failure)
			}
		})
	}
	left := 0
	if err := b.Each(t.Context(), "SELECT count(*) FROM pg_database WHERE datname LIKE 'slipway_rehearsal%'", func(row []any) error { left = int(row[0].(int64)); return nil }); err != nil || left > 0 {
		t.Errorf("%d copies are left on the server, %v", left, err)
	}
}
