-- +goose Up
-- The log becomes a Merkle log. What was recorded before is taken into it when
-- control starts, in its order, and this table is empty from then on.
ALTER TABLE audit RENAME TO audit_before;

-- One row is one leaf, which is what is hashed: its columns in this order. What
-- is personal stands in audit_payload, and here as a salted commitment.
CREATE TABLE audit (
  sequence    INTEGER PRIMARY KEY,
  at          INTEGER NOT NULL,
  kind        TEXT    NOT NULL,          -- entry, consequence, outcome
  entry       INTEGER NOT NULL,          -- of an outcome: what it came of; otherwise 0
  person      TEXT    NOT NULL,          -- an id that says nothing by itself
  token       TEXT    NOT NULL,
  grant_id    TEXT    NOT NULL,
  action      TEXT    NOT NULL,
  subject     TEXT    NOT NULL,          -- the kind of the object
  environment TEXT    NOT NULL,
  outcome     TEXT    NOT NULL,          -- done, asked (of another plane; an outcome follows), failed
  request     TEXT    NOT NULL,
  who         BLOB    NOT NULL,
  what        BLOB    NOT NULL
);
CREATE INDEX audit_entry ON audit (entry) WHERE kind = 'outcome';
CREATE INDEX audit_request ON audit (request) WHERE request <> '';
CREATE INDEX audit_action ON audit (action, sequence);
CREATE INDEX audit_environment ON audit (environment, sequence);

-- What the commitments are of. Erased means null; the leaf stays as it is.
CREATE TABLE audit_payload (
  sequence   INTEGER PRIMARY KEY REFERENCES audit (sequence),
  who_salt   BLOB,
  actor      TEXT,
  what_salt  BLOB,
  object     TEXT,
  reason     TEXT,
  detail     TEXT,
  before     TEXT,
  after      TEXT
);
CREATE INDEX audit_payload_actor ON audit_payload (actor, sequence);
CREATE INDEX audit_payload_object ON audit_payload (object, sequence);

-- The hashes of the tree, at the indexes that tlog gives them.
CREATE TABLE audit_hash (
  id   INTEGER PRIMARY KEY,
  hash BLOB NOT NULL
);

CREATE TABLE audit_checkpoint (
  size INTEGER PRIMARY KEY,
  at   INTEGER NOT NULL,
  note TEXT    NOT NULL
);

CREATE TABLE audit_key (
  id         INTEGER PRIMARY KEY CHECK (id = 1),
  verifier   TEXT    NOT NULL,
  sealed     TEXT    NOT NULL,
  created_at INTEGER NOT NULL
);

-- Who keeps checkpoints elsewhere, and how far each has come.
CREATE TABLE audit_witness (
  name    TEXT PRIMARY KEY,
  size    INTEGER NOT NULL,
  at      INTEGER NOT NULL,
  problem TEXT    NOT NULL
);
