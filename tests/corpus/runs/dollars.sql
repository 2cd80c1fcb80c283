-- Dollar quotes of every kind, one in the other, and dollars that quote nothing.
CREATE TABLE dollars (a$b int, b$$ int, text text);
INSERT INTO dollars (a$b, b$$, text) VALUES (1, 2, $$;$$), (3, 4, $a$;$$;$b$;$a $a$), (5, 6, $A$;$a$;$A$);
INSERT INTO dollars VALUES (7, 8, $é1_$;$é$;$é1_$), (9, 10, $a$;$aa$;$$a$), (11, 12, $$ ' " /* -- $$);
INSERT INTO dollars VALUES(13,14,$_$$a$;$a$$_$);
PREPARE dollar_parameter (int, int) AS SELECT $1+$2, $1, b$$ FROM dollars WHERE a$b=$1;
EXECUTE dollar_parameter (1, 2); DEALLOCATE dollar_parameter;
DO $outer$
BEGIN
  EXECUTE $inner$ INSERT INTO dollars VALUES (15, 16, $text$ ; $text$); $inner$;
END;
$outer$;
INSERT INTO dollars VALUES (17, 18, 'last');
