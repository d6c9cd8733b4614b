-- What a request_id did, for 24 hours: enough to give the same answer again, and no secret.
CREATE TABLE requests (
    tenant_id   text        NOT NULL,
    request_id  uuid        NOT NULL,
    -- SHA-256 over the method and the request without its request_id
    fingerprint bytea       NOT NULL CHECK (octet_length(fingerprint) = 32),
    user_id     text        NOT NULL,
    -- The session or alert that the request made or changed; NULL when it found none.
    subject_id  uuid,
    related_ids uuid[]      NOT NULL,
    created_at  timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, request_id)
);

CREATE INDEX requests_by_age ON requests (created_at);
