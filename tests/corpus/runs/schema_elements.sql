-- One command that holds others without a semicolon between them, and objects of many kinds.
CREATE SCHEMA elements CREATE TABLE a (n int PRIMARY KEY) CREATE VIEW v AS SELECT n FROM a CREATE INDEX i ON a (n);
CREATE TYPE elements.mood AS ENUM ('ok', 'sad;');
ALTER TYPE elements.mood ADD VALUE 'so-so' AFTER 'ok';
CREATE DOMAIN elements.short AS text CHECK (value ~ '^[^;]*$' AND length(value) < 9);
CREATE TABLE elements.parted (at date NOT NULL, n int) PARTITION BY RANGE (at);
CREATE TABLE elements.parted_1 PARTITION OF elements.parted FOR VALUES FROM ('2026-01-01') TO ('2027-01-01');
CREATE UNIQUE INDEX ON elements.parted_1 (n) INCLUDE (at) WHERE n > 0;
CREATE MATERIALIZED VIEW elements.m AS WITH x AS (SELECT 1 AS one) SELECT * FROM x;
ALTER TABLE elements.a ENABLE ROW LEVEL SECURITY;
CREATE POLICY p ON elements.a FOR SELECT USING (n > 0 OR current_user = 'x;');
WITH moved AS (INSERT INTO elements.a VALUES (1), (2) RETURNING n) INSERT INTO elements.parted SELECT '2026-02-02', n FROM moved;
COMMENT ON POLICY p ON elements.a IS E'a\;b';
GRANT SELECT ON elements.a TO PUBLIC; REFRESH MATERIALIZED VIEW elements.m;
