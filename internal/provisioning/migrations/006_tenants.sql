-- +goose Up
-- Whose device it is, and how many places each tenant's devices take.
ALTER TABLE registration ADD COLUMN tenant TEXT NOT NULL DEFAULT 'default';
CREATE INDEX registration_tenant ON registration (tenant, device_id);
CREATE TABLE tenant_place (
    tenant TEXT PRIMARY KEY,
    taken  INTEGER NOT NULL
);
INSERT INTO tenant_place (tenant, taken) SELECT 'default', coalesce(sum(taken), 0) FROM registration_place;
