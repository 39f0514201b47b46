package device

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"strconv"
	"sync"
	"time"

	"github.com/slipway/slipway/device/retry"
)

// The reasons for which a message is not sent.
var (
	ErrDropped = errors.New("the message was dropped: the queue is full")
	ErrClosed  = errors.New("the device is closed")
)

// errRenew ends a connection whose token is about to expire.
var errRenew = errors.New("the token is being renewed")

// refusal is an answer of the other side.
type refusal struct {
	byHub      bool // not by provisioning
	final      bool // asking again is no use
	retryAfter time.Duration
	message    string
}

// Error says who refused and why.
func (r *refusal) Error() string {
	if r.byHub {
		return "refused by the hub: " + r.message
	}
	return "refused by provisioning: " + r.message
}

func asRefusal(err error) *refusal {
	var r *refusal
	if errors.As(err, &r) {
		return r
	}
	return nil
}

// complete checks the configuration and fills in defaults.
func (c *Config) complete() error {
	switch {
	case c.Provisioning == "" || c.IDScope == "" || c.RegistrationID == "":
		return errors.New("device: Provisioning, IDScope and RegistrationID are required")
	case (len(c.Key) == 0) == (c.Certificate == nil):
		return errors.New("device: exactly one of Key and Certificate is required")
	}
	if c.Port == 0 {
		c.Port = 8883
	}
	if c.Store == nil {
		c.Store = &MemoryStore{}
	}
	if c.Policy == (retry.Policy{}) {
		c.Policy = retry.Default
	}
	if c.Queue == 0 {
		c.Queue = 1000
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Dial == nil {
		dialer := &net.Dialer{Timeout: 20 * time.Second}
		c.Dial = dialer.DialContext
	}
	if c.TokenLife == 0 {
		c.TokenLife = time.Hour
	}
	if c.KeepAlive == 0 {
		c.KeepAlive = time.Minute
	}
	return nil
}

// address splits a host as provisioning spells it into a name for TLS and an
// address to dial.
func (c *Config) address(host string) (name, address string) {
	if name, port, err := net.SplitHostPort(host); err == nil {
		return name, net.JoinHostPort(name, port)
	}
	return host, net.JoinHostPort(host, strconv.Itoa(c.Port))
}

// Store keeps what must survive a reboot.
type Store interface {
	Load() ([]byte, error) // nil when nothing is kept
	Save([]byte) error
}

// MemoryStore keeps nothing over a reboot.
type MemoryStore struct {
	mu   sync.Mutex
	kept []byte
}

// Load returns what was saved last.
func (s *MemoryStore) Load() ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.kept, nil
}

// Save keeps text.
func (s *MemoryStore) Save(text []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.kept = append([]byte(nil), text...)
	return nil
}

// FileStore keeps a file, replaced whole.
type FileStore string

// Load reads the file.
func (s FileStore) Load() ([]byte, error) {
	text, err := os.ReadFile(string(s))
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	return text, err
}

// Save replaces the file.
func (s FileStore) Save(text []byte) error {
	draft := string(s) + ".tmp"
	if err := os.WriteFile(draft, text, 0o600); err != nil {
		return err
	}
	return os.Rename(draft, string(s))
}

// persistent is what the store keeps.
type persistent struct {
	Assignment Assignment  `json:"assignment"`
	Retry      retry.State `json:"retry"`
	Boot       uint64      `json:"boot"`
}

// load reads the store and counts the boot.
func (c *Client) load() (p persistent, err error) {
	text, err := c.config.Store.Load()
	if err != nil {
		return p, fmt.Errorf("device: load: %w", err)
	}
	if len(text) > 0 && json.Unmarshal(text, &p) != nil {
		c.logger.Warn("the stored state is damaged; registering anew")
		p = persistent{}
	}
	p.Boot++
	p.Retry.Connected = time.Time{}
	return p, c.save(p)
}

func (c *Client) save(p persistent) error {
	text, err := json.Marshal(p)
	if err == nil {
		err = c.config.Store.Save(text)
	}
	if err != nil {
		return fmt.Errorf("device: save: %w", err)
	}
	return nil
}
