-- Rules of several commands in parentheses, and parentheses in them.
CREATE TABLE ruled (a int, b text);
CREATE TABLE told (a int, b text);
CREATE RULE tell AS ON INSERT TO ruled DO ALSO (INSERT INTO told VALUES (new.a, (SELECT ';)')); DELETE FROM told WHERE (a > 100); );
CREATE RULE nothing AS ON DELETE TO ruled DO INSTEAD NOTHING;
CREATE RULE one AS ON UPDATE TO ruled DO ALSO UPDATE told SET a = new.a;
INSERT INTO ruled VALUES (1, 'x;'), (101, 'y');
UPDATE ruled SET a = 2 WHERE a = 1; DELETE FROM ruled;
