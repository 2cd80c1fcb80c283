-- Empty statements, none in the last line, and no semicolon at the end.
;;
 ; CREATE TABLE empties (a int);;
/* x */;--y
;INSERT INTO empties VALUES (1) ; ;INSERT INTO empties VALUES (2)