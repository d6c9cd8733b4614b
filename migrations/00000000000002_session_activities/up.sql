-- The audit trail: one row per committed state change, written in the same transaction.
-- Partitioned by month, so that old months can be dropped whole; the server creates partitions ahead.
CREATE TABLE session_activities (
    tenant_id   text        NOT NULL,
    user_id     text        NOT NULL,
    occurred_at timestamptz NOT NULL,
    activity_id uuid        NOT NULL,
    session_id  uuid,
    device_id   uuid,
    alert_id    uuid,
    -- 1 created, 2 refreshed, 3 terminated, 4 expired, 5 alert acknowledged, 6 alert resolved
    kind        smallint    NOT NULL CHECK (kind BETWEEN 1 AND 6),
    end_reason  smallint    CHECK (end_reason BETWEEN 1 AND 12),
    generation  integer,
    principal   text        NOT NULL,
    ip_address  inet,
    user_agent  text,
    PRIMARY KEY (tenant_id, user_id, occurred_at, activity_id)
) PARTITION BY RANGE (occurred_at);

-- Takes what no partition covers yet, so that no change is ever refused for want of one.
CREATE TABLE session_activities_default PARTITION OF session_activities DEFAULT;
