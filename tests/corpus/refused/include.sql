-- psql's commands, each on a line of its own or behind SQL.
\i other.sql
CREATE TABLE a (id int) \g
\connect shop
SELECT 'CREATE TABLE b (id int)' \gexec
