-- Words of transaction control where they are names, values, or parts of other commands.
CREATE TABLE begin (commit int, rollback int, savepoint int, work int, transaction int, release int, abort int, start int);
INSERT INTO begin VALUES (1, 2, 3, 4, 5, 6, 7, 8);
SELECT commit, rollback FROM begin; CREATE VIEW prepare AS SELECT savepoint AS "commit", release FROM begin;
SELECT 'commit', $$begin; commit;$$, "commit" FROM prepare; ALTER TABLE begin RENAME COLUMN abort TO vacuum;
CREATE TABLE copy (stdin text, "from" text); INSERT INTO copy SELECT 'copy t from stdin;', 'x';
CREATE INDEX concurrently_not ON copy (stdin); COMMENT ON TABLE copy IS 'BEGIN; ROLLBACK;';
CREATE TABLE ends AS SELECT 1 AS end, 2 AS case; SELECT ends.end FROM ends;
