-- Values in CSV, with line ends in quotes, and a comment behind the command.
CREATE TABLE csv (n int, text text); COPY csv FROM STDIN WITH (FORMAT csv, HEADER true); -- data;
n,text
1,"a;""b"""
2,"two
lines; --"
3,$$;
\.
INSERT INTO csv VALUES (4, 'last');