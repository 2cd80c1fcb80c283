-- Numbers end where they end, whatever touches them.
CREATE TABLE numbers (a numeric, b numeric, c numeric);
INSERT INTO numbers VALUES (1.5e3, .5, 5.), (1e-3, 1E+3, 007);
SELECT 1.5e3 AS"x;", .5 AS".;", 1e-3 AS e$$, 2 AS e1$a$;
INSERT INTO numbers SELECT 1,2,3;INSERT INTO numbers SELECT 4,5,6
;
SELECT a + 1.5, b -.5 FROM numbers WHERE a>1. AND b<9e9;
