-- Where to write to: größer.
ALTER TABLE users ADD COLUMN email text;