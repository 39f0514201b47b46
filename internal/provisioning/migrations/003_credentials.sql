-- +goose Up
-- What goes with some registrations only: a key sealed for a TPM, what a
-- webhook chose, the certificate that was issued last.
ALTER TABLE registration ADD COLUMN extra TEXT NOT NULL DEFAULT '{}';

-- Enrolments whose keys have changed since their devices' stamps were told.
CREATE TABLE renewal (
    kind  TEXT NOT NULL,
    name  TEXT NOT NULL,
    after TEXT NOT NULL, -- registrations up to this id are done
    PRIMARY KEY (kind, name)
);

-- The authorities that issue operational certificates, one for each
-- environment, and what they have issued.
CREATE TABLE issuer (
    environment TEXT PRIMARY KEY,
    certificate BLOB    NOT NULL, -- DER
    key         BLOB    NOT NULL, -- PKCS #8
    created_at  INTEGER NOT NULL
);
CREATE TABLE certificate (
    serial       TEXT PRIMARY KEY, -- hex
    registration TEXT    NOT NULL,
    device_id    TEXT    NOT NULL,
    environment  TEXT    NOT NULL,
    not_before   INTEGER NOT NULL,
    not_after    INTEGER NOT NULL,
    revoked_at   INTEGER
);
CREATE INDEX certificate_registration ON certificate (registration, not_after);
