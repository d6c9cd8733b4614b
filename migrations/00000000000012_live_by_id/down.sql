DROP INDEX CONCURRENTLY IF EXISTS user_sessions_live_by_id;
