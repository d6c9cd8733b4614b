-- Changes of who may call and of what signs, by operators and by the service: 30 principal set, 31 principal removed,
-- 32 API key created, 33 API key revoked, 34 signing key published, 35 rescheduled, 36 removed, 37 forgotten.
-- What was changed, before and after, without secrets. The tenant '*' is that of changes that concern all tenants.
ALTER TABLE session_activities ADD COLUMN change jsonb;
