-- 6 who may call: it concerns no token, and no gateway is told.
ALTER TABLE revocations DROP CONSTRAINT revocations_level_check;
ALTER TABLE revocations ADD CONSTRAINT revocations_level_check CHECK (level BETWEEN 1 AND 6);
