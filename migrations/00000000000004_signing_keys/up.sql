-- Signing and MAC keys, shared by all replicas. The private part is sealed with the master key,
-- which never enters the database: a leaked dump signs nothing.
CREATE TABLE signing_keys (
    kid                text        PRIMARY KEY,
    -- 1 access tokens (signature), 2 refresh tokens (MAC)
    purpose            smallint    NOT NULL CHECK (purpose IN (1, 2)),
    -- Short name within the purpose; refresh tokens carry it.
    key_number         smallint    NOT NULL CHECK (key_number >= 1),
    algorithm          text        NOT NULL,
    public_key         bytea       NOT NULL,
    sealed_private_key bytea       NOT NULL,
    created_at         timestamptz NOT NULL,
    UNIQUE (purpose, key_number)
);
