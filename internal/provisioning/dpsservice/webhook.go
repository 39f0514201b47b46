package dpsservice

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/outbound"
	"github.com/slipway/slipway/internal/provisioning/directory"
	"github.com/slipway/slipway/internal/provisioning/registration"
)

// Webhooks asks the services that enrolments leave the choice of a hub to, in
// the words of the service API.
type Webhooks struct {
	directory *directory.Store
	client    *http.Client
	logger    *slog.Logger
	now       func() time.Time
	slots     chan struct{}

	mu    sync.Mutex
	state map[string]breaker // by URL
}

// breaker keeps a service that fails from being asked again and again.
type breaker struct {
	failures int
	until    time.Time
}

const (
	webhookVersion = "2021-10-01"
	webhookTimeout = 5 * time.Second
	maxAnswer      = 64 << 10
	maxAsked       = 64 // webhooks under way
	maxBreakers    = 1000
	tolerated      = 5 // failures in a row
	rest           = 30 * time.Second
)

// NewWebhooks returns a chooser that asks where the guard allows.
func NewWebhooks(d *directory.Store, guard *outbound.Guard, logger *slog.Logger, now func() time.Time) *Webhooks {
	return &Webhooks{directory: d, client: guard.Client(webhookTimeout), logger: logger, now: now, slots: make(chan struct{}, maxAsked), state: map[string]breaker{}}
}

// question is what a webhook is asked.
type question struct {
	Individual *enrolment `json:"individualEnrollment,omitempty"`
	Group      *enrolment `json:"enrollmentGroup,omitempty"`
	Device     runtime    `json:"deviceRuntimeContext"`
	Hubs       []string   `json:"linkedHubs"`
}

// runtime is what is known of the device that registers.
type runtime struct {
	RegistrationID string          `json:"registrationId"`
	Hub            string          `json:"currentIotHubHostName,omitempty"`
	DeviceID       string          `json:"currentDeviceId,omitempty"`
	SymmetricKey   *struct{}       `json:"symmetricKey,omitempty"`
	X509           *struct{}       `json:"x509,omitempty"`
	TPM            *struct{}       `json:"tpm,omitempty"`
	Payload        json.RawMessage `json:"payload,omitempty"`
}

var (
	errResting = errors.New("the webhook failed too often and is left alone for a while")
	errBusy    = errors.New("too many webhooks are being asked")
)

// Choose implements registration.Chooser.
func (w *Webhooks) Choose(ctx context.Context, q registration.Question) (*registration.Choice, error) {
	url := q.Enrollment.Spec.Allocation.Webhook
	if w.resting(url) {
		return nil, errResting
	}
	select {
	case w.slots <- struct{}{}:
		defer func() { <-w.slots }()
	default:
		return nil, errBusy
	}
	choice, err := w.ask(ctx, url, q)
	w.note(url, err)
	return choice, err
}

func (w *Webhooks) resting(url string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.now().Before(w.state[url].until)
}

func (w *Webhooks) note(url string, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if err == nil {
		delete(w.state, url)
		return
	}
	if len(w.state) >= maxBreakers {
		clear(w.state)
	}
	b := w.state[url]
	if b.failures++; b.failures >= tolerated {
		b.until = w.now().Add(rest)
	}
	w.state[url] = b
}

func (w *Webhooks) ask(ctx context.Context, url string, q registration.Question) (*registration.Choice, error) {
	body, err := json.Marshal(w.question(q))
	if err != nil {
		return nil, err
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("User-Agent", "slipway")
	resp, err := w.client.Do(r)
	if err != nil {
		return nil, err
	}
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	if err = errors.Join(err, resp.Body.Close()); err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK || len(text) > maxAnswer {
		return nil, fmt.Errorf("the webhook answered %s with %d bytes; 200 and at most %d are expected", resp.Status, len(text), maxAnswer)
	}
	return w.read(text, q)
}

func (w *Webhooks) question(q registration.Question) question {
	d := w.directory.Current()
	shown := show(q.Enrollment, d)
	asked := question{Device: runtime{RegistrationID: q.RegistrationID, DeviceID: q.DeviceID, Payload: q.Payload}, Hubs: []string{}}
	if q.Enrollment.Kind == link.Group {
		asked.Group = &shown
	} else {
		asked.Individual = &shown
	}
	if stamp, known := d.Stamp(q.Stamp); known {
		asked.Device.Hub = bare(stamp.Host)
	}
	switch a := q.Enrollment.Spec.Attestation; {
	case a.TPM != nil:
		asked.Device.TPM = &struct{}{}
	case a.X509 != nil:
		asked.Device.X509 = &struct{}{}
	default:
		asked.Device.SymmetricKey = &struct{}{}
	}
	for _, stamp := range q.Candidates {
		asked.Hubs = append(asked.Hubs, bare(stamp.Host))
	}
	return asked
}

// maxPayload bounds what a webhook may have handed to devices.
const maxPayload = 16 << 10

func (w *Webhooks) read(text []byte, q registration.Question) (*registration.Choice, error) {
	var told struct {
		Hub     string          `json:"iotHubHostName"`
		Twin    *initialTwin    `json:"initialTwin"`
		Payload json.RawMessage `json:"payload"`
	}
	if err := json.Unmarshal(text, &told); err != nil {
		return nil, fmt.Errorf("the webhook's answer cannot be read: %w", err)
	}
	i := slices.IndexFunc(q.Candidates, func(s link.Stamp) bool { return strings.EqualFold(bare(s.Host), bare(told.Hub)) })
	if i < 0 {
		return nil, fmt.Errorf("the webhook chose %q, which is not one of the hubs it was offered", told.Hub)
	}
	if len(told.Payload) > maxPayload {
		return nil, fmt.Errorf("the webhook's payload has %d bytes; at most %d are handed to devices", len(told.Payload), maxPayload)
	}
	choice := &registration.Choice{Stamp: q.Candidates[i].Name, Payload: told.Payload}
	if told.Twin != nil {
		choice.InitialTwin = &link.InitialTwin{Tags: told.Twin.Tags, Desired: told.Twin.Properties.Desired}
	}
	return choice, nil
}
