-- Data of which each line ends as on Windows.
CREATE TABLE windows (n int, text text);
COPY windows FROM STDIN;
1	a;
2	b
\.
INSERT INTO windows VALUES (3, 'last');
