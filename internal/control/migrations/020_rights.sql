-- +goose Up
-- What a token confines its bearer to: a role, empty for none, and where.
ALTER TABLE token ADD COLUMN role  TEXT NOT NULL DEFAULT '';
ALTER TABLE token ADD COLUMN bounds TEXT NOT NULL DEFAULT '{}';
