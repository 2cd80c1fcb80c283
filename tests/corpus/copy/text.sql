-- Data with everything in it that means something in SQL.
CREATE TABLE odd (n int, text text);
COPY odd (n, text) FROM STDIN;
1	it's; "x" $$ /* --
2	\N
3	back\\slash\ttab\nline
4	\\.
5	 \\.
6	COMMIT;
7	é🧗
\.
INSERT INTO odd VALUES (8, 'behind');
COPY odd FROM stdin ;
\.
INSERT INTO odd VALUES (9, 'last');
