-- Divides a transaction.
SAVEPOINT a; CREATE TABLE a (id int); ROLLBACK TO a; RELEASE SAVEPOINT a;
