package device

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"

	"github.com/slipway/slipway/device/retry"
)

// Store keeps what must survive a reboot. It holds no secret.
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

// FileStore keeps a file, replaced whole: a loss of power leaves the old text
// or the new one.
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
	if err := write(draft, text); err != nil {
		return err
	}
	if err := os.Rename(draft, string(s)); err != nil {
		return err
	}
	directory, err := os.Open(filepath.Dir(string(s)))
	if err != nil {
		return err
	}
	return errors.Join(directory.Sync(), directory.Close())
}

func write(name string, text []byte) error {
	file, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = file.Write(text)
	return errors.Join(err, file.Sync(), file.Close())
}

// persistent is what the store keeps.
type persistent struct {
	Assignment Assignment  `json:"assignment"`
	Ask        bool        `json:"ask,omitempty"` // a whole campaign did not reach the hub: is it still ours?
	Retry      retry.State `json:"retry"`
	Boot       uint64      `json:"boot"`
}

// load reads the store and counts the boot. A store that fails must not
// strand the device, which then goes on as if it were new.
func (c *Client) load() persistent {
	var p persistent
	text, err := c.config.Store.Load()
	if err == nil && len(text) > 0 {
		if err = json.Unmarshal(text, &p); err != nil {
			p = persistent{}
		}
	}
	if err != nil {
		c.tell(Event{Kind: Unsaved, Err: fmt.Errorf("load the device's state: %w", err)})
	}
	p.Boot++
	return p
}

func (c *Client) save(p persistent) {
	text, err := json.Marshal(p)
	if err == nil {
		err = c.config.Store.Save(text)
	}
	if err != nil {
		c.tell(Event{Kind: Unsaved, Err: fmt.Errorf("save the device's state: %w", err)})
	}
}
