-- A preamble that sets what Belay sets too, and names nothing without its schema behind it.
SET statement_timeout = 0; SET lock_timeout = 0; SET client_encoding = 'UTF8'; SET standard_conforming_strings = on;
SELECT pg_catalog.set_config('search_path', '', false);
SET check_function_bodies = false; SET xmloption = content; SET client_min_messages = warning; SET row_security = off;
CREATE TABLE public.preambled (a int DEFAULT 1, b text DEFAULT 'x\');
INSERT INTO public.preambled DEFAULT VALUES;
SET search_path TO public, 'a;b'; RESET statement_timeout; SET LOCAL work_mem = '8MB';
SET CONSTRAINTS ALL IMMEDIATE; ALTER TABLE preambled ADD PRIMARY KEY (a);
