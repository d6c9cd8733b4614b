-- Loses the counts: a request that is repeated counts only what is left.
ALTER TABLE requests DROP COLUMN done_count, DROP COLUMN complete;
