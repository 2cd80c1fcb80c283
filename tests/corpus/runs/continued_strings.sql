-- A string goes on behind a newline, in the quoting that it began with; comments of a line may stand between.
CREATE TABLE continued (n int, text text);
INSERT INTO continued VALUES (1, 'a'
  ';b\'), (2, E'a'
'\';b' -- c;'
  '\\'), (3, U&'\0061'
';'), (4, B'1'
'0'::text);
INSERT INTO continued VALUES (5, E'x' -- the end: '
-- and more '
'\';y');
SELECT E'a'
-- nothing follows
;
INSERT INTO continued VALUES (6, 'last');
