-- +goose Up
-- Whose device it is.
ALTER TABLE device ADD COLUMN tenant TEXT NOT NULL DEFAULT 'default';
CREATE INDEX device_tenant ON device (tenant, device_id);

-- The tenants as control wants them, one document.
CREATE TABLE tenants (
  id       INTEGER PRIMARY KEY CHECK (id = 1),
  version  INTEGER NOT NULL,
  document TEXT    NOT NULL
);
