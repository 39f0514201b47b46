package promotion

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"

	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/resource"
	"github.com/slipway/slipway/internal/sqldb"
)

// The limits of telling webhooks.
const (
	noticeWait     = 10 * time.Second // how long one may take to answer
	noticeAttempts = 12               // then it is given up
	noticeFirst    = 2 * time.Second  // before the second attempt; each wait is twice the one before
	noticeLongest  = time.Hour
	noticesAtOnce  = 50
	maxSaid        = 300 // bytes kept of a refusal
)

// Told is what a webhook is told of a promotion.
type Told struct {
	Type      string    `json:"type"`
	Timestamp time.Time `json:"timestamp"`
	Data      struct {
		Promotion   string  `json:"promotion"`
		Environment string  `json:"environment"`
		Release     string  `json:"release"`
		Digest      string  `json:"digest"`
		State       State   `json:"state"`
		Automatic   bool    `json:"automatic,omitempty"`
		Back        bool    `json:"back,omitempty"`
		By          string  `json:"by"`
		Reason      string  `json:"reason,omitempty"`
		Blocks      []Block `json:"blocks,omitempty"`
		Rollout     string  `json:"rollout,omitempty"`
	} `json:"data"`
}

// Status is what a webhook is told in the form of a commit's status.
type Status struct {
	State       string `json:"state"`
	Context     string `json:"context"`
	Description string `json:"description"`
	Release     string `json:"release"`
	Source      string `json:"source,omitempty"`
}

// statuses are the states of a promotion as those of a commit.
var statuses = map[State]string{
	Succeeded: "success", Failed: "failure", RolledBack: "failure", Errored: "error", Aborted: "error", Superseded: "error",
}

// maxDescription is what the usual hosts of code take of a status.
const maxDescription = 140

func statusOf(p Promotion, c StateChange) Status {
	s := Status{State: statuses[c.State], Context: "slipway/" + p.Environment, Release: p.Release, Description: fmt.Sprintf("%s is %s", p.Release, c.State)}
	if s.State == "" {
		s.State = "pending"
	}
	if c.Reason != "" {
		s.Description += ": " + c.Reason
	}
	if runes := []rune(s.Description); len(runes) > maxDescription {
		s.Description = string(runes[:maxDescription-1]) + "…"
	}
	return s
}

func toldOf(p Promotion, c StateChange) Told {
	t := Told{Type: "promotion." + string(c.State), Timestamp: c.At}
	d := &t.Data
	d.Promotion, d.Environment, d.Release, d.Digest, d.State = p.ID, p.Environment, p.Release, p.Digest, c.State
	d.Automatic, d.Back, d.By, d.Reason, d.Rollout = p.Automatic, p.Back, c.By, c.Reason, p.Rollout
	if c.State == p.State {
		d.Blocks = p.Blocks
	}
	return t
}

// notice writes down what the environment's webhooks are to be told, in the
// change that it is about: it is told though the process dies before.
func (ps *Promotions) notice(ctx context.Context, tx *sqldb.Tx, p Promotion, c StateChange) error {
	text, found, err := sqldb.Row(ctx, tx, func(rows *sql.Rows) (text []byte, err error) { return text, rows.Scan(&text) }, "SELECT spec FROM environment WHERE name = ?", p.Environment)
	if err != nil || !found {
		return err
	}
	var spec resource.EnvironmentSpec
	if err := json.Unmarshal(text, &spec); err != nil || spec.Promotion == nil {
		return err
	}
	for _, w := range spec.Promotion.Webhooks {
		var said any = toldOf(p, c)
		if w.Format == resource.WebhookStatus {
			said = statusOf(p, c)
		}
		body, err := json.Marshal(said)
		if err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, "INSERT INTO promotion_notice (environment, webhook, url, body, attempts, next_at, last_error) VALUES (?, ?, ?, ?, 0, ?, '')",
			p.Environment, w.Name, w.URL, string(body), sqldb.Micros(ps.o.Now())); err != nil {
			return err
		}
	}
	return nil
}

