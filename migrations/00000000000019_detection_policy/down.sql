ALTER TABLE policies DROP COLUMN detection;
