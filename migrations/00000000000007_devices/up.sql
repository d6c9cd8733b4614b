-- A user's devices, each over all sessions on it. A row is written with the sessions, never read for them.
CREATE TABLE devices (
    tenant_id           text        NOT NULL CHECK (char_length(tenant_id) BETWEEN 1 AND 64),
    user_id             text        NOT NULL CHECK (char_length(user_id) BETWEEN 1 AND 128),
    device_id           uuid        NOT NULL,
    -- As the newest create on the device told, which was at described_at.
    device_type         smallint    NOT NULL CHECK (device_type BETWEEN 0 AND 8),
    details             jsonb       NOT NULL,
    described_at        timestamptz NOT NULL,
    -- As somebody set it; NULL = nobody did. No create changes these.
    display_name        text        CHECK (char_length(display_name) BETWEEN 1 AND 128),
    chosen_type         smallint    CHECK (chosen_type BETWEEN 1 AND 8),
    trusted             boolean     NOT NULL,
    first_seen_at       timestamptz NOT NULL,
    first_seen_ip       inet,
    first_seen_location jsonb,
    -- Written when a session begins, ends or moves to another address; in between, its live sessions know better.
    last_seen_at        timestamptz NOT NULL CHECK (last_seen_at >= first_seen_at),
    last_seen_ip        inet,
    last_seen_location  jsonb,
    -- NULL = never. Revoking ends the sessions of that moment; it forbids no later one.
    revoked_at          timestamptz,
    -- Counts what was set and revoked; the etag.
    revision            integer     NOT NULL CHECK (revision >= 1),
    PRIMARY KEY (tenant_id, user_id, device_id)
) WITH (fillfactor = 80);

INSERT INTO devices (tenant_id, user_id, device_id, device_type, details, described_at, trusted,
    first_seen_at, first_seen_ip, first_seen_location, last_seen_at, last_seen_ip, last_seen_location, revision)
SELECT n.tenant_id, n.user_id, n.device_id, n.device_type, n.device, n.created_at, false,
    f.created_at, f.ip_address, f.location, greatest(l.last_active_at, f.created_at), l.ip_address, l.location, 1
FROM (
    SELECT DISTINCT ON (tenant_id, user_id, device_id) tenant_id, user_id, device_id, device_type, device, created_at
    FROM user_sessions ORDER BY tenant_id, user_id, device_id, created_at DESC, session_id DESC
) n
JOIN (
    SELECT DISTINCT ON (tenant_id, user_id, device_id) tenant_id, user_id, device_id, created_at, ip_address, location
    FROM user_sessions ORDER BY tenant_id, user_id, device_id, created_at, session_id
) f USING (tenant_id, user_id, device_id)
JOIN (
    SELECT DISTINCT ON (tenant_id, user_id, device_id) tenant_id, user_id, device_id, last_active_at, ip_address,
        location
    FROM user_sessions ORDER BY tenant_id, user_id, device_id, last_active_at DESC, session_id DESC
) l USING (tenant_id, user_id, device_id);
