-- +goose Up
-- What lets people act in an environment for a while.
CREATE TABLE access_grant (
  sequence    INTEGER PRIMARY KEY AUTOINCREMENT,
  id          TEXT    NOT NULL UNIQUE,
  environment TEXT    NOT NULL,
  person      TEXT    NOT NULL,        -- who may act
  state       TEXT    NOT NULL,
  due_at      INTEGER,                 -- when time changes it next
  alarm_at    INTEGER,                 -- when those who must know are told next
  version     INTEGER NOT NULL,        -- for compare and set
  document    TEXT    NOT NULL
);
CREATE INDEX access_grant_person ON access_grant (person, environment, state);
CREATE INDEX access_grant_state ON access_grant (state, environment);
CREATE INDEX access_grant_due ON access_grant (due_at) WHERE due_at IS NOT NULL;
CREATE INDEX access_grant_alarm ON access_grant (alarm_at) WHERE alarm_at IS NOT NULL;

-- How often each permission of a grant was used.
CREATE TABLE access_grant_use (
  grant_id    TEXT    NOT NULL,
  permission  TEXT    NOT NULL,
  uses        INTEGER NOT NULL,
  last_at     INTEGER NOT NULL,
  PRIMARY KEY (grant_id, permission)
);

-- Reviews of who may do what in an environment.
CREATE TABLE access_review (
  sequence    INTEGER PRIMARY KEY AUTOINCREMENT,
  id          TEXT    NOT NULL UNIQUE,
  environment TEXT    NOT NULL,
  done_at     INTEGER,
  version     INTEGER NOT NULL,
  document    TEXT    NOT NULL
);
CREATE INDEX access_review_environment ON access_review (environment, done_at);
