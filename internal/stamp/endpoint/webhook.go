package endpoint

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/problem"
)

// webhook posts batches as JSON arrays, signed as Standard Webhooks says:
// HMAC-SHA256 over "id.timestamp.body".
type webhook struct {
	spec    link.Webhook
	key     []byte
	client  *http.Client
	options Options
}

func openWebhook(spec link.Webhook, o Options) (*webhook, error) {
	w := &webhook{spec: spec, options: o, client: o.Guard.Client(time.Duration(spec.Timeout) * time.Second)}
	if spec.Secret == "" {
		return w, nil
	}
	var err error
	if w.key, err = base64.StdEncoding.DecodeString(strings.TrimPrefix(spec.Secret, "whsec_")); err != nil {
		return nil, fmt.Errorf("the webhook's secret: %w", err)
	}
	return w, nil
}

// Send implements Endpoint.
func (w *webhook) Send(ctx context.Context, batch []Message) (err error) {
	body := arrayOf(batch)
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, w.spec.URL, bytes.NewReader(body))
	if err != nil {
		return err
	}
	for name, value := range w.spec.Headers {
		r.Header.Set(name, value)
	}
	id := w.options.ID(batch[0].Sequence)
	if len(batch) > 1 {
		id += "-" + strconv.FormatUint(batch[len(batch)-1].Sequence, 10)
	}
	at := strconv.FormatInt(time.Now().Unix(), 10)
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("User-Agent", "slipway")
	r.Header.Set("webhook-id", id)
	r.Header.Set("webhook-timestamp", at)
	if w.key != nil {
		r.Header.Set("webhook-signature", sign(w.key, id, at, body))
	}
	resp, err := w.client.Do(r)
	if err != nil {
		return err
	}
	defer resp.Body.Close() // read as far as it matters
	said, err := io.ReadAll(io.LimitReader(resp.Body, maxSaid))
	if err != nil {
		said = nil
	}
	return verdict(resp, said)
}

// maxSaid is how much of a refusal is kept.
const maxSaid = 300

func sign(key []byte, id, at string, body []byte) string {
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(id + "." + at + "."))
	mac.Write(body)
	return "v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil))
}

// arrayOf joins messages to a JSON array.
func arrayOf(batch []Message) []byte {
	size := 1
	for _, m := range batch {
		size += len(m.JSON) + 1
	}
	body := append(make([]byte, 0, size), '[')
	for i, m := range batch {
		if i > 0 {
			body = append(body, ',')
		}
		body = append(body, m.JSON...)
	}
	return append(body, ']')
}

// verdict tells what an answer means for the batch. Only what says that the
// content is wrong ends it; a wrong address or key is mended by people.
func verdict(resp *http.Response, said []byte) error {
	if resp.StatusCode/100 == 2 {
		return nil
	}
	text := fmt.Sprintf("the endpoint answered %s", resp.Status)
	if len(said) > 0 {
		text += ": " + strings.ToValidUTF8(string(said), "?")
	}
	switch resp.StatusCode {
	case http.StatusBadRequest, http.StatusUnsupportedMediaType, http.StatusUnprocessableEntity:
		return problem.New(problem.Invalid, "%s", text)
	case http.StatusRequestEntityTooLarge:
		return problem.New(problem.TooLarge, "%s", text)
	}
	return problem.New(problem.NotReady, "%s", text).After(retryAfter(resp.Header.Get("Retry-After"), time.Now()))
}

// maxRetryAfter bounds what an endpoint may ask for.
const maxRetryAfter = 10 * time.Minute

func retryAfter(text string, now time.Time) time.Duration {
	if seconds, err := strconv.Atoi(text); err == nil && seconds > 0 {
		return min(time.Duration(seconds)*time.Second, maxRetryAfter)
	}
	if at, err := http.ParseTime(text); err == nil {
		return max(0, min(at.Sub(now), maxRetryAfter))
	}
	return 0
}

// Close implements Endpoint.
func (w *webhook) Close() error {
	w.client.CloseIdleConnections()
	return nil
}
