-- Where to write to.
ALTER TABLE users ADD COLUMN email text;
