-- An incident ends when its window passes or it is resolved; its dedup_key then gets '#' and the alert's id
-- behind it, so that the next incident can take the plain key. dedup_until: until when a repetition belongs
-- to the incident, NULL = for ever.
ALTER TABLE security_alerts
    ADD COLUMN dedup_until      timestamptz,
    -- Why nobody is told: 0 not suppressed, 1 shadow mode, 2 trusted device, 3 configured network,
    -- 4 learning period, 5 an earlier false positive. Its dedup_key ends in '~' and the number.
    ADD COLUMN suppression      smallint NOT NULL DEFAULT 0,
    -- Until when its like is suppressed after it was resolved as a false positive.
    ADD COLUMN suppressed_until timestamptz,
    -- The service, or the principal that raised it.
    ADD COLUMN raised_by        text NOT NULL DEFAULT 'system';
ALTER TABLE security_alerts ADD CONSTRAINT security_alerts_suppression
    CHECK (suppression BETWEEN 0 AND 5) NOT VALID;
