-- +goose Up
-- What CI said of a release.
CREATE TABLE test_result (
  id          TEXT PRIMARY KEY,
  digest      TEXT    NOT NULL, -- of the release
  release     TEXT    NOT NULL,
  environment TEXT    NOT NULL, -- where the tests ran; empty is anywhere
  suite       TEXT    NOT NULL,
  summary     TEXT    NOT NULL, -- JSON: the counts, and the tests that failed
  content     TEXT    NOT NULL, -- hex SHA-256 of what was uploaded
  uploaded_by TEXT    NOT NULL,
  uploaded_at INTEGER NOT NULL
);
CREATE INDEX test_result_release ON test_result (digest, suite, uploaded_at);

-- The verdicts of gates on promotions: changes stay, of repetitions the last.
CREATE TABLE gate_result (
  sequence  INTEGER PRIMARY KEY AUTOINCREMENT,
  promotion TEXT    NOT NULL,
  gate      TEXT    NOT NULL,
  changed   INTEGER NOT NULL, -- 1: its verdict differs from the one before
  at        INTEGER NOT NULL,
  result    TEXT    NOT NULL  -- JSON
);
CREATE INDEX gate_result_promotion ON gate_result (promotion, gate, sequence);

-- People's words on promotions; the last of each that is not withdrawn counts.
CREATE TABLE approval (
  sequence     INTEGER PRIMARY KEY AUTOINCREMENT,
  promotion    TEXT    NOT NULL,
  person       TEXT    NOT NULL,
  approves     INTEGER NOT NULL, -- 0: rejects
  reason       TEXT    NOT NULL,
  at           INTEGER NOT NULL,
  withdrawn_at INTEGER
);
CREATE INDEX approval_promotion ON approval (promotion, sequence);

CREATE TABLE halt (
  id          TEXT PRIMARY KEY,
  environment TEXT    NOT NULL, -- empty is every environment
  reason      TEXT    NOT NULL,
  exempt      TEXT    NOT NULL, -- JSON list
  actor       TEXT    NOT NULL,
  at          INTEGER NOT NULL,
  until       INTEGER,
  lifted_by   TEXT    NOT NULL,
  lifted_at   INTEGER
);

-- Known vulnerabilities, of OSV documents, and the packages they are in.
CREATE TABLE vulnerability (
  id         TEXT PRIMARY KEY,
  severity   TEXT    NOT NULL, -- low, medium, high, critical or unrated
  summary    TEXT    NOT NULL,
  known_at   INTEGER NOT NULL,
  updated_at INTEGER NOT NULL
);
CREATE INDEX vulnerability_updated ON vulnerability (updated_at);
CREATE TABLE vulnerable_package (
  vulnerability TEXT NOT NULL REFERENCES vulnerability (id) ON DELETE CASCADE,
  package       TEXT NOT NULL, -- type/namespace/name, as in package URLs
  affected      TEXT NOT NULL  -- JSON: its versions and ranges
);
CREATE INDEX vulnerable_package_package ON vulnerable_package (package);
CREATE INDEX vulnerable_package_vulnerability ON vulnerable_package (vulnerability);

-- One row: what webhooks are signed with.
CREATE TABLE gate_key (
  id   INTEGER PRIMARY KEY CHECK (id = 1),
  seed TEXT NOT NULL -- base64, of an Ed25519 key
);
