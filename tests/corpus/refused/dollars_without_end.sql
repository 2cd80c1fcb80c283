-- A body whose tag is closed by another.
DO $a$ BEGIN NULL; END $A$;
CREATE TABLE b (id int);
