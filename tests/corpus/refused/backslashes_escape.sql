-- With this setting, what is a string and what is not changes; statement by statement the COMMIT would run.
SET standard_conforming_strings = off;
CREATE TABLE a AS SELECT '\' AS one, '; COMMIT; CREATE TABLE b (id int) --' AS two;
