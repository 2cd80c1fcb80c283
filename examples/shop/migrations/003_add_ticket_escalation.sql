-- Migration: 003_add_ticket_escalation
-- Description: Ticket escalation
-- Author: DBA Team
-- Date: 2026-02-11

ALTER TABLE tickets
    ADD COLUMN IF NOT EXISTS escalation_level smallint NOT NULL DEFAULT 0,
    ADD COLUMN IF NOT EXISTS escalated_at timestamptz;

ALTER TABLE tickets
    ADD CONSTRAINT tickets_escalated_at_some_time CHECK ((escalation_level > 0) = (escalated_at IS NOT NULL));

-- ROLLBACK: ALTER TABLE tickets DROP CONSTRAINT tickets_escalated_at_some_time;
-- ROLLBACK: ALTER TABLE tickets DROP COLUMN escalated_at, DROP COLUMN escalation_level;
