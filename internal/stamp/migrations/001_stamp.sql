-- +goose Up
CREATE TABLE ca (
  digest TEXT PRIMARY KEY,             -- hex SHA-256 of der
  der    BLOB NOT NULL
);

CREATE TABLE device (
  device_id            TEXT PRIMARY KEY,
  generation_id        TEXT    NOT NULL,
  epoch                INTEGER NOT NULL, -- number of the assignment, given by provisioning
  status               TEXT    NOT NULL,
  enrollment           TEXT    NOT NULL,
  auth_type            TEXT    NOT NULL,
  primary_key          BLOB,
  secondary_key        BLOB,
  primary_thumbprint   TEXT    NOT NULL,
  secondary_thumbprint TEXT    NOT NULL,
  ca                   TEXT    NOT NULL, -- digest in table ca, or empty
  model_id             TEXT    NOT NULL,
  subscriptions        INTEGER NOT NULL, -- what the persistent session listens to
  connected            INTEGER NOT NULL, -- as of the last flush; the hub knows better
  connected_at         INTEGER,
  last_activity        INTEGER,
  messages             INTEGER NOT NULL,
  created_at           INTEGER NOT NULL
);

CREATE TABLE twin (
  device_id        TEXT PRIMARY KEY REFERENCES device (device_id) ON DELETE CASCADE,
  version          INTEGER NOT NULL,
  etag_version     INTEGER NOT NULL, -- grows with tags and desired only
  tags             TEXT    NOT NULL,
  desired          TEXT    NOT NULL,
  desired_meta     TEXT    NOT NULL,
  desired_version  INTEGER NOT NULL,
  reported         TEXT    NOT NULL,
  reported_meta    TEXT    NOT NULL,
  reported_version INTEGER NOT NULL
);

-- What is left of a device that was taken off this stamp: nobody with this
-- assignment or an earlier one may come back, and a repeated removal gets the
-- same receipt.
CREATE TABLE tombstone (
  device_id TEXT PRIMARY KEY,
  epoch     INTEGER NOT NULL,
  at        INTEGER NOT NULL,
  reason    TEXT    NOT NULL,
  sent_to   TEXT    NOT NULL,
  connected INTEGER NOT NULL,
  twin      TEXT    NOT NULL
);

CREATE TABLE command (
  sequence       INTEGER PRIMARY KEY AUTOINCREMENT,
  device_id      TEXT    NOT NULL REFERENCES device (device_id) ON DELETE CASCADE,
  message_id     TEXT    NOT NULL,
  correlation_id TEXT    NOT NULL,
  content_type   TEXT    NOT NULL,
  properties     TEXT    NOT NULL, -- a property bag
  body           BLOB    NOT NULL,
  enqueued_at    INTEGER NOT NULL,
  expires_at     INTEGER NOT NULL,
  deliveries     INTEGER NOT NULL
);
CREATE INDEX command_device ON command (device_id, sequence);
CREATE INDEX command_expiry ON command (expires_at);
