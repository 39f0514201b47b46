package endpoint

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/johannesboyne/gofakes3"
	"github.com/johannesboyne/gofakes3/backend/s3mem"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/parquet-go/parquet-go"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/outbound"
	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/sqldb/sqldbtest"
)

func options(t *testing.T) Options {
	t.Helper()
	guard, err := outbound.New([]string{"127.0.0.0/8", "::1"})
	if err != nil {
		t.Fatal(err)
	}
	return Options{Stamp: "test-1", Environment: "test", Route: "out", Guard: guard, Archive: t.TempDir()}
}

func open(t *testing.T, spec link.Endpoint, o Options) Endpoint {
	t.Helper()
	e, err := Open(spec, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	})
	return e
}

// messages are n messages of three devices over two hours.
func messages(t *testing.T, n int) []Message {
	t.Helper()
	at := time.Date(2026, 11, 21, 9, 59, 0, 0, time.UTC)
	all := make([]Message, n)
	for i := range n {
		r := link.LogRecord{DeviceID: fmt.Sprint("d.", i%3), Stamp: "test-1", Sequence: uint64(i + 1), EnqueuedTime: at.Add(time.Duration(i) * 20 * time.Second), Body: json.RawMessage(fmt.Sprint(`{"n":`, i, `}`))}
		var err error
		if all[i], err = Seal(r); err != nil {
			t.Fatal(err)
		}
	}
	return all
}

func TestWebhookSignsAndTellsWhatIsFinal(t *testing.T) {
	answer, retry := 200, ""
	var got *http.Request
	var body []byte
	receiver := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var err error
		if body, err = io.ReadAll(r.Body); err != nil {
			t.Error(err)
		}
		got = r
		w.Header().Set("Retry-After", retry)
		w.WriteHeader(answer)
		fmt.Fprint(w, "because")
	}))
	defer receiver.Close()
	key := bytes.Repeat([]byte("k"), 32)
	e := open(t, link.Endpoint{Webhook: &link.Webhook{URL: receiver.URL, Secret: "whsec_" + base64.StdEncoding.EncodeToString(key), Headers: map[string]string{"X-Team": "pumps"}, Timeout: 5}}, options(t))
	if err := e.Send(t.Context(), messages(t, 3)); err != nil {
		t.Fatal(err)
	}
	var records []link.LogRecord
	if err := json.Unmarshal(body, &records); err != nil || len(records) != 3 || records[2].DeviceID != "d.2" {
		t.Errorf("%s: %v", body, err)
	}
	if id := got.Header.Get("webhook-id"); id != "test-1.out.1-3" || got.Header.Get("X-Team") != "pumps" ||
		got.Header.Get("webhook-signature") != sign(key, id, got.Header.Get("webhook-timestamp"), body) {
		t.Errorf("headers %v", got.Header)
	}
	for code, want := range map[int]problem.Kind{400: problem.Invalid, 422: problem.Invalid, 413: problem.TooLarge, 404: problem.NotReady, 401: problem.NotReady, 500: problem.NotReady, 302: problem.NotReady} {
		answer = code
		if err := e.Send(t.Context(), messages(t, 1)); !problem.Is(err, want) || !strings.Contains(err.Error(), "because") {
			t.Errorf("%d: %v", code, err)
		}
	}
	answer, retry = 503, "7"
	if err := e.Send(t.Context(), messages(t, 1)); problem.Of(err).RetryAfter != 7*time.Second {
		t.Errorf("got %+v", problem.Of(err))
	}
}

