-- +goose Up
-- Who could act as an account, because they made it, invited it or made the
-- token it came by: people with accounts. Who is deleted is stood in for by
-- who made them.
ALTER TABLE account ADD COLUMN made_by    TEXT NOT NULL DEFAULT '';
ALTER TABLE account ADD COLUMN invited_by TEXT NOT NULL DEFAULT '';
ALTER TABLE account ADD COLUMN invited_at INTEGER NOT NULL DEFAULT 0;
ALTER TABLE token   ADD COLUMN made_by    TEXT NOT NULL DEFAULT '';
UPDATE account SET made_by = created_by WHERE subject = '' AND EXISTS (SELECT 1 FROM account m WHERE m.id = account.created_by);
UPDATE token SET made_by = created_by WHERE account <> '' AND created_by <> account AND EXISTS (SELECT 1 FROM account m WHERE m.id = token.created_by);

-- Who made the token by which somebody gave their word, where that is another.
ALTER TABLE approval ADD COLUMN via TEXT NOT NULL DEFAULT '';
