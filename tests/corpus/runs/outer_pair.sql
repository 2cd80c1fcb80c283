-- One BEGIN and COMMIT around everything, which are Belay's.
BEGIN /* ; */ WORK;
CREATE TABLE paired (a int); -- COMMIT;
INSERT INTO paired VALUES (1);
COMMIT -- the end
WORK;
