-- +goose Up
-- People and programs that may sign in or bear tokens.
CREATE TABLE account (
  id            TEXT PRIMARY KEY,
  kind          TEXT    NOT NULL,            -- person, service, agent
  name          TEXT    NOT NULL,            -- as people read it
  email         TEXT    NOT NULL,
  sponsor       TEXT    NOT NULL,            -- of a program: the person who answers for it
  subject       TEXT    NOT NULL,            -- issuer and subject at an identity provider; empty is local
  member_of     TEXT    NOT NULL,            -- JSON list of groups, as the provider last said
  disabled      INTEGER NOT NULL DEFAULT 0,
  vouched_until INTEGER,                     -- how long a provider's word counts; NULL is local
  refresh       TEXT    NOT NULL DEFAULT '', -- sealed: what the provider's word is renewed with
  created_at    INTEGER NOT NULL,
  created_by    TEXT    NOT NULL,
  signed_in_at  INTEGER
);
CREATE UNIQUE INDEX account_subject ON account (subject) WHERE subject <> '';

-- A role given to an account or a group, somewhere.
CREATE TABLE binding (
  id         TEXT PRIMARY KEY,
  role       TEXT    NOT NULL,
  account    TEXT    NOT NULL,               -- one of the two is empty
  member_of  TEXT    NOT NULL,
  bounds     TEXT    NOT NULL,
  created_at INTEGER NOT NULL,
  created_by TEXT    NOT NULL
);
CREATE INDEX binding_account ON binding (account);
CREATE INDEX binding_group ON binding (member_of);

-- How an account proves who it is.
CREATE TABLE credential (
  id         TEXT PRIMARY KEY,
  account    TEXT    NOT NULL REFERENCES account (id) ON DELETE CASCADE,
  kind       TEXT    NOT NULL,               -- password, totp, passkey, recovery, invitation
  name       TEXT    NOT NULL,
  secret     TEXT    NOT NULL,               -- a hash, or sealed, or a public key
  counter    INTEGER NOT NULL DEFAULT 0,     -- the last step of a time-based code
  created_at INTEGER NOT NULL,
  expires_at INTEGER,
  used_at    INTEGER
);
CREATE INDEX credential_account ON credential (account, kind);

-- What has been begun and waits for its second half: a code, a signature, the
-- return from an identity provider.
CREATE TABLE ceremony (
  hash       TEXT PRIMARY KEY,               -- of the cookie
  kind       TEXT    NOT NULL,
  account    TEXT    NOT NULL,
  document   TEXT    NOT NULL,               -- sealed
  expires_at INTEGER NOT NULL
);

-- Whose a token is; empty is nobody's.
ALTER TABLE token ADD COLUMN account TEXT NOT NULL DEFAULT '';

-- Whoever has a session signs in anew.
DROP TABLE session;
CREATE TABLE session (
  id         TEXT PRIMARY KEY,
  hash       TEXT    NOT NULL UNIQUE,        -- of the cookie
  token_id   TEXT    REFERENCES token (id) ON DELETE CASCADE,
  account    TEXT    REFERENCES account (id) ON DELETE CASCADE,
  method     TEXT    NOT NULL,               -- token, password, passkey, oidc
  mfa        INTEGER NOT NULL,               -- 1 if a second factor was shown
  remote     TEXT    NOT NULL,
  agent      TEXT    NOT NULL,
  csrf       TEXT    NOT NULL,
  created_at INTEGER NOT NULL,
  seen_at    INTEGER NOT NULL,
  expires_at INTEGER NOT NULL
);
CREATE INDEX session_account ON session (account);

-- Which permissions were used on which day.
CREATE TABLE permission_use (
  actor      TEXT    NOT NULL,
  permission TEXT    NOT NULL,
  day        INTEGER NOT NULL,               -- since 1970, UTC
  PRIMARY KEY (actor, permission, day)
);
