-- +goose Up
-- How many devices came lately, for forecasts.
CREATE INDEX registration_created ON registration (created_at, environment);
