-- +goose Up
-- What lets a process of a plane join the link, once.
CREATE TABLE join_token (
  id         TEXT PRIMARY KEY,
  peer       TEXT    NOT NULL,
  hash       TEXT    NOT NULL UNIQUE, -- hex SHA-256; the token itself is shown once and kept nowhere
  created_at INTEGER NOT NULL,
  created_by TEXT    NOT NULL,
  expires_at INTEGER NOT NULL,
  used_by    TEXT    NOT NULL         -- hex SHA-256 of the public key it was used for; empty until then
);

CREATE TABLE peer_certificate (
  serial     TEXT PRIMARY KEY,        -- hex
  peer       TEXT    NOT NULL,
  hosts      TEXT    NOT NULL,        -- JSON list
  issued_at  INTEGER NOT NULL,
  not_after  INTEGER NOT NULL,
  revoked_at INTEGER
);
CREATE INDEX peer_certificate_peer ON peer_certificate (peer, issued_at);
