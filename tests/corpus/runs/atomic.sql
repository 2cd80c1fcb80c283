-- Bodies with BEGIN ATOMIC: semicolons, CASE and END in them, and names that look like those.
CREATE FUNCTION one() RETURNS int BEGIN ATOMIC SELECT 1; SELECT 2; END;
CREATE OR REPLACE FUNCTION two(a int) RETURNS int LANGUAGE sql IMMUTABLE BEGIN ATOMIC
  SELECT CASE WHEN a > 0 THEN CASE a WHEN 1 THEN 10 ELSE 20 END ELSE 30 END;
END;
CREATE TABLE kept ("end" int, "case" int, atomic int);
CREATE PROCEDURE three(a int) BEGIN ATOMIC
  ;
  INSERT INTO kept VALUES (a, (SELECT CASE WHEN true THEN a END), a); -- END;
  INSERT INTO kept SELECT kept.end, kept.case AS case, atomic AS end FROM kept;
  /* END; */ UPDATE kept SET atomic = CASE WHEN atomic > 1 THEN 1 ELSE 2 END;
END;
CREATE PROCEDURE four() BEGIN ATOMIC END;
CALL three(3);
CREATE FUNCTION begin_atomic() RETURNS int LANGUAGE sql RETURN 4; CALL four();
