-- The audit trail of a tenant, newest first. A partitioned table has no CONCURRENTLY: writers wait while each month
-- is read once.
CREATE INDEX session_activities_by_time
    ON session_activities (tenant_id, occurred_at, activity_id);
