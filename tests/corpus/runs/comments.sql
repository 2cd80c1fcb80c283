-- Comments: nested, cut off, ended by a carriage return, between the words of a command.
CREATE TABLE comments (n int); /* ; /* ; */ ; */ INSERT INTO comments VALUES (1);
-- a comment; that ends hereINSERT INTO comments VALUES (2);
/*/ ; */ INSERT /**/ INTO/***/comments VALUES (3) -- ;
;
--
-- /* not open
INSERT INTO comments VALUES (4); -- */
/* ' " $$ E' */ INSERT INTO comments VALUES (5); /* -- */
INSERT INTO comments SELECT 6 - -- ;
 1;---
/* the end; */