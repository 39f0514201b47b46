-- +goose Up
-- How often somebody has lost a right: what is open looks again whenever this
-- has grown.
CREATE TABLE access_loss (
  id     INTEGER PRIMARY KEY CHECK (id = 1),
  number INTEGER NOT NULL
);
INSERT INTO access_loss (id, number) VALUES (1, 0);

-- The request by which a line of a record came, as the audit log has it too.
ALTER TABLE recording_line ADD COLUMN request TEXT NOT NULL DEFAULT '';
CREATE INDEX recording_line_request ON recording_line (request) WHERE request <> '';

-- What was done under a grant.
CREATE INDEX audit_grant ON audit (grant_id, sequence) WHERE grant_id <> '';
