-- The false positives that suppress their like, by user: detection looks for them with each finding.
CREATE INDEX CONCURRENTLY security_alerts_silencing ON security_alerts (tenant_id, user_id)
    WHERE suppressed_until IS NOT NULL;
