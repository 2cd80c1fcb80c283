-- The end of data without the data.
CREATE TABLE a (id int);
\.
