DELETE FROM revocations WHERE level = 6;
ALTER TABLE revocations DROP CONSTRAINT revocations_level_check;
ALTER TABLE revocations ADD CONSTRAINT revocations_level_check CHECK (level BETWEEN 1 AND 5);
