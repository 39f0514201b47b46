package directory

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/sqldb"
)

// Store keeps the newest directory, in memory and in the database.
type Store struct {
	db      *sqldb.DB
	mu      sync.Mutex // one Put at a time, so that memory and database agree
	current atomic.Pointer[Directory]
}

// Open reads the directory kept by an earlier run.
func Open(ctx context.Context, db *sqldb.DB) (*Store, error) {
	s := &Store{db: db}
	text, found, err := sqldb.Row(ctx, db, scanText, "SELECT document FROM directory WHERE id = 1")
	if err != nil {
		return nil, fmt.Errorf("read the directory: %w", err)
	}
	var document link.Directory
	if found {
		if err := json.Unmarshal([]byte(text), &document); err != nil {
			return nil, fmt.Errorf("read the directory: %w", err)
		}
	}
	s.current.Store(Index(document))
	return s, nil
}

func scanText(r *sql.Rows) (text string, err error) { return text, r.Scan(&text) }

// Current is the newest directory; it is empty before control has sent one.
func (s *Store) Current() *Directory { return s.current.Load() }

// Held is the directory as it is stored.
func (s *Store) Held(ctx context.Context) (document link.Directory, err error) {
	text, found, err := sqldb.Row(ctx, s.db, scanText, "SELECT document FROM directory WHERE id = 1")
	if err != nil || !found {
		return document, err
	}
	return document, json.Unmarshal([]byte(text), &document)
}

// Put keeps the document when it is newer than the one at hand; documents may
// come late, twice or out of order.
func (s *Store) Put(ctx context.Context, document link.Directory) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if document.Version <= s.Current().Version() {
		return nil
	}
	text, err := json.Marshal(document)
	if err != nil {
		return err
	}
	err = s.db.Commit(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		_, err := tx.Exec(ctx, "INSERT INTO directory (id, version, document) VALUES (1, ?, ?)"+
			" ON CONFLICT (id) DO UPDATE SET version = excluded.version, document = excluded.document", document.Version, string(text))
		return err
	})
	if err != nil {
		return fmt.Errorf("keep the directory: %w", err)
	}
	s.current.Store(Index(document))
	return nil
}
