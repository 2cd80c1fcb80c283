-- Every quoting of a string and of a name, with what would end a statement inside it.
CREATE TABLE quoting (n int, text text, PRIMARY KEY (n));
INSERT INTO quoting VALUES (1, 'a;b'), (2, 'it''s; --'), (3, 'back\'), (4, E'it\'s; \\'), (5, e'\';\\');
INSERT INTO quoting VALUES (6, U&'\0061;\+000062'), (7, u&'!0061;\' UESCAPE '!'), (8, N'n\;');
INSERT INTO quoting SELECT 9, length(B'1010' || b'01')::text || length(X'1f')::text;
CREATE TABLE "a;""b--/*" ("semi;colon" int, U&"d\0061ta" int, u&"!0064!0061!0074!0061;" UESCAPE '!' int);
INSERT INTO "a;""b--/*" VALUES (1, 2, 3);
SELECT name'x;y', text 'z;', interval '1 day', date '2026-01-01';
