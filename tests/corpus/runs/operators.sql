-- Comments cut operators short, and operators look like comments.
CREATE FUNCTION pair_of(int, int) RETURNS int LANGUAGE sql IMMUTABLE RETURN $1 * 10 + $2;
CREATE OPERATOR @-@ (FUNCTION = pair_of, LEFTARG = int, RIGHTARG = int);
CREATE OPERATOR <|> (FUNCTION = pair_of, LEFTARG = int, RIGHTARG = int);
CREATE OPERATOR @/ (FUNCTION = pair_of, LEFTARG = int, RIGHTARG = int);
CREATE TABLE operators AS SELECT 1 @-@ 2 AS a, 3<|>4 AS b, 5 @//* ; */6 AS c, 7 OPERATOR(pg_catalog.+) 8 AS d;
INSERT INTO operators SELECT 1+--;
2, 3*/* ; */4, 5 - -6, -7;
INSERT INTO operators SELECT 1, 2, ('{"a": 1}'::jsonb ->> 'a')::int, ('{"a;b": 1}'::jsonb ? 'a;b')::int;
SELECT '{1,2,3}'::int[] @> ARRAY[1], (ARRAY[1, 2, 3])[1:2], make_interval(days => 1), make_interval(hours := 2);
