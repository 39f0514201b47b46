-- +goose Up
-- What people answer where there is no evidence.
CREATE TABLE readiness_answer (
  environment TEXT NOT NULL,
  check_id    TEXT NOT NULL,
  document    TEXT NOT NULL,            -- JSON
  PRIMARY KEY (environment, check_id)
);

-- Who answers for a topic of readiness.
CREATE TABLE readiness_owner (
  topic TEXT PRIMARY KEY,
  owner TEXT NOT NULL
);

-- How ready environments were.
CREATE TABLE readiness_score (
  environment TEXT    NOT NULL,
  at          INTEGER NOT NULL,         -- microseconds since 1970
  score       INTEGER NOT NULL,
  ready       INTEGER NOT NULL,
  blocked     INTEGER NOT NULL,         -- checks that keep it from production
  PRIMARY KEY (environment, at)
);
