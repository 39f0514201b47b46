-- +goose Up
CREATE TABLE rollout (
  id          TEXT PRIMARY KEY,
  environment TEXT    NOT NULL,
  state       TEXT    NOT NULL,
  active      INTEGER NOT NULL,        -- 1 until nothing comes after its state
  standing    INTEGER NOT NULL,        -- 1 once its release is what the environment is to run
  version     INTEGER NOT NULL,        -- for compare and set
  document    TEXT    NOT NULL,
  created_at  INTEGER NOT NULL
);
CREATE UNIQUE INDEX rollout_active ON rollout (environment) WHERE active = 1;
CREATE INDEX rollout_environment ON rollout (environment, created_at);

-- What each stamp is to run, apart from how far a rollout has come.
CREATE TABLE stamp_release (
  stamp       TEXT PRIMARY KEY,
  environment TEXT    NOT NULL,
  version     INTEGER NOT NULL,        -- of the document the stamp is given
  base        TEXT    NOT NULL,        -- empty leaves devices as they are
  rollout     TEXT    NOT NULL,        -- the one in effect; empty where none is
  since       INTEGER NOT NULL         -- when the base came
);

-- The last number of each thing that is numbered: promotions, rollouts, holds,
-- waivers, and the documents of stamps.
CREATE TABLE promotion_counter (
  thing TEXT PRIMARY KEY,
  value INTEGER NOT NULL
);
