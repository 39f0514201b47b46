-- +goose Up
-- What is known of each device that is an update client, one document.
CREATE TABLE ddi (
  device_id TEXT PRIMARY KEY REFERENCES device (device_id) ON DELETE CASCADE,
  revision  INTEGER NOT NULL, -- grows with every change
  record    TEXT    NOT NULL
);

-- The tenants with a token that speaks for all their devices.
CREATE TABLE ddi_gateway (
  tenant TEXT PRIMARY KEY,
  digest BLOB NOT NULL -- SHA-256 of the token
);
