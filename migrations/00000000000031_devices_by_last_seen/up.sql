-- The devices of a user, newest seen last. last_seen_at changes when a session begins, ends or moves, not with its use.
CREATE INDEX CONCURRENTLY devices_by_last_seen ON devices (tenant_id, user_id, last_seen_at, device_id);
