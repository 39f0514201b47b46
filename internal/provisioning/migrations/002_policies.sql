-- +goose Up
-- Names with keys and rights, for back ends.
CREATE TABLE policy (
    name          TEXT PRIMARY KEY,
    rights        TEXT NOT NULL, -- separated by commas
    primary_key   BLOB NOT NULL,
    secondary_key BLOB NOT NULL
);
