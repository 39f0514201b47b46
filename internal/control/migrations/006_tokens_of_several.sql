-- +goose Up
-- How many processes may join by a token; used_by holds the hash of each one's
-- key, set apart by spaces.
ALTER TABLE join_token ADD COLUMN processes INTEGER NOT NULL DEFAULT 1;
