-- What tenants and clients decide over the built-in policy; NULL = inherited. A row of revision 0 says
-- nothing: it only gives the levels of its tenant something to lock.
CREATE TABLE policies (
    tenant_id            text        NOT NULL CHECK (char_length(tenant_id) BETWEEN 1 AND 64),
    -- '' = the tenant's own level
    client_id            text        NOT NULL CHECK (char_length(client_id) <= 128),
    -- 1 AAL1, 2 AAL2, 3 AAL3
    preset               smallint    CHECK (preset BETWEEN 1 AND 3),
    -- 0 = never by idleness
    idle_timeout         interval    CHECK (idle_timeout BETWEEN interval '0' AND interval '365 days'),
    absolute_timeout     interval
        CHECK (absolute_timeout BETWEEN interval '1 second' AND interval '365 days'),
    access_token_ttl     interval
        CHECK (access_token_ttl BETWEEN interval '1 second' AND interval '24 hours'),
    refresh_grace        interval
        CHECK (refresh_grace BETWEEN interval '0' AND interval '5 minutes'),
    lost_response_window interval
        CHECK (lost_response_window BETWEEN interval '0' AND interval '24 hours'),
    -- Limits: how many, 0 = unlimited, and what a create does beyond, 1 reject, 2 terminate oldest,
    -- 3 terminate least recently used, 4 terminate same device, 5 ask.
    user_max             integer     CHECK (user_max BETWEEN 0 AND 10000),
    user_on_limit        smallint    CHECK (user_on_limit BETWEEN 1 AND 5),
    client_max           integer     CHECK (client_max BETWEEN 0 AND 10000),
    client_on_limit      smallint    CHECK (client_on_limit BETWEEN 1 AND 5),
    -- [[device type, max, on limit], ...]
    device_type_limits   jsonb       CHECK (jsonb_typeof(device_type_limits) = 'array'),
    acr_levels           text[]      CHECK (cardinality(acr_levels) BETWEEN 1 AND 16),
    -- Counts changes; the etag.
    revision             bigint      NOT NULL CHECK (revision >= 0),
    updated_at           timestamptz,
    updated_by           text,
    -- When running sessions are held to this level once more; NULL = that is done.
    apply_at             timestamptz,
    PRIMARY KEY (tenant_id, client_id),
    CONSTRAINT policies_user_limit CHECK ((user_max IS NULL) = (user_on_limit IS NULL)),
    CONSTRAINT policies_client_limit CHECK ((client_max IS NULL) = (client_on_limit IS NULL)),
    CONSTRAINT policies_updated CHECK (
        (revision = 0) = (updated_at IS NULL) AND (revision = 0) = (updated_by IS NULL)
    )
);

CREATE INDEX policies_apply ON policies (apply_at) WHERE apply_at IS NOT NULL;
