-- How far a request got that works in steps, such as a termination of many sessions: what it did so far, and
-- whether that is all. NULL for all others. Its subject_id is where the next step begins.
ALTER TABLE requests ADD COLUMN done_count bigint, ADD COLUMN complete boolean;
ALTER TABLE requests ADD CONSTRAINT requests_done_count CHECK (done_count >= 0) NOT VALID;
