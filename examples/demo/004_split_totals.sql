-- Migration: 004_split_totals
-- Description: Split totals
-- Author: Billing Team
-- Date: 2026-03-02

ALTER TABLE orders
    ADD COLUMN tax_cents bigint NOT NULL DEFAULT 0,
    ADD COLUMN net_cents bigint;

UPDATE orders SET net_cents = total_cents - tax_cents;

-- ROLLBACK: ALTER TABLE orders DROP COLUMN net_cents, DROP COLUMN tax_cents;
