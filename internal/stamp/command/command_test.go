package command_test

import (
	"strings"
	"testing"
	"time"

	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/sqldb"
	"github.com/slipway/slipway/internal/sqldb/sqldbtest"
	"github.com/slipway/slipway/internal/stamp/command"
	"github.com/slipway/slipway/internal/stamp/device"
	"github.com/slipway/slipway/internal/stamp/migrations"
	"github.com/slipway/slipway/internal/stamp/twin"
)

var now = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

func open(t *testing.T) *command.Queues {
	t.Helper()
	db, err := sqldb.Open(t.Context(), sqldbtest.At(t), migrations.FS)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	if _, err := device.NewDevices(db, twin.NewStore(db)).Create(t.Context(), device.Spec{ID: "d"}, nil, now); err != nil {
		t.Fatal(err)
	}
	return command.NewQueues(db)
}

func send(t *testing.T, q *command.Queues, id, ack string) {
	t.Helper()
	if _, err := q.Send(t.Context(), link.SendMessage{DeviceID: "d", MessageID: id, Ack: ack, Body: []byte(id)}, now); err != nil {
		t.Fatal(err)
	}
}

func receive(t *testing.T, q *command.Queues, at time.Time) (command.Message, string) {
	t.Helper()
	m, lock, found, err := q.Receive(t.Context(), "d", at)
	if err != nil {
		t.Fatal(err)
	}
	if !found {
		return command.Message{}, ""
	}
	return m, lock
}

func heard(t *testing.T, q *command.Queues, at time.Time) string {
	t.Helper()
	batch, lock, err := q.ReceiveFeedback(t.Context(), at)
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, f := range batch {
		all = append(all, f.MessageID+" "+string(f.Status))
	}
	if lock != "" {
		if err := q.CompleteFeedback(t.Context(), lock, at); err != nil {
			t.Fatal(err)
		}
	}
	return strings.Join(all, ", ")
}

func TestALentMessageIsNobodyElsesUntilItsLockEnds(t *testing.T) {
	q := open(t)
	send(t, q, "a", "")
	first, lock := receive(t, q, now)
	if first.ID != "a" || lock == "" {
		t.Fatalf("got %+v", first)
	}
	if m, _ := receive(t, q, now.Add(command.LockTime-time.Second)); m.ID != "" {
		t.Errorf("lent out twice: %+v", m)
	}
	if waiting, err := q.Waiting(t.Context(), "d", now); err != nil || len(waiting) != 0 {
		t.Errorf("a connection would get %+v, %v", waiting, err)
	}
	late := now.Add(command.LockTime + time.Second)
	if err := q.Accept(t.Context(), "d", lock, late); !problem.Is(err, problem.Stale) {
		t.Errorf("settled with a lock that had ended: %v", err)
	}
	again, second := receive(t, q, late)
	if again.ID != "a" || second == lock || again.Deliveries != 1 {
		t.Errorf("got %+v", again)
	}
	if err := q.Accept(t.Context(), "other", second, late); !problem.Is(err, problem.Stale) {
		t.Errorf("another device settled it: %v", err)
	}
	if err := q.Accept(t.Context(), "d", second, late); err != nil {
		t.Error(err)
	}
	if m, _ := receive(t, q, late.Add(time.Hour)); m.ID != "" {
		t.Errorf("came back: %+v", m)
	}
}

func TestSendersHearWhatTheyAskedFor(t *testing.T) {
	q := open(t)
	for _, ack := range []string{"none", "positive", "negative", "full"} {
		send(t, q, "ok-"+ack, ack)
		_, lock := receive(t, q, now)
		if err := q.Accept(t.Context(), "d", lock, now); err != nil {
			t.Fatal(err)
		}
		send(t, q, "no-"+ack, ack)
		_, lock = receive(t, q, now)
		if err := q.Reject(t.Context(), "d", lock, now); err != nil {
			t.Fatal(err)
		}
	}
	if got := heard(t, q, now); got != "ok-positive Success, no-negative Rejected, ok-full Success, no-full Rejected" {
		t.Errorf("heard %q", got)
	}
	send(t, q, "late", "full")
	if err := q.Expire(t.Context(), now.Add(2*time.Hour)); err != nil {
		t.Fatal(err)
	}
	send(t, q, "purged", "negative")
	if n, err := q.Purge(t.Context(), "d", now); n != 1 || err != nil {
		t.Errorf("purged %d, %v", n, err)
	}
	if got := heard(t, q, now); got != "late Expired, purged Purged" {
		t.Errorf("heard %q", got)
	}
	if got := heard(t, q, now); got != "" {
		t.Errorf("heard again %q", got)
	}
}

func TestAMessagePutBackTooOftenIsGivenUp(t *testing.T) {
	q := open(t)
	send(t, q, "a", "full")
	for range command.MaxDeliveries {
		_, lock := receive(t, q, now)
		if err := q.Abandon(t.Context(), "d", lock, now); err != nil {
			t.Fatal(err)
		}
	}
	if m, _ := receive(t, q, now); m.ID != "" {
		t.Errorf("still there: %+v", m)
	}
	if got := heard(t, q, now); got != "a DeliveryCountExceeded" {
		t.Errorf("heard %q", got)
	}
}

func TestFeedbackWaitsForWhoTakesIt(t *testing.T) {
	q := open(t)
	arrived := q.Arrived.Next()
	send(t, q, "a", "full")
	_, lock := receive(t, q, now)
	if err := q.Accept(t.Context(), "d", lock, now); err != nil {
		t.Fatal(err)
	}
	select {
	case <-arrived:
	default:
		t.Error("nobody was told")
	}
	batch, first, err := q.ReceiveFeedback(t.Context(), now)
	if err != nil || len(batch) != 1 {
		t.Fatalf("%+v, %v", batch, err)
	}
	if got := heard(t, q, now); got != "" {
		t.Errorf("lent out twice: %q", got)
	}
	if err := q.AbandonFeedback(t.Context(), first, now); err != nil {
		t.Error(err)
	}
	if err := q.CompleteFeedback(t.Context(), first, now); !problem.Is(err, problem.Stale) {
		t.Errorf("completed after it was put back: %v", err)
	}
	if got := heard(t, q, now); got != "a Success" {
		t.Errorf("heard %q", got)
	}
}
