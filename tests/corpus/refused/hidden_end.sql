-- CASE is a label here, so that the body ends in this line; END in the next one would commit.
CREATE FUNCTION f() RETURNS int BEGIN ATOMIC SELECT 1 case; END;
END;
CREATE TABLE a (id int);
SELECT nothing;