// notice is one that is still to be told.
type notice struct {
	sequence     int64
	webhook, url string
	body         []byte
	attempts     int
}

func scanNotice(rows *sql.Rows) (n notice, err error) {
	return n, rows.Scan(&n.sequence, &n.webhook, &n.url, &n.body, &n.attempts)
}

// deliverAll tells webhooks what they are to be told until ctx ends.
func (ps *Promotions) deliverAll(ctx context.Context) error {
	client := ps.o.Guard.Client(noticeWait)
	defer client.CloseIdleConnections()
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		bell := ps.kick.Next()
		ps.complain(ctx, ps.deliver(ctx, client))
		select {
		case <-ctx.Done():
			return nil
		case <-bell:
		case <-tick.C:
		}
	}
}

// deliver tells what is due, each webhook in the order in which things
// happened: while one is not told, what came after waits.
func (ps *Promotions) deliver(ctx context.Context, client *http.Client) error {
	due, err := sqldb.Rows(ctx, ps.o.DB, scanNotice, `SELECT sequence, webhook, url, body, attempts FROM promotion_notice n
		WHERE next_at <= ? AND sequence = (SELECT min(sequence) FROM promotion_notice o WHERE o.environment = n.environment AND o.webhook = n.webhook)
		ORDER BY sequence LIMIT ?`, sqldb.Micros(ps.o.Now()), noticesAtOnce)
	if err != nil {
		return err
	}
	failed := make([]error, len(due))
	var each sync.WaitGroup
	for i, n := range due {
		each.Go(func() { failed[i] = ps.conclude(ctx, n, ps.post(ctx, client, n)) })
	}
	each.Wait()
	if err := errors.Join(failed...); err != nil {
		return err
	}
	if len(due) > 0 && ctx.Err() == nil {
		ps.kick.Ring() // what came after may go now
	}
	return nil
}

// conclude strikes out what was told, or has it told again later; what was
// tried often enough is given up.
func (ps *Promotions) conclude(ctx context.Context, n notice, failed error) error {
	if ctx.Err() != nil {
		return nil
	}
	wait := min(noticeFirst<<n.attempts, noticeLongest)
	return ps.o.DB.Commit(ctx, func(ctx context.Context, tx *sqldb.Tx) (err error) {
		if failed == nil || n.attempts+1 >= noticeAttempts {
			_, err = tx.Exec(ctx, "DELETE FROM promotion_notice WHERE sequence = ?", n.sequence)
		} else {
			_, err = tx.Exec(ctx, "UPDATE promotion_notice SET attempts = attempts + 1, next_at = ?, last_error = ? WHERE sequence = ?", sqldb.Micros(ps.o.Now().Add(wait)), problem.Of(failed).Error(), n.sequence)
		}
		if failed != nil {
			ps.o.Logger.Warn("a webhook was not told", "webhook", n.webhook, "attempt", n.attempts+1, "error", failed)
		}
		return err
	})
}

// post tells a webhook. Its id is the same each time, by which it knows
// repetitions.
func (ps *Promotions) post(ctx context.Context, client *http.Client, n notice) (err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, n.url, bytes.NewReader(n.body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("User-Agent", "slipway")
	if err := ps.o.Gates.Sign(ctx, req, fmt.Sprintf("promotion-notice-%d", n.sequence), n.body); err != nil {
		return err
	}
	resp, err := client.Do(req)
	if err != nil {
		return problem.New(problem.NotReady, "the webhook cannot be reached: %w", err)
	}
	defer func() { err = errors.Join(err, resp.Body.Close()) }()
	if resp.StatusCode/100 == 2 {
		return nil
	}
	said, _ := io.ReadAll(io.LimitReader(resp.Body, maxSaid))
	return problem.New(problem.NotReady, "the webhook answered %s: %q", resp.Status, said)
}
