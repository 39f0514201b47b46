-- +goose Up
-- Files that releases are made of, by what is in them.
CREATE TABLE artifact (
  sha256     TEXT PRIMARY KEY,        -- hex
  size       INTEGER NOT NULL,
  sha1       TEXT    NOT NULL,        -- hex; empty until all of it is here
  md5        TEXT    NOT NULL,
  file       TEXT    NOT NULL,
  state      TEXT    NOT NULL,        -- arriving, here, leaving
  created_at INTEGER NOT NULL,
  created_by TEXT    NOT NULL,
  used_at    INTEGER NOT NULL         -- when a part came, or a release named it
);

CREATE TABLE release (
  counter     INTEGER PRIMARY KEY AUTOINCREMENT,
  name        TEXT    NOT NULL UNIQUE,
  digest      TEXT    NOT NULL,       -- hex SHA-256 of spec
  spec        TEXT    NOT NULL,       -- canonical JSON
  components  TEXT    NOT NULL,       -- of its bills of materials, JSON list
  created_at  INTEGER NOT NULL,
  created_by  TEXT    NOT NULL,
  promoted_at INTEGER                 -- when it was first let into an environment
);

CREATE TABLE release_artifact (
  release TEXT NOT NULL REFERENCES release (name) ON DELETE CASCADE,
  sha256  TEXT NOT NULL REFERENCES artifact (sha256),
  PRIMARY KEY (release, sha256)
);
CREATE INDEX release_artifact_sha256 ON release_artifact (sha256);

-- Keys that sign metadata, encrypted with one that is not in the database.
CREATE TABLE signing_key (
  id         TEXT PRIMARY KEY,        -- as the metadata names it
  role       TEXT    NOT NULL UNIQUE,
  sealed     TEXT    NOT NULL,        -- base64
  created_at INTEGER NOT NULL
);

-- Signed metadata as devices fetch it.
CREATE TABLE signing_file (
  name        TEXT PRIMARY KEY,       -- such as 3.targets.json
  role        TEXT    NOT NULL,
  content     TEXT    NOT NULL,
  replaced_at INTEGER                 -- when a newer one took its place; until then it is its role's
);
CREATE INDEX signing_file_role ON signing_file (role, replaced_at);

-- The releases that an environment's role is to name.
CREATE TABLE signing_admission (
  environment TEXT NOT NULL,
  release     TEXT NOT NULL REFERENCES release (name),
  PRIMARY KEY (environment, release)
);

-- What an environment's role would say, until enough people have signed it.
CREATE TABLE signing_proposal (
  environment TEXT PRIMARY KEY,
  content     TEXT NOT NULL
);
