-- Migration: 001_initial_schema
-- Description: Initial schema
-- Author: DBA Team
-- Date: 2025-12-15

BEGIN;

CREATE TABLE users (
    id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    email      text NOT NULL UNIQUE,
    name       text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE orders (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    user_id     bigint NOT NULL REFERENCES users (id),
    status      text NOT NULL DEFAULT 'draft' CHECK (status IN ('draft', 'placed', 'shipped')),
    total_cents bigint NOT NULL CHECK (total_cents >= 0),
    placed_at   timestamptz
);

CREATE INDEX orders_user_id ON orders (user_id);

CREATE TABLE tickets (
    id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    user_id    bigint NOT NULL REFERENCES users (id),
    subject    text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    closed_at  timestamptz
);

CREATE INDEX tickets_open ON tickets (created_at) WHERE closed_at IS NULL;

-- A total is what was agreed when the order was placed: it does not change afterwards.
CREATE FUNCTION keep_total() RETURNS trigger
    LANGUAGE plpgsql AS $$
BEGIN
    IF old.status <> 'draft' AND new.total_cents <> old.total_cents THEN
        RAISE EXCEPTION 'order % is placed: its total stays', old.id;
    END IF;
    RETURN new;
END;
$$;

CREATE TRIGGER orders_keep_total
    BEFORE UPDATE ON orders
    FOR EACH ROW EXECUTE FUNCTION keep_total();

-- Rollback instructions (as comments)
-- ROLLBACK: DROP TABLE tickets;
-- ROLLBACK: DROP TABLE orders;
-- ROLLBACK: DROP FUNCTION keep_total();
-- ROLLBACK: DROP TABLE users;

COMMIT;
