-- Migration: 001_header
-- Description: A header, a rollback, and lines that look like either
-- Author: Anna; Émile
-- Date: 2026-01-01

CREATE TABLE headed (text text);
INSERT INTO headed VALUES ('
-- ROLLBACK: DROP TABLE nothing;
-- belay: no-transaction
');
/*
-- ROLLBACK: DROP TABLE nothing;
*/
-- ROLLBACK: DROP TABLE headed;
INSERT INTO headed VALUES ('last'); -- ROLLBACK: SELECT 1;