// The reference vector of Standard Webhooks keeps the signature what other
// libraries expect.
func TestSignatureIsTheOneOthersCheck(t *testing.T) {
	key, err := base64.StdEncoding.DecodeString("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
	if err != nil {
		t.Fatal(err)
	}
	got := sign(key, "msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330", []byte(`{"test": 2432232314}`))
	if got != "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=" {
		t.Errorf("got %s", got)
	}
}

func TestWebhookStaysOutside(t *testing.T) {
	receiver := httptest.NewServer(http.NotFoundHandler())
	defer receiver.Close()
	o := options(t)
	var err error
	if o.Guard, err = outbound.New(nil); err != nil {
		t.Fatal(err)
	}
	e := open(t, link.Endpoint{Webhook: &link.Webhook{URL: receiver.URL, Timeout: 5}}, o)
	if err := e.Send(t.Context(), messages(t, 1)); !problem.Is(err, problem.Denied) {
		t.Errorf("got %v", err)
	}
}

func TestNATSPublishesAndStores(t *testing.T) {
	ns, err := server.NewServer(&server.Options{Host: "127.0.0.1", Port: -1, JetStream: true, StoreDir: t.TempDir(), Authorization: "secret", NoSigs: true, NoLog: true})
	if err != nil {
		t.Fatal(err)
	}
	ns.Start()
	defer func() { ns.Shutdown(); ns.WaitForShutdown() }()
	if !ns.ReadyForConnections(10 * time.Second) {
		t.Fatal("not ready")
	}
	nc, err := nats.Connect(ns.ClientURL(), nats.Token("secret"))
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	heard, err := nc.SubscribeSync("plain.>")
	if err != nil {
		t.Fatal(err)
	}
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
	plain := open(t, link.Endpoint{NATS: &link.NATS{URL: ns.ClientURL(), Subject: "plain.$device", Password: "secret"}}, options(t))
	if err := plain.Send(t.Context(), messages(t, 3)); err != nil {
		t.Fatal(err)
	}
	m, err := heard.NextMsg(5 * time.Second)
	if err != nil || m.Subject != "plain.d%2E0" || m.Header.Get("Slipway-Message-Id") != "test-1.out.1" {
		t.Errorf("%+v, %v", m, err)
	}
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	stored := open(t, link.Endpoint{NATS: &link.NATS{URL: ns.ClientURL(), Subject: "stored.all", Password: "secret", JetStream: true}}, options(t))
	if err := stored.Send(t.Context(), messages(t, 1)); err == nil {
		t.Error("no stream stores it, but it counts as sent")
	}
	stream, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "S", Subjects: []string{"stored.>"}})
	if err != nil {
		t.Fatal(err)
	}
	for range 2 { // the second time is a repetition
		if err := stored.Send(t.Context(), messages(t, 500)); err != nil {
			t.Fatal(err)
		}
	}
	info, err := stream.Info(t.Context())
	if err != nil || info.State.Msgs != 500 {
		t.Errorf("%+v, %v", info, err)
	}
}

// The messages are of some day long past, as after an outage of the endpoint.
func TestKafkaKeepsDevicesInOrder(t *testing.T) {
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(3, "telemetry"))
	if err != nil {
		t.Fatal(err)
	}
	defer cluster.Close()
	e := open(t, link.Endpoint{Kafka: &link.Kafka{Brokers: cluster.ListenAddrs(), Topic: "telemetry"}}, options(t))
	if err := e.Send(t.Context(), messages(t, 300)); err != nil {
		t.Fatal(err)
	}
	reader, err := kgo.NewClient(kgo.SeedBrokers(cluster.ListenAddrs()...), kgo.ConsumeTopics("telemetry"))
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	last, n := map[string]uint64{}, 0
	for n < 300 {
		fetches := reader.PollFetches(t.Context())
		if err := fetches.Err(); err != nil {
			t.Fatal(err)
		}
		fetches.EachRecord(func(r *kgo.Record) {
			var record link.LogRecord
			if err := json.Unmarshal(r.Value, &record); err != nil || record.DeviceID != string(r.Key) || record.Sequence <= last[record.DeviceID] {
				t.Errorf("%s after %d: %v", r.Value, last[record.DeviceID], err)
			}
			last[record.DeviceID] = record.Sequence
			n++
		})
	}
}

