-- +goose Up
-- What goes wrong in production, from when it is noticed until somebody says
-- what it was.
CREATE TABLE incident (
  sequence    INTEGER PRIMARY KEY AUTOINCREMENT,
  id          TEXT    NOT NULL UNIQUE,
  title       TEXT    NOT NULL,
  severity    TEXT    NOT NULL,
  state       TEXT    NOT NULL,
  environment TEXT    NOT NULL,        -- empty is the installation
  stamp       TEXT    NOT NULL,
  owner       TEXT    NOT NULL,
  opened_by   TEXT    NOT NULL,        -- alert/… where an alert did
  began_at    INTEGER NOT NULL,
  opened_at   INTEGER NOT NULL,
  changed_at  INTEGER NOT NULL,
  resolved_at INTEGER,
  resolution  TEXT    NOT NULL
);
CREATE INDEX incident_state ON incident (state, environment);

-- What was said and done about an incident.
CREATE TABLE incident_note (
  sequence INTEGER PRIMARY KEY AUTOINCREMENT,
  incident TEXT    NOT NULL,
  at       INTEGER NOT NULL,
  actor    TEXT    NOT NULL,
  kind     TEXT    NOT NULL,
  text     TEXT    NOT NULL
);
CREATE INDEX incident_note_incident ON incident_note (incident);

-- When alerts fired, and until when.
CREATE TABLE alert_episode (
  fingerprint TEXT    NOT NULL,        -- of the alert's labels
  began_at    INTEGER NOT NULL,
  ended_at    INTEGER,
  name        TEXT    NOT NULL,
  severity    TEXT    NOT NULL,
  environment TEXT    NOT NULL,
  stamp       TEXT    NOT NULL,
  summary     TEXT    NOT NULL,
  incident    TEXT    NOT NULL,        -- the one it belongs to; may be empty
  PRIMARY KEY (fingerprint, began_at)
);
CREATE INDEX alert_episode_began ON alert_episode (began_at);
CREATE INDEX alert_episode_incident ON alert_episode (incident) WHERE incident <> '';

-- +goose Down
DROP TABLE alert_episode;
DROP TABLE incident_note;
DROP TABLE incident;
