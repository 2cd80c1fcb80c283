-- Data for nobody.
COPY (SELECT 1) TO STDOUT;
