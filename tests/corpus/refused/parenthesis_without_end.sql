-- A parenthesis that never ends.
CREATE TABLE a (id int, b int;
CREATE TABLE b (id int);
