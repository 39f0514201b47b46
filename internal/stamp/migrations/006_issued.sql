-- +goose Up
-- Whose operational certificates a device may use beside its credentials (a
-- digest of ca), and the serials of those that were revoked.
ALTER TABLE device ADD COLUMN issuer TEXT NOT NULL DEFAULT '';
ALTER TABLE device ADD COLUMN revoked TEXT NOT NULL DEFAULT '';
