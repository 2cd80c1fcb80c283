-- A quote that never ends.
CREATE TABLE a (id int); COMMENT ON TABLE a IS 'it''s;
CREATE TABLE b (id int);
