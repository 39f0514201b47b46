-- +goose Up
-- Imports and exports of the registry. The addresses hold tokens; what follows
-- their question mark is dropped when the transfer ends.
CREATE TABLE transfer (
  id           TEXT PRIMARY KEY,
  type         TEXT    NOT NULL,
  status       TEXT    NOT NULL,
  input        TEXT    NOT NULL,
  output       TEXT    NOT NULL,
  exclude_keys INTEGER NOT NULL,
  actor        TEXT    NOT NULL,
  created_at   INTEGER NOT NULL,
  end_at       INTEGER,
  lines        INTEGER NOT NULL, -- read and applied, or written
  refused      INTEGER NOT NULL, -- of those applied
  failure      TEXT    NOT NULL
);
CREATE INDEX transfer_status ON transfer (status, created_at);

-- Lines of an import that were refused, for the log written at its end.
CREATE TABLE transfer_refusal (
  transfer_id TEXT    NOT NULL REFERENCES transfer (id) ON DELETE CASCADE,
  line        INTEGER NOT NULL,
  text        TEXT    NOT NULL,
  PRIMARY KEY (transfer_id, line)
) WITHOUT ROWID;
