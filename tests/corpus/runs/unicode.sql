-- Letters beyond ASCII in names, strings and comments; ✓ 🧗 é combining, wide and right-to-left: שלום
CREATE TABLE größe🧗 (страна text, "名;前" text, naïve$ text, é int);
INSERT INTO größe🧗 VALUES ('Россия;', '日本;', 'ï', 1), ('🧗🏽‍♀️', E'\u00e9;\U0001F9D7', U&'\00e9;', 2);
CREATE VIEW ясно AS SELECT count(*) AS "сколько?" FROM größe🧗; -- конец;
INSERT INTO größe🧗(é) VALUES (3);
CREATE TABLE no break (zero​width int, ﻿mark int); INSERT INTO no break VALUES (1, 2);
