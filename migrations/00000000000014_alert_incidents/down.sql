ALTER TABLE security_alerts
    DROP COLUMN dedup_until, DROP COLUMN suppression, DROP COLUMN suppressed_until, DROP COLUMN raised_by;
