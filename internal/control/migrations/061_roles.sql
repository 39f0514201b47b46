-- +goose Up
-- Roles that people declare: what they let be done, and whether who has them is
-- declared, too. A built-in role stands here only for the latter.
CREATE TABLE access_role (
  name       TEXT PRIMARY KEY,
  spec       TEXT    NOT NULL,
  version    INTEGER NOT NULL,
  created_at INTEGER NOT NULL,
  updated_at INTEGER NOT NULL
);
