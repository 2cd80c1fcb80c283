-- Description: Orders and their totals
CREATE TABLE orders (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    total numeric NOT NULL
);
-- ROLLBACK: DROP TABLE orders;
