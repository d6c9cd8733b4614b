DROP INDEX CONCURRENTLY IF EXISTS security_alerts_silencing;
