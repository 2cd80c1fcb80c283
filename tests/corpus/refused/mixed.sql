-- One part belongs in a transaction, the other cannot be in one.
CREATE TABLE a (id int);
CREATE INDEX CONCURRENTLY i ON a (id);
