package promotion_test

import (
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/slipway/slipway/internal/resource"
)

// hooks are two webhooks that keep what they are told; they refuse the first.
type hooks struct {
	mu      sync.Mutex
	told    map[string][]string // type or state, by webhook
	refused bool
	request *http.Request // the last event, with its body
	body    []byte
}

func (h *hooks) serve(t *testing.T) string {
	t.Helper()
	h.told = map[string][]string{}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		h.mu.Lock()
		defer h.mu.Unlock()
		if !h.refused {
			h.refused = true
			http.Error(w, "not now", http.StatusServiceUnavailable)
			return
		}
		var said struct{ Type, State string }
		if err := json.Unmarshal(body, &said); err != nil {
			t.Error(err)
		}
		which := strings.TrimPrefix(r.URL.Path, "/")
		h.told[which] = append(h.told[which], said.Type+said.State)
		h.request, h.body = r, body
	}))
	t.Cleanup(server.Close)
	return server.URL
}

func (h *hooks) policy(url string) *resource.PromotionSpec {
	return &resource.PromotionSpec{Webhooks: []resource.PromotionWebhook{{Name: "chat", URL: url + "/event"}, {Name: "forge", URL: url + "/status", Format: resource.WebhookStatus}}}
}

func (h *hooks) last(which string) string {
	h.mu.Lock()
	defer h.mu.Unlock()
	if n := len(h.told[which]); n > 0 {
		return h.told[which][n-1]
	}
	return ""
}

func (h *hooks) check(t *testing.T, w *world) {
	t.Helper()
	h.mu.Lock()
	defer h.mu.Unlock()
	want := []string{"promotion.requested", "promotion.approved", "promotion.running", "promotion.verifying", "promotion.succeeded"}
	if !slices.Equal(h.told["event"], want) {
		t.Errorf("told %v", h.told["event"])
	}
	public, err := w.gates.PublicKey(t.Context())
	must(t, err)
	key, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(public, "whpk_"))
	must(t, err)
	signature, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(h.request.Header.Get("Webhook-Signature"), "v1a,"))
	must(t, err)
	signed := fmt.Sprintf("%s.%s.%s", h.request.Header.Get("Webhook-Id"), h.request.Header.Get("Webhook-Timestamp"), h.body)
	if !ed25519.Verify(key, []byte(signed), signature) {
		t.Error("the signature is wrong")
	}
}
