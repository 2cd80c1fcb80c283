-- A pair around it does not make what is between one transaction.
BEGIN;
CREATE TABLE a (id int);
COMMIT AND CHAIN;
SELECT nothing;
COMMIT;
