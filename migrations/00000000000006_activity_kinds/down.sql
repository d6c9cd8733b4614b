DELETE FROM session_activities WHERE kind > 6;
ALTER TABLE session_activities DROP CONSTRAINT session_activities_kind_check;
ALTER TABLE session_activities ADD CONSTRAINT session_activities_kind_check
    CHECK (kind BETWEEN 1 AND 6);
