-- Constraints that are looked at when the transaction ends.
CREATE TABLE parents (id int PRIMARY KEY);
CREATE TABLE children (parent int REFERENCES parents DEFERRABLE INITIALLY DEFERRED);
INSERT INTO children VALUES (1); INSERT INTO parents VALUES (1);
