-- Lines that end as on Windows, within strings and bodies too.
CREATE TABLE windows (
  text text
);
INSERT INTO windows VALUES ('a;
b'), (E'c\';'
'd\';');
-- ROLLBACK: DROP TABLE windows;
DO $$
BEGIN
  INSERT INTO windows VALUES ('e;');
END
$$;
/* x;
 */
