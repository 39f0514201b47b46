-- +goose Up
-- A module is an identity of its own beneath a device: device_id is then
-- "device/module", and module_of the device.
ALTER TABLE device ADD COLUMN module_of TEXT REFERENCES device (device_id) ON DELETE CASCADE;
ALTER TABLE device ADD COLUMN edition INTEGER NOT NULL DEFAULT 1;       -- grows with what back ends set; the ETag
ALTER TABLE device ADD COLUMN status_reason TEXT NOT NULL DEFAULT '';
ALTER TABLE device ADD COLUMN status_at INTEGER;
ALTER TABLE device ADD COLUMN managed_by TEXT NOT NULL DEFAULT '';
ALTER TABLE device ADD COLUMN edge INTEGER NOT NULL DEFAULT 0;          -- it is a gateway for others
ALTER TABLE device ADD COLUMN scope TEXT NOT NULL DEFAULT '';           -- of its gateway; its own, if it is one
ALTER TABLE device ADD COLUMN parent_scopes TEXT NOT NULL DEFAULT '[]';
CREATE INDEX device_module ON device (module_of) WHERE module_of IS NOT NULL;
CREATE INDEX device_enrollment ON device (enrollment, device_id);
CREATE INDEX device_gateway ON device (scope) WHERE edge = 1;

-- Names with keys and rights, for back ends.
CREATE TABLE policy (
  name          TEXT PRIMARY KEY,
  rights        TEXT NOT NULL, -- separated by commas
  primary_key   BLOB NOT NULL,
  secondary_key BLOB NOT NULL
);

-- A message for a device may be lent out: then lock names the loan, and until
-- locked_until nobody else gets it.
ALTER TABLE command ADD COLUMN ack TEXT NOT NULL DEFAULT 'none';
ALTER TABLE command ADD COLUMN lock TEXT NOT NULL DEFAULT '';
ALTER TABLE command ADD COLUMN locked_until INTEGER NOT NULL DEFAULT 0;
ALTER TABLE command ADD COLUMN abandoned INTEGER NOT NULL DEFAULT 0;

-- What became of messages whose sender wants to know.
CREATE TABLE feedback (
  sequence     INTEGER PRIMARY KEY AUTOINCREMENT,
  message_id   TEXT    NOT NULL,
  device_id    TEXT    NOT NULL,
  generation   TEXT    NOT NULL,
  status       TEXT    NOT NULL,
  description  TEXT    NOT NULL,
  at           INTEGER NOT NULL,
  expires_at   INTEGER NOT NULL,
  lock         TEXT    NOT NULL DEFAULT '',
  locked_until INTEGER NOT NULL DEFAULT 0,
  abandoned    INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX feedback_expiry ON feedback (expires_at);

-- Where each value of a tag is found, so that back ends need not look through
-- every twin: strings and numbers, of a bounded length.
CREATE TABLE tag (
  path      TEXT NOT NULL, -- keys joined by U+001F
  value     BLOB NOT NULL, -- JSONB in PostgreSQL; text or number, as the column has no affinity
  device_id TEXT NOT NULL REFERENCES twin (device_id) ON DELETE CASCADE,
  PRIMARY KEY (path, value, device_id)
) WITHOUT ROWID;
CREATE INDEX tag_device ON tag (device_id);

-- Which configurations target the identity, for queries: a JSON object.
ALTER TABLE device ADD COLUMN configurations TEXT NOT NULL DEFAULT '{}';
