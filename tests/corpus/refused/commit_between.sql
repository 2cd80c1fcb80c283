-- Would leave half of itself behind.
CREATE TABLE a (id int);
COMMIT;
SELECT nothing;
