-- One comment too few is closed.
CREATE TABLE a (id int); /* /* */
CREATE TABLE b (id int);
