-- psql's conditions and variables.
\set name a
\if :{?name}
CREATE TABLE :"name" (id int);
\else
\echo nothing
\endif
