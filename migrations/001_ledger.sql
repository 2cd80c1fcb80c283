-- Migration: Ledger
-- Description: What was applied, by which run, and what else happened
-- Author: Belay
-- Date: 2026-11-23
--
-- Runs with search_path set to the schema that holds the ledger (spec.historySchema, "belay" unless told).
-- Every table has a primary key: publications FOR ALL TABLES refuse updates to one without.

-- What the ledger itself is: its format, and which object of which cluster keeps it.
CREATE TABLE meta (
    key   text PRIMARY KEY,
    value text NOT NULL
);

-- One row a run: the intent, written before anything that cannot be undone.
CREATE TABLE run (
    id           uuid PRIMARY KEY,
    holder       text NOT NULL,
    server       jsonb NOT NULL,
    plan_hash    text NOT NULL,
    from_version text,
    to_version   text,
    backup       text,
    started_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
    finished_at  timestamptz,
    outcome      text
);

-- One row a script that is applied, written as the last statement of the script's own transaction.
CREATE TABLE history (
    version       text NOT NULL,
    number        numeric GENERATED ALWAYS AS (version::numeric) STORED PRIMARY KEY,
    file_name     text NOT NULL,
    description   text NOT NULL,
    author        text,
    date          text,
    checksum      text NOT NULL,
    script        text NOT NULL,
    rollback      text,
    mode          text NOT NULL,
    applied_at    timestamptz NOT NULL DEFAULT clock_timestamp(),
    applied_by    text NOT NULL,
    applied_role  text NOT NULL DEFAULT current_user,
    run_id        uuid NOT NULL,
    duration_ms   bigint NOT NULL,
    -- By repair: the source no longer has this script, and that is right.
    retired       boolean NOT NULL DEFAULT false
);

-- Append-only: what was baselined, rolled back, restored, held, released, by whom, when.
CREATE TABLE event (
    id     bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at     timestamptz NOT NULL DEFAULT clock_timestamp(),
    run_id uuid,
    kind   text NOT NULL,
    actor  text NOT NULL,
    detail jsonb NOT NULL
);
