-- +goose Up
-- What processes say of what they do, the oldest first to go.
CREATE TABLE line (
  id          INTEGER PRIMARY KEY AUTOINCREMENT,
  at          INTEGER NOT NULL,
  level       INTEGER NOT NULL,        -- as slog has it
  message     TEXT    NOT NULL,
  plane       TEXT    NOT NULL,
  stamp       TEXT    NOT NULL,
  environment TEXT    NOT NULL,
  process     TEXT    NOT NULL,
  tenant      TEXT    NOT NULL,
  device      TEXT    NOT NULL,
  release     TEXT    NOT NULL,
  trace       TEXT    NOT NULL,
  span        TEXT    NOT NULL,
  more        TEXT    NOT NULL,        -- what else it says, as JSON
  size        INTEGER NOT NULL
);
CREATE INDEX line_at ON line (at);
CREATE INDEX line_device ON line (device, id) WHERE device <> '';
CREATE INDEX line_trace ON line (trace) WHERE trace <> '';

CREATE TABLE span (
  trace  TEXT    NOT NULL,
  id     TEXT    NOT NULL,
  number INTEGER PRIMARY KEY AUTOINCREMENT,
  parent TEXT    NOT NULL,
  name   TEXT    NOT NULL,
  plane  TEXT    NOT NULL,
  stamp  TEXT    NOT NULL,
  began  INTEGER NOT NULL,
  micros INTEGER NOT NULL,
  problem TEXT   NOT NULL,
  more   TEXT    NOT NULL
);
CREATE INDEX span_trace ON span (trace);
CREATE INDEX span_began ON span (began) WHERE parent = '';

-- +goose Down
DROP TABLE span;
DROP TABLE line;
