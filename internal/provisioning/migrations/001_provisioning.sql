-- +goose Up

-- What the plane decided once, such as its id scope.
CREATE TABLE provisioning_setting (
    name  TEXT PRIMARY KEY,
    value TEXT NOT NULL
);

-- The copy of control's directory; one row.
CREATE TABLE directory (
    id       INTEGER PRIMARY KEY,
    version  INTEGER NOT NULL,
    document TEXT NOT NULL
);

CREATE TABLE enrollment (
    kind       TEXT NOT NULL,
    name_key   TEXT NOT NULL, -- the name in lower case: names ignore letter case
    name       TEXT NOT NULL,
    version    INTEGER NOT NULL,
    spec       TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    PRIMARY KEY (kind, name_key)
);

CREATE TABLE registration (
    id              TEXT PRIMARY KEY, -- the registration id in lower case
    registration_id TEXT NOT NULL,    -- as the device first spelled it
    device_id       TEXT NOT NULL,
    enrollment_kind TEXT NOT NULL,
    enrollment      TEXT NOT NULL,
    environment     TEXT NOT NULL,    -- where it is or is going
    target          TEXT NOT NULL,    -- set by a move; outranks the enrolment's environment
    home            TEXT NOT NULL,    -- environment of stamp
    stamp           TEXT NOT NULL,    -- empty while waiting
    phase           TEXT NOT NULL,
    epoch           INTEGER NOT NULL,
    version         INTEGER NOT NULL,
    auth            TEXT NOT NULL,
    twin            TEXT,             -- what goes along to the next stamp
    substatus       TEXT NOT NULL,
    move            INTEGER NOT NULL, -- the latest move that touched it, or 0
    operation_salt  TEXT NOT NULL,
    operation       INTEGER NOT NULL, -- number of the latest operation
    open            INTEGER NOT NULL, -- 1 while a device waits for that operation
    attempts        INTEGER NOT NULL,
    problem         TEXT NOT NULL,
    due             INTEGER,          -- when its next step is to be tried; null when there is none
    transitions     INTEGER NOT NULL, -- number of the latest line of its log
    assigned_at     INTEGER,
    created_at      INTEGER NOT NULL,
    updated_at      INTEGER NOT NULL
);
CREATE UNIQUE INDEX registration_device ON registration (device_id);
CREATE INDEX registration_due ON registration (due) WHERE due IS NOT NULL;
CREATE INDEX registration_stamp ON registration (stamp, device_id);
CREATE INDEX registration_environment ON registration (environment, device_id);
CREATE INDEX registration_waiting ON registration (environment) WHERE phase = 'waiting';
CREATE INDEX registration_enrollment ON registration (enrollment_kind, enrollment);

CREATE TABLE registration_transition (
    registration TEXT NOT NULL,
    number       INTEGER NOT NULL,
    at           INTEGER NOT NULL,
    step         TEXT NOT NULL,
    environment  TEXT NOT NULL,
    stamp        TEXT NOT NULL,
    epoch        INTEGER NOT NULL,
    reason       TEXT NOT NULL,
    move         INTEGER NOT NULL,
    PRIMARY KEY (registration, number)
);

-- Places taken on each stamp: registrations in creating, assigned or removing.
CREATE TABLE registration_place (
    stamp TEXT PRIMARY KEY,
    taken INTEGER NOT NULL
);

CREATE TABLE move (
    number      INTEGER PRIMARY KEY,
    move_key    TEXT NOT NULL UNIQUE, -- the caller's key, or one of ours
    target      TEXT NOT NULL,
    condition   TEXT NOT NULL,
    reason      TEXT NOT NULL,
    actor       TEXT NOT NULL,
    state       TEXT NOT NULL,
    cursor      TEXT NOT NULL,        -- stamps still to be asked, and how far the first was read
    created_at  INTEGER NOT NULL,
    finished_at INTEGER
);
CREATE INDEX move_open ON move (number) WHERE finished_at IS NULL;

CREATE TABLE move_device (
    move      INTEGER NOT NULL,
    device_id TEXT NOT NULL,
    state     TEXT NOT NULL,
    returning_soon INTEGER NOT NULL, -- 1 when it was connected when cut
    problem   TEXT NOT NULL,
    PRIMARY KEY (move, device_id)
);
CREATE INDEX move_device_state ON move_device (move, state, returning_soon);
CREATE INDEX move_device_unfinished ON move_device (device_id) WHERE state IN ('pending', 'removing', 'waiting');

-- +goose Down
DROP TABLE move_device;
DROP TABLE move;
DROP TABLE registration_place;
DROP TABLE registration_transition;
DROP TABLE registration;
DROP TABLE enrollment;
DROP TABLE directory;
DROP TABLE provisioning_setting;
