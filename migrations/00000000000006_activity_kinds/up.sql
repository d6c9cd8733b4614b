-- 7 reauthenticated, 8 session updated, 9 device updated, 10 device revoked, 11 policy updated,
-- 12 user erased. A change that concerns no single user has an empty user_id.
-- NOT VALID: no reading of the whole trail, which kept the rule of before.
ALTER TABLE session_activities DROP CONSTRAINT session_activities_kind_check;
ALTER TABLE session_activities ADD CONSTRAINT session_activities_kind_check
    CHECK (kind BETWEEN 1 AND 12) NOT VALID;