func TestPostgreSQLTakesEachMessageOnce(t *testing.T) {
	url := sqldbtest.PostgresURL(t)
	e := open(t, link.Endpoint{PostgreSQL: &link.PostgreSQL{URL: url, Table: "telemetry"}}, options(t))
	for range 2 {
		if err := e.Send(t.Context(), messages(t, 200)); err != nil {
			t.Fatal(err)
		}
	}
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	var n, sum int
	if err := conn.QueryRow(t.Context(), `SELECT count(*), sum((message->'body'->>'n')::int) FROM telemetry WHERE stamp = 'test-1' AND enqueued_at >= '2026-11-21 09:59:00Z'`).Scan(&n, &sum); err != nil || n != 200 || sum != 199*200/2 {
		t.Errorf("%d rows, sum %d, %v", n, sum, err)
	}
	bad := []Message{{DeviceID: "d", Sequence: 1000, EnqueuedTime: time.Now(), JSON: []byte(`{"nul":"\u0000"}`)}}
	if err := e.Send(t.Context(), bad); !problem.Is(err, problem.Invalid) {
		t.Errorf("what jsonb cannot hold: %v", err)
	}
}

func TestArchivesAreFilesByHour(t *testing.T) {
	o := options(t)
	for _, format := range []string{"jsonl", "parquet"} {
		e := open(t, link.Endpoint{Archive: &link.Archive{Directory: "a/" + format, Format: format}}, o)
		for range 2 { // the second time replaces the files
			if err := e.Send(t.Context(), messages(t, 200)); err != nil {
				t.Fatal(err)
			}
		}
		files, err := filepath.Glob(filepath.Join(o.Archive, "a", format, "environment=test/stamp=test-1/route=out/date=2026-11-21/hour=*/*"))
		if err != nil || len(files) != 3 {
			t.Fatalf("%v, %v", files, err)
		}
		n := 0
		for _, file := range files {
			n += rowsOf(t, file)
		}
		if n != 200 {
			t.Errorf("%s: %d messages in %v", format, n, files)
		}
	}
}

func rowsOf(t *testing.T, file string) (n int) {
	t.Helper()
	if strings.HasSuffix(file, ".parquet") {
		rows, err := parquet.ReadFile[row](file)
		if err != nil {
			t.Fatal(err)
		}
		return len(rows)
	}
	content, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return linesOf(t, content)
}

func linesOf(t *testing.T, content []byte) (n int) {
	t.Helper()
	unzipped, err := gzip.NewReader(bytes.NewReader(content))
	if err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(unzipped)
	for lines.Scan() {
		if !json.Valid(lines.Bytes()) {
			t.Errorf("not JSON: %s", lines.Bytes())
		}
		n++
	}
	return n
}

func TestArchiveGoesToABucket(t *testing.T) {
	backend := s3mem.New()
	store := httptest.NewServer(gofakes3.New(backend).Server())
	defer store.Close()
	e := open(t, link.Endpoint{Archive: &link.Archive{Format: "jsonl", S3: &link.S3{Endpoint: store.URL, Bucket: "iot", Prefix: "raw", Region: "eu-1", AccessKey: "key", SecretKey: "secret"}}}, options(t))
	if err := e.Send(t.Context(), messages(t, 10)); err == nil || problem.Is(err, problem.Invalid) {
		t.Errorf("without the bucket: %v", err)
	}
	if err := backend.CreateBucket("iot"); err != nil {
		t.Fatal(err)
	}
	if err := e.Send(t.Context(), messages(t, 10)); err != nil {
		t.Fatal(err)
	}
	const name = "raw/environment=test/stamp=test-1/route=out/date=2026-11-21/hour=09/00000000000000000001-00000000000000000003.jsonl.gz"
	object, err := backend.GetObject("iot", name, nil)
	if err != nil {
		t.Fatal(err)
	}
	content, err := io.ReadAll(object.Contents)
	if err != nil || linesOf(t, content) != 3 {
		t.Errorf("%d bytes, %v", len(content), err)
	}
}
