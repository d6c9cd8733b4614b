-- The live sessions of a tenant, newest first, however long its history is: for ending and shortening
-- many of them.
CREATE INDEX CONCURRENTLY user_sessions_live_by_id ON user_sessions (tenant_id, session_id)
    WHERE state = 1;
