-- CASE and END as labels without AS, within bodies.
CREATE FUNCTION label_case() RETURNS int BEGIN ATOMIC SELECT 1 case; END;
CREATE FUNCTION label_end() RETURNS int BEGIN ATOMIC SELECT 1 end; SELECT 2 end FROM pg_class; END;
CREATE FUNCTION labels() RETURNS int BEGIN ATOMIC SELECT x.case FROM (SELECT 1 case, CASE WHEN true THEN 1 END end) x; SELECT 2 case; END;
CREATE FUNCTION case_end_end() RETURNS int BEGIN ATOMIC SELECT CASE WHEN true THEN 1 END END; END;
CREATE TABLE behind_labels AS SELECT 1 case, 2 end, 3 atomic;
