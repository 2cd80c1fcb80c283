-- Migration: Statements
-- Description: What ran outside a transaction, statement by statement; and what the server said in a run
-- Author: Belay
-- Date: 2026-11-25
--
-- Runs as 001_ledger.sql does.

-- One row a statement of a script that is not run in one transaction. One that can run in a transaction has its row
-- written in it, done; any other's is written before it, and marked as done behind it.
CREATE TABLE statement (
    number    numeric NOT NULL,
    -- From 1, as the script has them. Those that only set up the session have no row: they are run again each time.
    statement integer NOT NULL,
    file_name text NOT NULL,
    -- Of the statement's own text: a script that is edited halfway must keep what is done.
    checksum  text NOT NULL,
    command   text NOT NULL,
    run_id    uuid NOT NULL,
    began_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    done_at   timestamptz,
    -- What the catalogue had before it, so that what it left can be told.
    before    jsonb,
    PRIMARY KEY (number, statement)
);

-- Notices and warnings of the run's scripts: the first hundred, each with its script and severity.
ALTER TABLE run ADD COLUMN notices jsonb;
