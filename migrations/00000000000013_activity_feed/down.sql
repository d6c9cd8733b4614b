DROP TABLE feed_consumers;
DELETE FROM session_activities WHERE kind > 12;
ALTER TABLE session_activities DROP CONSTRAINT session_activities_kind_check;
ALTER TABLE session_activities ADD CONSTRAINT session_activities_kind_check
    CHECK (kind BETWEEN 1 AND 12) NOT VALID;
ALTER TABLE session_activities
    DROP COLUMN client_id, DROP COLUMN device_type, DROP COLUMN location, DROP COLUMN name,
    DROP COLUMN endpoint, DROP COLUMN method, DROP COLUMN success, DROP COLUMN error_code,
    DROP COLUMN latency, DROP COLUMN metadata, DROP COLUMN xid;
