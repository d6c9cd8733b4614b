CREATE TABLE security_alerts (
    tenant_id        text        NOT NULL,
    user_id          text        NOT NULL,
    alert_id         uuid        NOT NULL,
    session_id       uuid,
    device_id        uuid,
    category         smallint    NOT NULL CHECK (category BETWEEN 1 AND 11),
    severity         smallint    NOT NULL CHECK (severity BETWEEN 1 AND 5),
    rule_id          text        NOT NULL,
    rule_version     integer     NOT NULL,
    title            text        NOT NULL,
    description      text        NOT NULL,
    evidence         jsonb       NOT NULL,
    dedup_key        text        NOT NULL,
    occurrence_count integer     NOT NULL CHECK (occurrence_count >= 1),
    first_seen_at    timestamptz NOT NULL,
    last_seen_at     timestamptz NOT NULL CHECK (last_seen_at >= first_seen_at),
    action_taken     smallint    NOT NULL,
    -- 1 open, 2 acknowledged, 3 resolved
    state            smallint    NOT NULL CHECK (state BETWEEN 1 AND 3),
    acknowledged_by  text,
    acknowledged_at  timestamptz,
    resolved_by      text,
    resolved_at      timestamptz,
    -- 1 true positive, 2 false positive, 3 benign
    resolution       smallint    CHECK (resolution BETWEEN 1 AND 3),
    notes            jsonb       NOT NULL,
    revision         integer     NOT NULL CHECK (revision >= 1),
    PRIMARY KEY (tenant_id, user_id, alert_id),
    UNIQUE (tenant_id, user_id, dedup_key),
    CONSTRAINT security_alerts_resolution CHECK (
        (state = 3) = (resolution IS NOT NULL) AND (state = 3) = (resolved_at IS NOT NULL)
    )
);

-- Look-up by alert_id alone, and a tenant's list, newest first.
CREATE INDEX security_alerts_by_id ON security_alerts (tenant_id, alert_id);
