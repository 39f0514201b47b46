package gate

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"database/sql"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/resource"
	"github.com/slipway/slipway/internal/sqldb"
)

// Question is what a webhook is sent.
type Question struct {
	Environment string    `json:"environment"`
	Stamp       string    `json:"stamp,omitempty"`
	Upstream    string    `json:"upstream,omitempty"`
	Promotion   string    `json:"promotion"`
	Requester   string    `json:"requester"`
	Release     string    `json:"release"`
	Digest      string    `json:"digest"`
	Type        string    `json:"type"`
	Since       time.Time `json:"since"`
}

// maxWebhook bounds what a webhook answers.
const maxWebhook = 64 << 10

// answers are the verdicts that a webhook may give.
var answers = []Verdict{Pass, Warn, Fail, Inconclusive, Pending}

// webhook asks a program. Whatever is no verdict is an error: a page that says
// 200 to everything opens nothing.
func (g *Gates) webhook(ctx context.Context, now time.Time, gate resource.WebhookGate, s Subject) Result {
	ctx, done := context.WithTimeout(ctx, gate.Timeout.Duration(10*time.Second))
	defer done()
	r := Result{Query: "POST " + gate.URL, Threshold: "verdict pass or warn"}
	verdict, reason, err := g.post(ctx, now, gate.URL, s)
	if err != nil {
		r.Verdict, r.Reason = Error, reasonOf(err)
		return r
	}
	r.Verdict, r.Reason, r.Samples = verdict, reason, 1
	return r
}

func (g *Gates) post(ctx context.Context, now time.Time, url string, s Subject) (Verdict, string, error) {
	text, err := json.Marshal(Question{
		Environment: s.Environment, Stamp: s.Stamp, Upstream: s.Upstream, Promotion: s.Promotion, Requester: s.Requester,
		Release: s.Release.Name, Digest: s.Release.Digest, Type: s.Release.Spec.Type, Since: s.Since,
	})
	if err != nil {
		return "", "", err
	}
	req, err := http.NewRequestWithContext(ctx, "POST", url, bytes.NewReader(text))
	if err != nil {
		return "", "", problem.New(problem.Invalid, "%w", err)
	}
	key, err := g.key(ctx)
	if err != nil {
		return "", "", err
	}
	sign(req, key, "msg_"+rand.Text(), now, text)
	answer, err := g.webhooks.Do(req)
	if err != nil {
		return "", "", problem.New(problem.NotReady, "the webhook did not answer: %w", err)
	}
	defer answer.Body.Close()
	said, err := io.ReadAll(io.LimitReader(answer.Body, maxWebhook+1))
	if err != nil {
		return "", "", problem.New(problem.NotReady, "the webhook did not answer to the end: %w", err)
	}
	return readWebhook(answer.StatusCode, said)
}

// readWebhook reads a webhook's answer: {"verdict": "pass", "reason": "…"}.
func readWebhook(status int, said []byte) (Verdict, string, error) {
	var answer struct {
		Verdict Verdict `json:"verdict"`
		Reason  string  `json:"reason"`
	}
	switch {
	case status < 200 || status > 299:
		return "", "", problem.New(problem.NotReady, "the webhook answered %d %s", status, http.StatusText(status))
	case len(said) > maxWebhook:
		return "", "", problem.New(problem.TooLarge, "the webhook answered with more than %d bytes", maxWebhook)
	}
	if err := json.Unmarshal(said, &answer); err != nil || !slices.Contains(answers, answer.Verdict) {
		return "", "", problem.New(problem.Invalid, "the webhook answered %d without a verdict; it must say one of %v, with a reason", status, answers)
	}
	if answer.Reason == "" {
		answer.Reason = "the webhook gave no reason"
	}
	return answer.Verdict, shortened(answer.Reason, maxMessage), nil
}

// sign signs a request as Standard Webhooks do, with a key whose public half
// everybody may know: no secret stands in a declaration.
func sign(req *http.Request, key ed25519.PrivateKey, id string, now time.Time, body []byte) {
	at := strconv.FormatInt(now.Unix(), 10)
	signature := ed25519.Sign(key, fmt.Appendf(nil, "%s.%s.%s", id, at, body))
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Webhook-Id", id)
	req.Header.Set("Webhook-Timestamp", at)
	req.Header.Set("Webhook-Signature", "v1a,"+base64.StdEncoding.EncodeToString(signature))
}

// PublicKey is what webhooks check signatures with, as Standard Webhooks write
// it.
func (g *Gates) PublicKey(ctx context.Context) (string, error) {
	key, err := g.key(ctx)
	if err != nil {
		return "", err
	}
	return "whpk_" + base64.StdEncoding.EncodeToString(key.Public().(ed25519.PublicKey)), nil
}

// keptSeed is that of the key that signs, which is sealed.
var keptSeed = sqldb.Sealed{Table: "gate_key", Key: []string{"id"}, Name: "seed"}

// Sealed are the columns that hold secrets.
var Sealed = []sqldb.Sealed{keptSeed}

// key is what webhooks are signed with, made when it is first needed.
func (g *Gates) key(ctx context.Context) (ed25519.PrivateKey, error) {
	const query = "SELECT id, seed FROM gate_key WHERE id = 1"
	scan := func(rows *sql.Rows) (seed string, err error) {
		var id string
		err = rows.Scan(&id, keptSeed.Into(&seed, &id))
		return seed, err
	}
	text, found, err := sqldb.Row(ctx, g.DB, scan, query)
	if err != nil {
		return nil, err
	}
	if !found {
		seed := make([]byte, ed25519.SeedSize)
		if _, err := rand.Read(seed); err != nil {
			return nil, err
		}
		if err := g.DB.Commit(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
			if _, err := tx.Exec(ctx, "INSERT INTO gate_key (id, seed) VALUES (1, ?) ON CONFLICT (id) DO NOTHING", tx.Seal(keptSeed, []byte(base64.StdEncoding.EncodeToString(seed)), "1")); err != nil {
				return err
			}
			text, _, err = sqldb.Row(ctx, tx, scan, query)
			return err
		}); err != nil {
			return nil, err
		}
	}
	seed, err := base64.StdEncoding.DecodeString(text)
	if err != nil || len(seed) != ed25519.SeedSize {
		return nil, fmt.Errorf("the key that webhooks are signed with is damaged: %w", err)
	}
	return ed25519.NewKeyFromSeed(seed), nil
}
