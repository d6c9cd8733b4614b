-- One row per user. Creating a session locks it first, which makes the limit on concurrent
-- sessions hard: whoever waited for the lock counts in a later statement, so with a fresh snapshot.
CREATE TABLE session_users (
    tenant_id       text        NOT NULL,
    user_id         text        NOT NULL,
    first_create_at timestamptz NOT NULL,
    last_create_at  timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, user_id)
) WITH (fillfactor = 80);

CREATE TABLE user_sessions (
    tenant_id            text        NOT NULL CHECK (char_length(tenant_id) BETWEEN 1 AND 64),
    user_id              text        NOT NULL CHECK (char_length(user_id) BETWEEN 1 AND 128),
    session_id           uuid        NOT NULL,
    client_id            text        NOT NULL CHECK (char_length(client_id) BETWEEN 1 AND 128),
    -- The device as the caller described it at create; `device` holds its descriptive fields.
    device_id            uuid        NOT NULL,
    device_type          smallint    NOT NULL CHECK (device_type BETWEEN 0 AND 8),
    device               jsonb       NOT NULL,
    ip_address           inet,
    user_agent           text        CHECK (char_length(user_agent) <= 1024),
    location             jsonb,
    acr                  text,
    amr                  text[]      NOT NULL,
    auth_time            timestamptz NOT NULL,
    audiences            text[]      NOT NULL,
    metadata             jsonb       NOT NULL,
    created_at           timestamptz NOT NULL,
    -- The idle deadline is last_active_at + idle_timeout; it is never stored, so never stale.
    last_active_at       timestamptz NOT NULL,
    idle_timeout         interval    CHECK (idle_timeout > interval '0'),
    absolute_expires_at  timestamptz NOT NULL CHECK (absolute_expires_at > created_at),
    -- When the sweeper looks next: a deadline that was right when written. It does not move with
    -- activity, so activity stays a HOT update; the sweeper moves it on when it finds it stale.
    sweep_at             timestamptz NOT NULL,
    -- 1 active, 2 terminated, 3 expired
    state                smallint    NOT NULL,
    end_reason           smallint    CHECK (end_reason BETWEEN 1 AND 12),
    ended_at             timestamptz,
    ended_by             text,
    end_note             text        CHECK (char_length(end_note) <= 512),
    -- The refresh chain. The token itself is derived from these and a key, and never stored.
    generation           integer     NOT NULL CHECK (generation >= 1),
    generation_key_id    smallint    NOT NULL,
    rotated_at           timestamptz NOT NULL,
    confirmed_generation integer     NOT NULL CHECK (confirmed_generation BETWEEN 0 AND generation),
    nonce                bytea       NOT NULL CHECK (octet_length(nonce) = 16),
    PRIMARY KEY (tenant_id, user_id, session_id),
    -- 8 and 9 are the two timeouts, the only ways to expire.
    CONSTRAINT user_sessions_end CHECK (
        (state = 1 AND end_reason IS NULL AND ended_at IS NULL)
        OR (state = 2 AND end_reason NOT IN (8, 9) AND ended_at IS NOT NULL)
        OR (state = 3 AND end_reason IN (8, 9) AND ended_at IS NOT NULL)
    )
) WITH (fillfactor = 80);

-- Look-up by session_id alone, and a tenant's list, newest first.
CREATE INDEX user_sessions_by_id ON user_sessions (tenant_id, session_id);
-- The live sessions of a user, however long the history is.
CREATE INDEX user_sessions_live ON user_sessions (tenant_id, user_id, session_id) WHERE state = 1;
CREATE INDEX user_sessions_sweep ON user_sessions (sweep_at) WHERE state = 1;
