-- Functions and blocks whose bodies are full of semicolons, BEGIN and END.
CREATE TABLE audit (at int GENERATED ALWAYS AS IDENTITY, what text);
CREATE OR REPLACE FUNCTION audited() RETURNS trigger LANGUAGE plpgsql AS $body$
DECLARE
  name text := 'a;b';
BEGIN
  IF tg_op = 'INSERT' THEN
    INSERT INTO audit (what) VALUES (format('%s; %s', name, $q$it's$q$));
  ELSE
    BEGIN
      RAISE EXCEPTION 'no; %', 'really';
    EXCEPTION WHEN OTHERS THEN
      NULL;
    END;
  END IF;
  RETURN new;
END;
$body$;
CREATE FUNCTION quoted() RETURNS int LANGUAGE plpgsql AS 'BEGIN RETURN (SELECT count(*) FROM audit WHERE what = ''a;b''); END;';
CREATE TABLE watched (n int);
CREATE TRIGGER watch AFTER INSERT OR UPDATE ON watched FOR EACH ROW EXECUTE FUNCTION audited();
INSERT INTO watched VALUES (1);
DO LANGUAGE plpgsql $do$ BEGIN FOR i IN 2..3 LOOP INSERT INTO watched VALUES (i); END LOOP; END $do$;
UPDATE watched SET n = n + 1;
