-- +goose Up
-- A move may empty one stamp, fill another, and keep to a pace.
ALTER TABLE move ADD COLUMN origin TEXT NOT NULL DEFAULT '';      -- stamp that devices leave
ALTER TABLE move ADD COLUMN destination TEXT NOT NULL DEFAULT ''; -- stamp they go to
ALTER TABLE move ADD COLUMN pace INTEGER NOT NULL DEFAULT 0;      -- thousandths of devices a second; 0 is no limit
ALTER TABLE move ADD COLUMN problem TEXT NOT NULL DEFAULT '';     -- what it waits for
