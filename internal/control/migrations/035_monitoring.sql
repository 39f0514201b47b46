-- +goose Up
-- What people declare about monitoring: alert rules, receivers, who is on call,
-- SLOs.
CREATE TABLE monitoring (
  kind       TEXT    NOT NULL,
  name       TEXT    NOT NULL,
  spec       TEXT    NOT NULL,
  version    INTEGER NOT NULL,
  created_at INTEGER NOT NULL,
  updated_at INTEGER NOT NULL,
  PRIMARY KEY (kind, name)
);

-- Alerts that nobody is to be told of for a time.
CREATE TABLE silence (
  id         TEXT PRIMARY KEY,
  matchers   TEXT    NOT NULL,        -- as a list of name, operator, value
  reason     TEXT    NOT NULL,
  created_by TEXT    NOT NULL,
  created_at INTEGER NOT NULL,
  starts_at  INTEGER NOT NULL,
  ends_at    INTEGER NOT NULL
);
CREATE INDEX silence_ends ON silence (ends_at);

-- +goose Down
DROP TABLE silence;
DROP TABLE monitoring;
