-- What is counted of the activities, hour by hour, for each tenant (user '') and each user; written by who has the
-- 'stats' row of feed_consumers locked, and by an erasure, which keeps that one away.
CREATE TABLE roll_ups (
    tenant_id text        NOT NULL,
    user_id   text        NOT NULL,
    hour      timestamptz NOT NULL,
    counts    jsonb       NOT NULL,
    PRIMARY KEY (tenant_id, user_id, hour)
) WITH (fillfactor = 70);

-- For pruning: those of users are kept for a shorter time.
CREATE INDEX roll_ups_of_users ON roll_ups (hour) WHERE user_id <> '';
CREATE INDEX roll_ups_of_tenants ON roll_ups (hour) WHERE user_id = '';

-- What there is now, as far as it was counted: a tenant (user '') has the sum of its users, and its own alerts.
CREATE TABLE standings (
    tenant_id           text   NOT NULL,
    user_id             text   NOT NULL,
    -- Sessions in state 1.
    live                bigint NOT NULL,
    open_alerts         bigint NOT NULL,
    acknowledged_alerts bigint NOT NULL,
    PRIMARY KEY (tenant_id, user_id)
) WITH (fillfactor = 70);

-- The alerts that were counted, and in which state last: 1 open, 2 acknowledged, 3 resolved.
CREATE TABLE counted_alerts (
    tenant_id text     NOT NULL,
    user_id   text     NOT NULL,
    alert_id  uuid     NOT NULL,
    state     smallint NOT NULL CHECK (state BETWEEN 1 AND 3),
    PRIMARY KEY (tenant_id, user_id, alert_id)
) WITH (fillfactor = 70);

-- One statement, so that what there is and where reading begins come from one snapshot.
WITH reader AS (
    INSERT INTO feed_consumers VALUES ('stats', pg_current_snapshot()::text, now())
), counted AS (
    INSERT INTO counted_alerts
    SELECT tenant_id, user_id, alert_id, state FROM security_alerts WHERE suppression = 0
    RETURNING tenant_id, user_id, state
), there AS (
    SELECT tenant_id, user_id, count(*) AS live, 0 AS open, 0 AS acknowledged
    FROM user_sessions WHERE state = 1 GROUP BY 1, 2
    UNION ALL
    SELECT tenant_id, user_id, 0, count(*) FILTER (WHERE state = 1), count(*) FILTER (WHERE state = 2)
    FROM counted GROUP BY 1, 2
)
INSERT INTO standings
SELECT tenant_id, user_id, sum(live), sum(open), sum(acknowledged)
FROM there WHERE user_id <> '' GROUP BY 1, 2
UNION ALL
SELECT tenant_id, '', sum(live), sum(open), sum(acknowledged) FROM there GROUP BY 1;
