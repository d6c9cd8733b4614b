-- What an activity says besides: of the session it concerns, and of what gateways and login services report.
ALTER TABLE session_activities
    ADD COLUMN client_id   text,
    ADD COLUMN device_type smallint,
    ADD COLUMN location    jsonb,
    -- Reports only.
    ADD COLUMN name        text,
    ADD COLUMN endpoint    text,
    ADD COLUMN method      text,
    ADD COLUMN success     boolean,
    ADD COLUMN error_code  text,
    ADD COLUMN latency     interval,
    ADD COLUMN metadata    jsonb,
    -- The transaction that wrote the row: by it a reader finds what was committed since it last looked, also
    -- what committed late. NULL = from before there were readers.
    ADD COLUMN xid         xid8;
ALTER TABLE session_activities ALTER COLUMN xid SET DEFAULT pg_current_xact_id();

-- 13 alert raised, 14 alert reopened, 15 step-up required; reported: 20 API request, 21 login succeeded,
-- 22 login failed, 23 step-up, 24 token refused, 25 custom; noticed: 26 context changed, 27 limit conflict.
ALTER TABLE session_activities DROP CONSTRAINT session_activities_kind_check;
ALTER TABLE session_activities ADD CONSTRAINT session_activities_kind_check
    CHECK (kind BETWEEN 1 AND 40) NOT VALID;

-- Always appended to: the newest transactions are the greatest. A partitioned table has no CONCURRENTLY; the rows
-- there are have no xid, so this only reads them.
CREATE INDEX session_activities_feed ON session_activities (xid) WHERE xid IS NOT NULL;

-- How far a background reader has read, as a snapshot of Postgres. Whoever has the row locked reads on, so
-- nothing is skipped and nothing is read twice, whichever replica does it and wherever it dies.
CREATE TABLE feed_consumers (
    consumer   text        PRIMARY KEY,
    read_to    text        NOT NULL,
    updated_at timestamptz NOT NULL
) WITH (fillfactor = 50);
INSERT INTO feed_consumers VALUES ('detect', pg_current_snapshot()::text, now());
